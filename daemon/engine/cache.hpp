// The cache as one worker thread sees it: reads through L1, L2 and the origin, app writes, invalidation. Its decisions are
// core::lookup (a request's way) and core::fill (a flight's way); here is only the driving of them.
// One object per worker and configuration generation; used on its thread only, except for what `shared_state` says.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/core/fill.hpp"
#include "daemon/core/glob.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/core/lookup.hpp"
#include "daemon/core/policy.hpp"
#include "daemon/engine/events.hpp"
#include "daemon/engine/flight.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/engine/memory_cache.hpp"
#include "daemon/engine/stats.hpp"
#include "proto/cache_status.hpp"

namespace asidecar::engine {

// A route at work on one thread.
struct route {
  std::string name;
  core::key_template key;
  core::policy rules;
  std::string origin;  // name, for the log
  bool put = false;
  std::string content_type;
  std::vector<std::string> forward_headers;  // lower case
  std::unique_ptr<loader> load;  // null: the app fills the cache itself
  route_stats* stats = nullptr;
};

// What all threads share, for the life of the process.
struct shared_state {
  explicit shared_state(std::uint64_t l1_bytes) : l1(l1_bytes) {}
  fences fence;
  flight_table flights;
  memory_cache l1;
};

// The limits of store.lock and l1.
struct cache_times {
  core::milliseconds lock_ttl = std::chrono::seconds(10);
  core::milliseconds lock_wait = std::chrono::seconds(5);
  core::milliseconds l1_ttl = std::chrono::seconds(60);
};

struct read_request {
  const route* to = nullptr;
  std::string key;  // as cached: with forwarded headers, when the route has some
  std::vector<std::string> params;
  std::vector<std::pair<std::string, std::string>> headers;
  proto::request_directives directives;
  bool without_lock = false;  // a wait for the fill lock was too long already
};

struct read_answer {
  value_ptr value;                  // null when `error` or `not_cached`; may be negative
  std::optional<load_error> error;
  bool not_cached = false;          // only-if-cached, and nothing usable here; all three unset: a route without origin
  proto::cache_status status;
  read_result counted = read_result::error;
};

class cache : public std::enable_shared_from_this<cache> {
 public:
  // `store` null: L1 only.
  cache(runtime::worker& w, shared_state& shared, std::unique_ptr<l2_store> store, cache_times times, event_sink& events)
      : worker_(w), shared_(shared), store_(std::move(store)), times_(times), events_(events) {}

  std::vector<std::shared_ptr<void>> resources;  // what the routes and the store use; declared before them: ends after them
  std::vector<route> routes;                     // in order; filled before the first request, unchanged after

  // A fresh L1 hit, or nothing; never waits.
  std::optional<read_answer> peek(std::string_view key, const route& r, const proto::request_directives& directives);

  task<read_answer> read(read_request request);

  // Each answers false / nullopt when Redis is configured and did not confirm: nothing is promised then.
  task<bool> put(const route& r, std::string key, std::string content_type, std::string body);
  task<std::optional<std::uint64_t>> invalidate(std::vector<std::string> keys);
  task<std::optional<std::uint64_t>> invalidate_matching(std::string glob);

 private:
  struct candidate;
  struct fill_round;
  struct flown {
    flight_result_ptr result;  // null: not ended within soft_timeout, and a stale value may serve meanwhile
    bool collapsed = false;    // somebody else's flight
  };
  using self_ptr = std::shared_ptr<cache>;

  static l2_store::item item_of(const read_request& r) noexcept { return {r.key, r.to->content_type}; }
  core::lookup::tiers tiers_of(const route& r) const noexcept;
  task<read_answer> load_or_join(const read_request& request, const core::lookup& way, candidate seen);
  task<flown> fly(const read_request& request, const core::lookup& way, value_ptr seen);
  void start_refresh(const read_request& request, const value_ptr& seen);
  // Coroutines that outlive the request own what they use.
  task<void> run_flight(self_ptr self, read_request request, flight_ptr f, value_ptr seen);
  task<void> keep_lock(self_ptr self, std::string key, std::string token, std::shared_ptr<runtime::alarm> stop);

  task<core::fill::action> take_lock(fill_round& round);
  task<core::fill::action> pause(fill_round& round);
  task<core::fill::action> load(fill_round& round);
  task<core::fill::action> store_loaded(fill_round& round);
  bool keep_in_l1(std::string_view key, const value_ptr& v, const fences::stamp& stamp);
  std::uint64_t forget(const std::vector<std::string>& keys);  // how many L1 held

  runtime::worker& worker_;
  shared_state& shared_;
  std::unique_ptr<l2_store> store_;
  cache_times times_;
  event_sink& events_;
};

}  // namespace asidecar::engine
