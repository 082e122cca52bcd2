// Virtual time for the simulation: several daemons on one thread, each with its own io_context, and nothing that is not decided by
// the seed. Time stands still while any of them has something to do, and then jumps to the next alarm.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "daemon/runtime/worker.hpp"

namespace asidecar::sim {

using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

class world {
 public:
  explicit world(std::uint64_t seed) : random_(seed) {}

  steady_time now() const noexcept { return now_; }
  std::uint64_t draw(std::uint64_t below) { return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random_); }
  double unit() { return 1.0 - std::uniform_real_distribution<double>(0.0, 1.0)(random_); }
  bool chance(double p) { return unit() < p; }
  milliseconds between(int low, int high) { return milliseconds(low + static_cast<int>(draw(static_cast<std::uint64_t>(high - low + 1)))); }

  // A worker on virtual time.
  std::unique_ptr<runtime::worker> make_worker(std::size_t index);
  // Nothing of it runs from here on, as if its process had been killed; until thawed, so that its coroutines can be taken apart.
  void freeze(const runtime::worker& w);
  void thaw(runtime::worker& w);

  // Runs until `end`, or until nothing is left to happen.
  void run_until(steady_time end);

  // Everything that happens is folded into this: the same seed gives the same value.
  void note(std::uint64_t what) noexcept { hash_ = (hash_ ^ what) * 0x100000001B3U; }
  std::uint64_t hash() const noexcept { return hash_; }

 private:
  friend class virtual_alarm;
  struct due {
    steady_time when;
    std::uint64_t order;
    bool operator<(const due& o) const noexcept { return when != o.when ? when < o.when : order < o.order; }
  };
  bool settle();

  std::mt19937_64 random_;
  steady_time now_{std::chrono::hours(1)};
  std::uint64_t order_ = 0;
  std::uint64_t hash_ = 0xCBF29CE484222325U;
  std::map<due, class virtual_alarm*> alarms_;
  std::vector<runtime::worker*> workers_;
};

}  // namespace asidecar::sim
