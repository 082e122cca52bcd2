#include "daemon/core/fill.hpp"

#include <algorithm>

#include "daemon/core/backoff.hpp"

namespace asidecar::core {

bool fill::good_enough(const std::optional<lifetime>& current, wall_time now) const noexcept {
  if (!current || rules_.anew || current->freshness_left(now) <= milliseconds(0)) return false;
  return !rules_.newer_than || current->created > *rules_.newer_than;
}

fill::action fill::on_lock_won(const std::optional<lifetime>& current, wall_time now) noexcept {
  fenced_ = true;
  return good_enough(current, now) ? action::adopt : action::load;
}

fill::action fill::on_lock_busy(const std::optional<lifetime>& current, wall_time now, milliseconds waited,
                                bool anyone_waits) noexcept {
  if (good_enough(current, now)) return action::adopt;
  if (!anyone_waits) return action::give_up;
  if (waited < rules_.lock_wait) return action::wait;
  return rules_.stale_will_do ? action::give_up : load_without_lock();
}

fill::action fill::on_loaded(bool storable, bool overtaken) noexcept {
  return fenced_ && storable && !overtaken ? action::store : release_or_finish();
}

milliseconds fill::wait_for(bool watched, double u) noexcept {
  const auto longest = watched ? milliseconds(100) : pause_;
  if (!watched) pause_ = std::min(pause_ * 2, milliseconds(50));
  return jittered_pause(longest, u) + milliseconds(1);
}

fill::action fill::load_without_lock() noexcept {
  fenced_ = false;
  return action::load_unfenced;
}

}  // namespace asidecar::core
