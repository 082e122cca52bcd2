#include "daemon/core/lookup.hpp"

namespace asidecar::core {

using proto::forward_reason;

lookup::action lookup::start() noexcept {
  if (directives_.wants_new_load()) {
    reason_ = forward_reason::request;
    // What is stored is still read: it may have to stand in when the load fails.
    if (policy_.stale_if_error <= milliseconds(0)) return directives_.only_if_cached ? action::not_cached : tiers_.has_origin ? action::load : action::miss;
  }
  return tiers_.l1 ? action::read_l1 : tiers_.l2 ? action::read_l2 : to_load(wall_time());
}

lookup::action lookup::on_l1(const lifetime& value, standing s, wall_time now, double u) noexcept {
  if (s == standing::current) {
    const auto next = judge_entry(value, now, u, action::read_l2);
    return next == action::read_l2 ? to_l2_or_load(now) : next;
  }
  keep_candidate(value, now);
  unchecked_ = true;
  if (s == standing::unheard && value.freshness_left(now) > milliseconds(0)) unheard_ = value;
  return to_l2_or_load(now);
}

lookup::action lookup::on_l2(const lifetime& value, wall_time now, double u) noexcept {
  if (unchecked_) forget_candidate();
  const auto next = judge_entry(value, now, u, action::load);
  return next == action::load ? to_load(now) : next;
}

lookup::action lookup::judge_entry(const lifetime& value, wall_time now, double u, action otherwise) noexcept {
  const bool may_refresh = tiers_.has_origin && !directives_.only_if_cached && !tiers_.failed_lately;
  switch (judge(value, directives_, now, tiers_.has_origin ? policy_.early_refresh_beta : 0, u)) {
    case verdict::fresh:
    case verdict::stale_allowed: return action::serve;
    case verdict::refresh_early:
    case verdict::revalidate: return may_refresh ? action::serve_and_refresh : action::serve;
    case verdict::unusable: break;
  }
  keep_candidate(value, now);
  return otherwise;
}

void lookup::keep_candidate(const lifetime& value, wall_time now) noexcept {
  if (!candidate_ || value.created >= candidate_->created) candidate_ = value;
  if (reason_ == forward_reason::uri_miss)
    reason_ = value.freshness_left(now) > milliseconds(0) ? forward_reason::request : forward_reason::stale;
}

void lookup::forget_candidate() noexcept {
  candidate_.reset();
  unchecked_ = false;
  reason_ = directives_.wants_new_load() ? forward_reason::request : forward_reason::uri_miss;
}

lookup::action lookup::on_absent(tier where, wall_time now) noexcept {
  if (where == tier::l1) return to_l2_or_load(now);
  forget_candidate();  // what L1 held is not in the store: it was removed meanwhile, or ran out
  return to_load(now);
}

lookup::action lookup::on_store_down(wall_time now) noexcept {
  store_down_ = true;
  reason_ = forward_reason::bypass;
  if (unheard_ && judge(*unheard_, directives_, now, 0, 1) == verdict::fresh) return action::serve_newest;
  return to_load(now);
}

bool lookup::stale_may_serve(wall_time now) const noexcept { return candidate_ && !candidate_->negative && usable_on_error(*candidate_, now); }

bool lookup::stale_may_serve_meanwhile(wall_time now) const noexcept {
  return candidate_ && !unchecked_ && !candidate_->negative && now < candidate_->dead_at();
}

lookup::action lookup::to_l2_or_load(wall_time now) noexcept { return tiers_.l2 ? action::read_l2 : to_load(now); }

lookup::action lookup::to_load(wall_time now) noexcept {
  if (directives_.only_if_cached) return action::not_cached;
  if (!tiers_.has_origin) return action::miss;
  return tiers_.failed_lately && !directives_.wants_new_load() && stale_may_serve(now) ? action::serve_newest : action::load;
}

}  // namespace asidecar::core
