// Record writes whose outcome is not known: the origin may still apply them after they were answered, and a load in between sees
// the record from before. So their values are removed once more when the origin must have ended with them, and until Redis confirms.
// Bounded. Lives on one thread, for the life of the process.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "daemon/engine/events.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::engine {

using runtime::task;

class cache;

class writes_in_doubt : public std::enable_shared_from_this<writes_in_doubt> {
 public:
  static constexpr std::size_t keys_max = 10'000;

  // `current`: the configuration at work; null at the end.
  writes_in_doubt(runtime::worker& home, std::function<std::shared_ptr<cache>()> current, event_sink& events);

  // `variants`: the key has some, by forwarded headers.
  void add(std::string key, bool variants, runtime::steady_time when);
  void stop();  // what is left is tried at once, and once

 private:
  struct pending {
    bool variants = false;
    runtime::steady_time when;
  };
  task<void> work(std::shared_ptr<writes_in_doubt> self);
  task<void> remove_due();

  runtime::worker& home_;
  std::function<std::shared_ptr<cache>()> current_;
  event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  std::map<std::string, pending> keys_;
  std::shared_ptr<cache> last_;  // when stopped
  bool working_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
