#include "daemon/core/fill.hpp"

#include <algorithm>

namespace asidecar::core {

bool fill::good_enough(const std::optional<lifetime>& current, wall_time now) const noexcept {
  if (!current || terms_.anew || current->freshness_left(now) <= milliseconds(0)) return false;
  return !terms_.newer_than || current->created > *terms_.newer_than;
}

fill::action fill::on_lock_won(const std::optional<lifetime>& current, wall_time now) noexcept {
  fenced_ = true;
  return good_enough(current, now) ? action::adopt : action::load;
}

fill::action fill::on_lock_busy(const std::optional<lifetime>& current, wall_time now, milliseconds waited,
                                bool anyone_waits) noexcept {
  if (good_enough(current, now)) return action::adopt;
  if (!anyone_waits) return action::give_up;
  if (waited < terms_.lock_wait) return action::wait;
  return terms_.stale_will_do ? action::give_up : load_without_lock();
}

fill::action fill::on_loaded(bool storable) noexcept {
  if (!fenced_) return action::finish;
  return storable ? action::store : action::release;
}

fill::action fill::on_load_failed() noexcept { return fenced_ ? action::release : action::finish; }

milliseconds fill::wait_for(bool watched, double u) noexcept {
  const auto longest = watched ? milliseconds(100) : pause_;
  if (!watched) pause_ = std::min(pause_ * 2, milliseconds(50));
  return milliseconds(static_cast<std::int64_t>(static_cast<double>(longest.count()) * (0.5 + 0.5 * u)) + 1);
}

fill::action fill::load_without_lock() noexcept {
  fenced_ = false;
  return action::load_unfenced;
}

}  // namespace asidecar::core
