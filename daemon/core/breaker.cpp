#include "daemon/core/breaker.hpp"

#include <algorithm>

namespace asidecar::core {

bool breaker::allow(time_point now) noexcept {
  if (!open_) return true;
  if (trial_ || now < opened_ + open_for_) return false;
  trial_ = true;
  return true;
}

void breaker::on_success() noexcept {
  failures_ = 0;
  open_ = false;
  trial_ = false;
}

void breaker::on_failure(time_point now) noexcept {
  if (failures_max_ == 0) return;
  ++failures_;
  if (!trial_ && failures_ < failures_max_) return;
  // A straggler from before the breaker opened must not push the next trial further away.
  if (!open_ || trial_) opened_ = now;
  open_ = true;
  trial_ = false;
}

void breaker::on_abandoned() noexcept { trial_ = false; }

breaker::state breaker::current(time_point now) const noexcept {
  if (!open_) return state::closed;
  return trial_ || now >= opened_ + open_for_ ? state::half_open : state::open;
}

std::chrono::milliseconds breaker::retry_after(time_point now) const noexcept {
  if (!open_) return std::chrono::milliseconds(0);
  return std::max(std::chrono::milliseconds(0), std::chrono::ceil<std::chrono::milliseconds>(opened_ + open_for_ - now));
}

}  // namespace asidecar::core
