// Warming: queries whose rows name keys that are read ahead, so that they are in the cache before somebody asks. Of one
// configuration, on the first thread. One instance in the fleet at a time runs a warm-up, by a lease; without a store, each for itself.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "daemon/engine/loader.hpp"
#include "daemon/engine/stats.hpp"
#include "daemon/http/data_api.hpp"
#include "daemon/redis/lease.hpp"

namespace asidecar::app {

class warmup : public std::enable_shared_from_this<warmup> {
 public:
  struct parts {
    config::warm_settings settings;
    core::key_template key;
    std::shared_ptr<engine::loader> query;  // its value is a JSON array of rows
    std::unique_ptr<redis::lease> lease;    // null without a store
    engine::warm_stats* stats = nullptr;
  };
  warmup(runtime::worker& w, parts p, std::function<std::shared_ptr<const http::data_service>()> current, http::data_api& api, engine::event_sink& events);

  // `at_startup`: not after a reload.
  void start(bool at_startup);
  void stop();
  const std::string& name() const noexcept { return parts_.settings.name; }
  bool holds_up_readiness() const noexcept { return parts_.settings.before_ready && !has_run_; }

  struct result {
    enum class outcome : std::uint8_t { done, busy, failed };
    outcome what = outcome::done;
    std::string why;
    std::uint64_t keys = 0;
    std::uint64_t warmed = 0;  // in the cache now
    std::uint64_t failed = 0;  // could not be loaded, or have no route
  };
  runtime::task<result> run();

 private:
  struct progress;

  runtime::task<void> live(std::shared_ptr<warmup> self, bool now);
  runtime::task<result> run_leased();
  runtime::task<result> warm(std::vector<std::string> keys);
  runtime::task<void> read_keys(std::shared_ptr<warmup> self, std::shared_ptr<progress> p);
  runtime::task<void> keep_lease(std::shared_ptr<warmup> self, std::string token, std::shared_ptr<runtime::alarm> stop);

  runtime::worker& worker_;
  parts parts_;
  std::function<std::shared_ptr<const http::data_service>()> current_;
  http::data_api& api_;
  engine::event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  bool running_ = false;
  bool has_run_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::app
