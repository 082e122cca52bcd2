// The cache as one worker thread sees it: reads through L1, L2 and the origin, app writes, invalidation. Its decisions are
// core::lookup (a request's way) and core::fill (a flight's way); here is only the driving of them.
// One object per worker and configuration generation; used on its thread only, except for what `shared_state` says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/core/fill.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/core/lookup.hpp"
#include "daemon/core/policy.hpp"
#include "daemon/core/tag_template.hpp"
#include "daemon/engine/events.hpp"
#include "daemon/engine/flight.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/engine/recent_invalidations.hpp"
#include "daemon/engine/shared_state.hpp"
#include "daemon/engine/stats.hpp"
#include "daemon/engine/write_journal.hpp"
#include "daemon/engine/writer.hpp"
#include "daemon/engine/writes_in_doubt.hpp"
#include "proto/cache_status.hpp"

namespace asidecar::engine {

// A route at work on one thread.
struct route {
  std::string name;
  core::key_template key;
  core::policy rules{};
  std::string origin{};  // name, for the log
  bool put = false;
  std::string content_type{};
  std::vector<std::string> forward_headers{};  // lower case
  struct tag {
    core::tag_template text;
    std::vector<std::size_t> positions;  // of each placeholder in what the key captured
  };
  std::vector<tag> tags{};
  std::unique_ptr<loader> load{};  // null: the app fills the cache itself
  struct record_writes {
    std::unique_ptr<writer> put;     // null: not configured
    std::unique_ptr<writer> remove;  // likewise
    bool through = false;
    bool behind = false;
  };
  record_writes records{};
  route_stats* stats = nullptr;

  std::vector<std::string> tags_of(const std::vector<std::string>& params) const;
};

// What the configuration fixes for a cache as a whole.
struct cache_terms {
  core::milliseconds lock_ttl = std::chrono::seconds(10);
  core::milliseconds lock_wait = std::chrono::seconds(5);
  core::milliseconds l1_ttl = std::chrono::seconds(60);
  core::milliseconds longest_write = std::chrono::seconds(10);  // within this an origin has ended with whatever it was sent
  std::uint32_t generation = 1;      // of the configuration: another number for each, the same on all threads
  bool own_fills_are_heard = false;  // the backplane also tells of our own: what we fill need not go to L1
};

struct read_request {
  const route* to = nullptr;
  std::string key;  // as cached: with forwarded headers, when the route has some
  std::vector<std::string> params;  // what the key captured
  std::vector<std::pair<std::string, std::string>> headers;
  proto::request_directives directives;
  std::vector<std::string> tags;  // set by the cache
  bool without_lock = false;      // a wait for the fill lock was too long already
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
  cache(runtime::worker& w, shared_state& shared, std::unique_ptr<l2_store> store, cache_terms terms, event_sink& events)
      : worker_(w), shared_(shared), store_(std::move(store)), terms_(terms), events_(events) {}

  std::vector<std::shared_ptr<void>> resources;  // what the routes and the store use; declared before them: ends after them
  std::vector<route> routes;                     // in order; filled before the first request, unchanged after

  // A fresh L1 hit, or nothing; never waits.
  // `whole` makes the request of it, in the rare case that the value is to be refreshed behind.
  std::optional<read_answer> peek(std::string_view key, const route& r, const std::function<read_request()>& whole);

  // The fast way of a fresh L1 hit: use(record, route) when it needs no thought, under a mutex. Absent: L2 may be asked at once;
  // other: peek() or read() knows.
  using glance = memory_cache::glance;
  template <class Use>
  glance hit(std::string_view key, core::wall_time now, Use use) {
    if (!shared_.l1.enabled()) return glance::absent;
    if (!shared_.l1_trusted.load(std::memory_order_acquire)) return glance::other;
    return shared_.l1.use_calm(key, now, shared_.fence, terms_.generation, [&](const proto::record& record, std::uint32_t index) {
      const route& r = routes[index];
      return r.forward_headers.empty() && use(record, r);  // with them, the key alone does not say which variant is asked for
    });
  }

