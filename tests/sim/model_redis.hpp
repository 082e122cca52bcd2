// Redis as the simulation sees it: values, fill locks and tag versions with their ends of life, and publish/subscribe. It does what
// the commands and scripts of daemon/redis do, command by command.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/engine/l2_store.hpp"
#include "daemon/engine/shared_state.hpp"
#include "tests/sim/model_connection.hpp"
#include "tests/sim/world.hpp"

namespace asidecar::sim {

// Keys of one kind, each with an end of life.
class expiring_keys {
 public:
  explicit expiring_keys(const world& w) : world_(&w) {}

  std::string* find(const std::string& name);  // null: absent
  void set(const std::string& name, std::string bytes, milliseconds ttl) { keys_[name] = {std::move(bytes), world_->now() + ttl}; }
  bool erase(const std::string& name);
  std::vector<std::string> names() const;

  // As leases: the bytes are the token of who holds it.
  bool set_nx(const std::string& name, std::string_view token, milliseconds ttl);
  bool holds(const std::string& name, std::string_view token);
  bool renew(const std::string& name, std::string_view token, milliseconds ttl);
  bool release(const std::string& name, std::string_view token) { return holds(name, token) && erase(name); }

 private:
  struct held {
    std::string bytes;
    steady_time until;
  };
  const world* world_;
  std::map<std::string, held> keys_;
};

class model_redis {
 public:
  explicit model_redis(world& w) : world_(w), values_(w), locks_(w), tags_(w), leases_(w) {}

  // A daemon's ears. `shared` hears of news while `up`.
  struct listener {
    engine::shared_state* shared = nullptr;
    runtime::worker* home = nullptr;
    bool up = false;
    std::uint64_t connection = 0;     // which one; news of an earlier one are lost with it
    steady_time last_delivery{};
  };
  void listen(listener& l) { listeners_.push_back(&l); }
  void forget(listener& l) { std::erase(listeners_, &l); }

  // Commands on values; each is atomic.
  std::string get(const std::string& key);  // empty: absent
  void set(const std::string& key, std::string bytes, milliseconds ttl);
  bool remove(const std::string& key);
  bool fill(const std::string& key, std::string_view token, std::string bytes, milliseconds ttl);
  void publish(listener* from, std::function<void(engine::shared_state&)> news);  // to all but `from`
  std::vector<std::string> names() const;  // of values and locks

  // To disk, and started again from there. The connections are the caller's to cut.
  void save() { disk_ = {values_, locks_, tags_, leases_}; }
  void restart();
  std::string run_id() const { return std::to_string(life_); }

  expiring_keys& locks() { return locks_; }
  expiring_keys& tags() { return tags_; }
  expiring_keys& leases() { return leases_; }

 private:
  void changed(const std::string& key);  // CLIENT TRACKING: to all
  void deliver(listener& l, std::function<void(engine::shared_state&)> news);

  world& world_;
  std::vector<listener*> listeners_;
  expiring_keys values_;
  expiring_keys locks_;
  expiring_keys tags_;
  expiring_keys leases_;
  std::vector<expiring_keys> disk_;
  int life_ = 1;
};

// One daemon's store.
std::unique_ptr<engine::l2_store> make_model_store(model_redis& redis, std::shared_ptr<model_connection> c, runtime::worker& home, model_redis::listener& ears,
                                                   milliseconds lock_ttl);

}  // namespace asidecar::sim
