// Time as a port: the engine reads clocks and sleeps only through it, so that a simulation can run on virtual time.
// One object per thread.
#pragma once

#include <chrono>
#include <memory>

#include "daemon/runtime/task.hpp"

namespace asidecar::runtime {

using steady_time = std::chrono::steady_clock::time_point;
using wall_time = std::chrono::sys_time<std::chrono::milliseconds>;

// Both clocks, read together.
struct moment {
  steady_time steady;
  wall_time wall;
};
inline moment read_clocks() {
  return {std::chrono::steady_clock::now(), std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now())};
}

// A sleep that can be cut short. One coroutine waits at a time. Not thread-safe: ring() on the owner's thread.
class alarm {
 public:
  virtual ~alarm() = default;
  virtual task<bool> wait_until(steady_time when) = 0;  // true: the time came; false: ring() came first
  virtual void ring() = 0;                              // kept until the next wait when nobody waits
};

class clock {
 public:
  virtual ~clock() = default;
  virtual steady_time now() const = 0;
  virtual wall_time wall_now() const = 0;
  virtual std::unique_ptr<alarm> make_alarm() = 0;
};

// The real one, on the timers of `context`.
std::unique_ptr<clock> make_system_clock(asio::io_context& context);

}  // namespace asidecar::runtime
