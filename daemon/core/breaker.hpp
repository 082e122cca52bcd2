// Circuit breaker of one origin: closed -> open after `failures` in a row -> half-open after `open_for`, when one trial call
// decides (Nygard, Release It!). Pure: time is an argument. Not thread-safe; the owner locks.
#pragma once

#include <chrono>
#include <cstdint>

namespace asidecar::core {

class breaker {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class state : std::uint8_t { closed, open, half_open };

  breaker(std::uint32_t failures, std::chrono::milliseconds open_for) noexcept : failures_max_(failures), open_for_(open_for) {}

  bool allow(time_point now) noexcept;  // true: the call may go; its outcome must be told
  void on_success() noexcept;
  void on_failure(time_point now) noexcept;
  void on_abandoned() noexcept;  // the allowed call was never made

  state current(time_point now) const noexcept;
  std::chrono::milliseconds retry_after(time_point now) const noexcept;  // until the next trial

 private:
  std::uint32_t failures_max_;  // 0: never opens
  std::chrono::milliseconds open_for_;
  std::uint32_t failures_ = 0;
  bool open_ = false;
  bool trial_ = false;  // the half-open call is under way
  time_point opened_{};
};

}  // namespace asidecar::core