  // A hit() or peek() of the key will come soon; see memory_cache::prefetch_index().
  bool worth_prefetching() const noexcept { return shared_.l1.worth_prefetching(); }
  std::uint64_t prefetch_index(std::string_view key) { return shared_.l1.prefetch_index(key); }
  void prefetch_entry(std::uint64_t hash) { shared_.l1.prefetch_entry(hash); }

  // The fast way of asking L2 for what L1 does not hold, for a route whose values need no more than the record. What it reads may
  // answer, and go to L1, as long as fresh_and_calm() says so, otherwise it is for read().
  std::uint64_t largest_in_l1() const noexcept { return shared_.l1.largest(); }
  bool has_l1() const noexcept { return shared_.l1.enabled(); }
  bool has_l2() const noexcept { return store_ != nullptr; }
  bool can_begin_l2(const route& r) const noexcept { return store_ && r.tags.empty() && r.forward_headers.empty() && store_->reads_in_place(); }
  std::unique_ptr<l2_store::pending_read> begin_l2(std::string_view key, l2_store::record_reader& to) { return store_->read_in_place(key, to); }
  static bool fresh_and_calm(const proto::record& what, const route& r, core::wall_time now) noexcept;
  // `what`: not compressed. `stamp`: from before it was read or loaded. False: not kept.
  using arrival = memory_cache::arrival;
  bool keep_in_l1(std::string_view key, const route& r, const proto::record& what, const fences::stamp& stamp, arrival how = arrival::read);
  fences::stamp stamp_of(std::string_view key) const noexcept { return shared_.fence.take(key); }

  // What L2 holds of a key.
  struct seen_in_store {
    l2_store::read_outcome outcome;
    fences::stamp stamp;  // from before it was read
  };
  task<read_answer> read(read_request request) {
    std::optional<seen_in_store> nothing;
    return read(std::move(request), std::move(nothing));
  }
  task<read_answer> read(read_request request, std::optional<seen_in_store> seen);

  // What L2 holds of several keys, read with one command, to be handed to read(). Unset for what needs no look there.
  task<std::vector<std::optional<seen_in_store>>> look_in_store(std::vector<read_request> requests);

  // What is known of a key here and in L2; changes nothing.
  struct explanation {
    std::vector<std::string> tags;
    value_ptr l1;
    core::standing l1_standing = core::standing::current;
    bool loading = false;
    bool store_configured = false;
    l2_store::read_outcome l2;
    l2_store::inspection stored;
  };
  task<explanation> explain(read_request request);

  // Each answers false / nullopt when Redis is configured and did not confirm: nothing is promised then.
  // Writes the origin, then keeps the cache right (docs: Writes). `through`: what the origin returned becomes the value.
  struct write_answer {
    written result;
    std::optional<load_error> error;
    bool store_down = false;     // before the origin was written: nothing has happened
    bool unconfirmed = false;    // after it: the origin has the new record, and Redis perhaps still the old value
  };
  enum class write_strategy : std::uint8_t { invalidate, through };
  task<write_answer> write(read_request to, writer& by, write_request what, write_strategy how);

  // Write-behind: null when no route of this configuration uses it.
  write_journal* journal() const noexcept { return journal_.get(); }
  void use_journal(std::unique_ptr<write_journal> journal) { journal_ = std::move(journal); }
  core::milliseconds longest_write() const noexcept { return terms_.longest_write; }
  void use_doubts(std::shared_ptr<writes_in_doubt> doubts) { doubts_ = std::move(doubts); }
  void use_recent(std::shared_ptr<recent_invalidations> recent) { recent_ = std::move(recent); }
  struct applied {
    enum class outcome : std::uint8_t {
      done,      // the origin has it, and nothing older is cached
      refused,   // it never will: no such route, or record, or the origin said no
      failed,    // the origin failed over it; it may do better another time
      away,      // the origin, or Redis, could not be asked
    };
    outcome what = outcome::away;
    bool may_go_on = false;  // the origin may still be at it
    std::string why;
  };
  // `repeated`: an earlier attempt may have been applied.
  task<applied> apply(const journaled_write& w, bool repeated);
  task<bool> forget(const journaled_write& w);  // removes the value it is about; false: not confirmed

