// One daemon's way to the model of Redis, and all that can go wrong on the way there and back. Its store, journal and leases share
// it, as they share a connection.
#pragma once

#include "tests/sim/world.hpp"

namespace asidecar::sim {

struct faults {
  double request_lost = 0;  // of each command
  double reply_lost = 0;    // applied, but nobody knows
  double slow = 0;
  double eviction = 0;
  bool any() const noexcept { return request_lost > 0 || reply_lost > 0 || slow > 0; }
};

class model_connection {
 public:
  model_connection(world& w, runtime::worker& home, const faults& f) : world_(w), home_(home), faults_(f) {}

  bool up() const noexcept { return alive_ && world_.now() >= down_until_; }
  void kill() noexcept { alive_ = false; }
  void cut() { down_until_ = std::max(down_until_, world_.now() + world_.between(20, 400)); }  // by Redis

  // To Redis: false when the command did not arrive.
  task<bool> go();
  // And back: false when the reply did not.
  task<bool> come_back();
  // Between two commands of one write, where others' may come in.
  task<void> step();

 private:
  task<void> give_up();
  task<void> sleep(milliseconds t);

  world& world_;
  runtime::worker& home_;
  const faults& faults_;
  steady_time down_until_{};
  bool alive_ = true;
};

}  // namespace asidecar::sim
