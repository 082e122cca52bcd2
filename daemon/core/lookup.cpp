#include "daemon/core/lookup.hpp"

namespace asidecar::core {

using proto::forward_reason;

lookup::action lookup::start() noexcept {
  if (directives_.wants_new_load()) {
    reason_ = forward_reason::request;
    // What is stored is still read: it may have to stand in when the load fails.
    if (policy_.stale_if_error <= milliseconds(0)) return to_load();
  }
  return tiers_.l1 ? action::read_l1 : to_l2_or_load();
}

lookup::action lookup::on_entry(tier where, const lifetime& value, wall_time now, double u) noexcept {
  switch (judge(value, directives_, now, tiers_.has_origin ? policy_.early_refresh_beta : 0, u)) {
    case verdict::fresh:
    case verdict::stale_allowed: return action::serve;
    case verdict::refresh_early:
    case verdict::revalidate: return tiers_.has_origin && !directives_.only_if_cached ? action::serve_and_refresh : action::serve;
    case verdict::unusable: break;
  }
  if (!stale_ || value.created > stale_->created) stale_ = value;
  if (reason_ == forward_reason::uri_miss)
    reason_ = value.freshness_left(now) > milliseconds(0) ? forward_reason::request : forward_reason::stale;
  return where == tier::l1 ? to_l2_or_load() : to_load();
}

lookup::action lookup::on_absent(tier where) noexcept { return where == tier::l1 ? to_l2_or_load() : to_load(); }

lookup::action lookup::on_store_down() noexcept {
  store_down_ = true;
  reason_ = forward_reason::bypass;
  return to_load();
}

bool lookup::stale_may_serve(wall_time now) const noexcept { return stale_ && !stale_->negative && usable_on_error(*stale_, now); }

bool lookup::stale_may_serve_meanwhile(wall_time now) const noexcept { return stale_ && !stale_->negative && now < stale_->dead_at(); }

lookup::action lookup::to_l2_or_load() noexcept { return tiers_.l2 ? action::read_l2 : to_load(); }

lookup::action lookup::to_load() noexcept {
  if (directives_.only_if_cached) return action::not_cached;
  return tiers_.has_origin ? action::load : action::miss;
}

}  // namespace asidecar::core
