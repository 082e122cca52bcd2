// Warming: queries whose rows name keys that are read ahead, so that they are in the cache before somebody asks. Of one
// configuration, on one thread. One instance in the fleet at a time runs a warm-up, by a lease; without a store, each for itself.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/key_template.hpp"
#include "daemon/engine/cache.hpp"
#include "daemon/engine/lease.hpp"
#include "daemon/engine/loader.hpp"
#include "daemon/engine/stats.hpp"

namespace asidecar::engine {

class warmup : public std::enable_shared_from_this<warmup> {
 public:
  enum class schedule : std::uint8_t { manual, startup, interval };
  struct parts {
    std::string name;
    schedule when = schedule::startup;
    core::milliseconds every{0};  // of an interval
    std::size_t concurrency = 8;
    bool before_ready = false;
    core::key_template key;         // its placeholders are columns of the rows
    std::shared_ptr<loader> query;  // its value is a JSON array of rows
    std::unique_ptr<lease> turn;    // null without a store
    warm_stats* stats = nullptr;
  };
  // A read by the configuration at work.
  struct target {
    std::shared_ptr<cache> in;
    read_request request;
  };
  using find_target = std::function<std::optional<target>(std::string_view key)>;  // nullopt: no route has such a key
  warmup(runtime::worker& w, parts p, find_target find, event_sink& events);

  // `at_startup`: not after a reload.
  void start(bool at_startup);
  void stop();
  const std::string& name() const noexcept { return parts_.name; }
  bool holds_up_readiness() const noexcept { return parts_.before_ready && !has_run_; }

  struct result {
    enum class outcome : std::uint8_t {
      done,
      busy,
      query_failed,
      unfit,  // the query's rows do not say what the key needs
    };
    outcome what = outcome::done;
    std::string why;  // of unfit for everybody, of query_failed for the log only: it may quote the origin
    std::uint64_t keys = 0;
    std::uint64_t warmed = 0;  // in the cache now
    std::uint64_t failed = 0;  // could not be loaded, or have no route
  };
  task<result> run();

 private:
  struct progress;

  task<void> live(std::shared_ptr<warmup> self, bool now);
  task<result> run_in_turn();
  task<result> warm(std::vector<std::string> keys);
  task<void> read_keys(std::shared_ptr<warmup> self, std::shared_ptr<progress> p);
  task<void> keep_turn(std::shared_ptr<warmup> self, std::string token, std::shared_ptr<runtime::alarm> stop);

  runtime::worker& worker_;
  parts parts_;
  find_target find_;
  event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  bool running_ = false;
  bool has_run_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
