// Redis as the simulation sees it: values, fill locks and tag versions with their ends of life, publish/subscribe, and all that can
// go wrong on the way there and back. It does what the commands and scripts of daemon/redis/store.cpp do, command by command.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "daemon/engine/l2_store.hpp"
#include "daemon/engine/shared_state.hpp"
#include "tests/sim/world.hpp"

namespace asidecar::sim {

struct faults {
  double request_lost = 0;  // of each command
  double reply_lost = 0;    // applied, but nobody knows
  double slow = 0;
  double eviction = 0;
  bool any() const noexcept { return request_lost > 0 || reply_lost > 0; }
};

class model_redis {
 public:
  explicit model_redis(world& w) : world_(w) {}

  // A daemon's ears. `shared` hears of news while `up`.
  struct listener {
    engine::shared_state* shared = nullptr;
    runtime::worker* home = nullptr;
    bool up = false;
    std::uint64_t connection = 0;     // which one; news of an earlier one are lost with it
    steady_time last_delivery{};
  };
  void listen(listener& l) { listeners_.push_back(&l); }

  struct held {
    std::string bytes;
    steady_time until;
  };
  held* find(std::map<std::string, held>& in, const std::string& name) {
    const auto at = in.find(name);
    if (at == in.end()) return nullptr;
    if (at->second.until <= world_.now()) {
      in.erase(at);
      return nullptr;
    }
    return &at->second;
  }

  // The commands. Each is atomic.
  bool set_nx_lock(const std::string& key, std::string_view token, milliseconds ttl);
  bool renew_lock(const std::string& key, std::string_view token, milliseconds ttl);
  bool release_lock(const std::string& key, std::string_view token);
  void set_lock(const std::string& key, std::string_view token, milliseconds ttl);
  bool delete_lock(const std::string& key);
  std::string get(const std::string& key);  // empty: absent
  void set(const std::string& key, std::string bytes, milliseconds ttl);
  bool remove(const std::string& key);
  bool fill(const std::string& key, std::string_view token, std::string bytes, milliseconds ttl);
  void publish(listener* from, std::function<void(engine::shared_state&)> news);  // to all but `from`
  std::vector<std::string> names() const;
  bool locked(const std::string& key) { return find(locks_, key) != nullptr; }
  std::map<std::string, held>& tags() { return tags_; }

  std::function<void(const std::string& key)> lock_released;

 private:
  void changed(const std::string& key);  // CLIENT TRACKING: to all
  void deliver(listener& l, std::function<void(engine::shared_state&)> news);

  world& world_;
  std::vector<listener*> listeners_;
  std::map<std::string, held> values_;
  std::map<std::string, held> locks_;
  std::map<std::string, held> tags_;
};

// One daemon's way to it.
std::unique_ptr<engine::l2_store> make_model_store(world& w, model_redis& redis, runtime::worker& home, model_redis::listener& ears, const faults& f,
                                                   milliseconds lock_ttl);

}  // namespace asidecar::sim
