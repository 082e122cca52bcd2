#include "daemon/core/freshness.hpp"

#include <algorithm>
#include <cmath>

namespace asidecar::core {

wall_time lifetime::dead_at() const noexcept { return fresh_until() + std::max(stale_while_revalidate, stale_if_error); }

seconds lifetime::age(wall_time now) const noexcept {
  return std::max(seconds(0), std::chrono::floor<seconds>(now - created));
}

verdict judge(const lifetime& value, const proto::request_directives& directives, wall_time now, double beta, double u) noexcept {
  if (directives.wants_new_load()) return verdict::unusable;
  if (directives.max_age && now - value.created > *directives.max_age) return verdict::unusable;
  const milliseconds left = value.freshness_left(now);
  if (directives.min_fresh && left < *directives.min_fresh) return verdict::unusable;
  if (left > milliseconds(0)) return refresh_early(value, now, beta, u) ? verdict::refresh_early : verdict::fresh;
  if (-left < value.stale_while_revalidate) return verdict::revalidate;
  if (now >= value.dead_at()) return verdict::unusable;
  if (directives.max_stale_any || (directives.max_stale && -left <= *directives.max_stale)) return verdict::stale_allowed;
  return verdict::unusable;
}

bool usable_on_error(const lifetime& value, wall_time now) noexcept {
  return value.stale_if_error > milliseconds(0) && now < value.fresh_until() + value.stale_if_error;
}

bool refresh_early(const lifetime& value, wall_time now, double beta, double u) noexcept {
  if (beta <= 0 || value.load_time <= microseconds(0)) return false;
  const double gap_ms = -static_cast<double>(value.load_time.count()) / 1000.0 * beta * std::log(u);
  return gap_ms >= static_cast<double>(value.freshness_left(now).count());
}

wall_time calm_until(const lifetime& value, double beta) noexcept {
  if (value.negative) return wall_time::min();
  constexpr double furthest = 36.8;
  const double gap_ms = beta <= 0 ? 0 : static_cast<double>(value.load_time.count()) / 1000.0 * beta * furthest;
  return value.fresh_until() - milliseconds(static_cast<std::int64_t>(std::ceil(std::min(gap_ms, 1e15))));
}

milliseconds jittered(milliseconds ttl, double jitter, double u) noexcept {
  if (jitter <= 0) return ttl;
  return milliseconds(static_cast<std::int64_t>(static_cast<double>(ttl.count()) * (1.0 - jitter * u)));
}

}  // namespace asidecar::core