  using mode = l2_store::mode;
  using count = l2_store::count;
  enum class put_outcome : std::uint8_t {
    done,
    unconfirmed,  // by the store
    too_large,    // for L1, the only tier there is
  };
  task<put_outcome> put(read_request to, std::unique_ptr<loaded> given);
  task<count> invalidate(std::vector<std::string> keys, mode how);
  task<count> invalidate_matching(std::string glob, mode how);
  task<count> invalidate_tags(std::vector<std::string> tags, mode how);
  task<count> invalidate_variants(std::vector<std::string> keys, mode how);  // of keys whose routes forward headers
  task<count> invalidate_record(std::string key, bool variants);             // purges it, with its variants

 private:
  struct candidates;
  struct fill_round;
  struct flown {
    flight_result_ptr result;  // null: not ended within soft_timeout, and a stale value may serve meanwhile
    bool collapsed = false;    // somebody else's flight
  };
  using self_ptr = std::shared_ptr<cache>;

  static l2_store::item item_of(const read_request& r) noexcept { return {r.key, r.to->content_type, r.to->rules.ttl, r.tags, r.to->rules.compress_above}; }
  bool has_tags() const noexcept { return !store_ || store_->keeps_metadata(); }
  static std::string variants_tag(std::string_view key);
  std::vector<std::string> tags_of(const read_request& r) const;
  core::lookup::tiers tiers_of(const route& r, std::string_view key) const noexcept;
  core::standing standing_of(const memory_cache::found& f) const noexcept;
  task<read_answer> load_or_join(const read_request& request, const core::lookup& way, candidates seen);
  task<flown> fly(const read_request& request, const core::lookup& way, value_ptr seen);
  void start_refresh(const read_request& request, const value_ptr& seen);
  // Coroutines that outlive the request own what they use.
  task<void> run_flight(self_ptr self, read_request request, flight_ptr f, value_ptr seen);
  task<void> keep_lock(self_ptr self, std::string key, std::string token, std::shared_ptr<runtime::alarm> stop);

  task<core::fill::action> take_lock(fill_round& round);
  task<core::fill::action> pause(fill_round& round);
  task<core::fill::action> load(fill_round& round);
  task<core::fill::action> store_loaded(fill_round& round);
  task<write_answer> write_through(read_request to, writer& by, write_request what);
  task<void> invalidate_written(const read_request& to, write_answer& out);
  static core::wall_time calm_until(const core::lifetime& life, const route& r) noexcept;
  memory_cache::owner owner_of(const route& r) const noexcept { return {terms_.generation, static_cast<std::uint32_t>(&r - routes.data())}; }
  // While Redis is away and nobody can tell of an invalidation: for `longest` at most.
  bool keep_in_l1_untrusted(std::string_view key, const route& r, const proto::record& what, const fences::stamp& stamp, core::milliseconds longest,
                            arrival how = arrival::read);
  bool mark_stale_in_l1(const std::string& key);
  void remember(recent_invalidations::kind what, const std::vector<std::string>& names, mode how);

  runtime::worker& worker_;
  shared_state& shared_;
  std::unique_ptr<l2_store> store_;
  std::unique_ptr<write_journal> journal_;
  std::shared_ptr<writes_in_doubt> doubts_;        // null: nobody looks again
  std::shared_ptr<recent_invalidations> recent_;  // null: nobody repeats them
  cache_terms terms_;
  event_sink& events_;
};

}  // namespace asidecar::engine
