#include "daemon/engine/cache.hpp"

#include <algorithm>

#include "daemon/core/glob.hpp"
#include "daemon/engine/compose.hpp"
#include "proto/redis_keys.hpp"

namespace asidecar::engine {
namespace {

using action = core::lookup::action;
using core::tier;

read_answer served(value_ptr v, tier where, core::wall_time now) {
  const auto left = v->life().freshness_left(now);
  read_answer out;
  out.status.ttl = std::chrono::floor<std::chrono::seconds>(left).count();
  out.status.detail = where == tier::l1 ? "L1" : "L2";
  out.counted = left <= core::milliseconds(0) ? read_result::stale
                : v->life().negative          ? read_result::negative
                : where == tier::l1           ? read_result::l1
                                              : read_result::l2;
  out.value = std::move(v);
  return out;
}

}  // namespace

std::vector<std::string> route::tags_of(const std::vector<std::string>& params) const {
  std::vector<std::string> out;
  for (const auto& t : tags) {
    std::vector<std::string_view> values;
    for (const auto position : t.positions) values.emplace_back(params.at(position));
    out.push_back(t.text.format(values));
  }
  return out;
}

// The entries met on the way: the last one, and the newest.
struct cache::candidates {
  value_ptr last;
  value_ptr newest;
  tier last_from = tier::none;
  tier newest_from = tier::none;
  void meet(const value_ptr& v, tier from) {
    if (!v) return;
    last = v;
    last_from = from;
    if (newest && newest->life().created > v->life().created) return;
    newest = v;
    newest_from = from;
  }
};

std::optional<read_answer> cache::peek(std::string_view key, const route& r, const std::function<read_request()>& whole) {
  if (!shared_.l1.enabled()) return std::nullopt;
  const auto now = worker_.time->wall_now();
  auto found = shared_.l1.find(key, now, shared_.fence, owner_of(r));
  if (!found.value) return std::nullopt;
  const proto::request_directives none;
  core::lookup way(none, r.rules, tiers_of(r, key));
  switch (way.on_l1(found.value->life(), standing_of(found), now, worker_.random->unit())) {
    case action::serve: break;
    case action::serve_and_refresh: {
      auto request = whole();
      request.tags = tags_of(request);
      start_refresh(request, found.value);
      break;
    }
    default: return std::nullopt;
  }
  return served(std::move(found.value), tier::l1, now);
}

core::wall_time cache::calm_until(const core::lifetime& life, const route& r) noexcept {
  return core::calm_until(life, r.load ? r.rules.early_refresh_beta : 0);
}

bool cache::fresh_and_calm(const proto::record& what, const route& r, core::wall_time now) noexcept {
  return what.expired_at_ms == 0 && now < calm_until(life_of(what), r);
}

// With forwarded headers a key has variants, one per set of header values. A tag of their own makes it possible to invalidate
// them all without looking for them. No tag of the configuration begins with a NUL.
std::string cache::variants_tag(std::string_view key) { return std::string(1, '\0').append(key.substr(0, key.find('\0'))); }

std::vector<std::string> cache::tags_of(const read_request& r) const {
  auto out = r.to->tags_of(r.params);
  if (!r.to->forward_headers.empty() && has_tags()) out.push_back(variants_tag(r.key));
  return out;
}

core::lookup::tiers cache::tiers_of(const route& r, std::string_view key) const noexcept {
  return {shared_.l1.enabled(), store_ != nullptr, r.load != nullptr, shared_.failures.recent(key, worker_.time->now())};
}

core::standing cache::standing_of(const memory_cache::found& f) const noexcept {
  if (!f.current) return core::standing::outdated;
  return shared_.l1_trusted.load(std::memory_order_acquire) ? core::standing::current : core::standing::unheard;
}

task<std::vector<std::optional<cache::seen_in_store>>> cache::look_in_store(std::vector<read_request> requests) {
  std::vector<std::optional<seen_in_store>> out(requests.size());
  if (!store_) co_return out;
  std::vector<l2_store::item> items;
  std::vector<std::size_t> places;
  std::vector<fences::stamp> stamps;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    auto& r = requests[i];
    const auto l1 = shared_.l1.find(r.key, worker_.time->wall_now(), shared_.fence);
    if (l1.value && standing_of(l1) == core::standing::current) continue;  // it will most likely answer
    r.tags = tags_of(r);
    items.push_back(item_of(r));
    places.push_back(i);
    stamps.push_back(shared_.fence.take(r.key, r.tags));
  }
  if (items.empty()) co_return out;
  auto got = co_await store_->read_many(std::move(items));
  for (std::size_t i = 0; i < places.size(); ++i) out[places[i]] = seen_in_store{std::move(got[i]), stamps[i]};
  co_return out;
}

task<read_answer> cache::read(read_request request, std::optional<seen_in_store> stored) {
  const route& r = *request.to;
  request.tags = tags_of(request);
  core::lookup way(request.directives, r.rules, tiers_of(r, request.key));
  const auto stamp = stored ? stored->stamp : shared_.fence.take(request.key, request.tags);
  candidates seen;
  bool l1_checked = true;
  for (action next = way.start();;) {
    const auto now = worker_.time->wall_now();
    switch (next) {
      case action::read_l1: {
        const auto found = shared_.l1.find(request.key, now, shared_.fence);
        seen.meet(found.value, tier::l1);
        l1_checked = standing_of(found) == core::standing::current;
        next = found.value ? way.on_l1(found.value->life(), standing_of(found), now, worker_.random->unit()) : way.on_absent(tier::l1, now);
        break;
      }
      case action::read_l2: {
        l2_store::read_outcome got;
        if (stored) got = stored->outcome;
        else got = co_await store_->read(item_of(request));
        const auto then = worker_.time->wall_now();
        if (!got.up) {
          next = way.on_store_down(then);
        } else if (!got.found) {
          seen = {};
          next = way.on_absent(tier::l2, then);
        } else {
          if (!l1_checked) seen = {};
          seen.meet(got.found, tier::l2);
          next = way.on_l2(got.found->life(), then, worker_.random->unit());
        }
        break;
      }
      case action::serve_and_refresh: start_refresh(request, seen.last); [[fallthrough]];
      case action::serve:
        if (seen.last_from == tier::l2) keep_in_l1(request.key, r, seen.last->content(), stamp);
        co_return served(seen.last, seen.last_from, now);
      case action::serve_newest: co_return served(seen.newest, seen.newest_from, now);
      case action::load: co_return co_await load_or_join(request, way, std::move(seen));
      case action::miss:
      case action::not_cached: {
        read_answer out;
        out.not_cached = next == action::not_cached;
        out.status.forward = way.reason();
        if (way.store_down()) out.status.detail = "redis-down";
        out.counted = way.store_down() && !out.not_cached ? read_result::error : read_result::miss;
        co_return out;
      }
    }
  }
}

// Nothing stored will do: the key's flight, or a stale value in its stead.
task<read_answer> cache::load_or_join(const read_request& request, const core::lookup& way, candidates seen) {
  const auto end = co_await fly(request, way, seen.newest);
  const auto now = worker_.time->wall_now();
  const bool stale = end.result ? end.result->error && way.stale_may_serve(now) : true;
  if (stale) co_return served(seen.newest, seen.newest_from, now);
  const auto& result = *end.result;
  read_answer out;
  out.value = result.value;
  out.error = result.error;
  out.status.forward = way.reason();
  out.status.collapsed = end.collapsed || result.adopted;
  out.status.stored = result.stored && !out.status.collapsed;
  if (way.store_down() || result.store_down) {
    out.status.forward = proto::forward_reason::bypass;
    out.status.detail = "redis-down";
  }
  out.counted = out.error ? read_result::error : read_result::miss;
  co_return out;
}

task<cache::flown> cache::fly(const read_request& request, const core::lookup& way, value_ptr seen) {
  const route& r = *request.to;
  read_request asked = request;
  for (int attempt = 0;; ++attempt) {
    const bool last = attempt == 5;  // each has its own reason to come to an end, so this is never met
    const auto came = worker_.time->now();
    const auto [f, starter] = shared_.flights.join(request.key, request.tags, shared_.fence);
    if (starter) worker_.tasks.spawn(run_flight(shared_from_this(), asked, f, seen));
    else r.stats->coalesced.add();
    flight_result_ptr result;
    if (r.rules.soft_timeout > core::milliseconds(0) && seen) {
      result = co_await f->wait(worker_, worker_.time->now() + r.rules.soft_timeout);
      if (!result && way.stale_may_serve_meanwhile(worker_.time->wall_now())) co_return flown();
    }
    if (!result) result = co_await f->wait(worker_, runtime::steady_time::max());
    const flown end{result, !starter};
    // What began before a request that wants a new load is not new; the next flight, whoever begins it, is.
    if (!starter && request.directives.wants_new_load() && attempt == 0) continue;
    if (!starter && result->doubtful && result->load_began <= came && attempt == 0) continue;
    // The flight waited in vain for another instance, and no stale value may stand in here (any more): load by oneself. If it
    // was a refresh that nobody waited for, wait now.
    if (result->gave_up && !way.stale_may_serve(worker_.time->wall_now()) && !last) {
      asked.without_lock = result->waited_in_vain;
      continue;
    }
    co_return end;
  }
}

void cache::start_refresh(const read_request& request, const value_ptr& seen) {
  const auto [f, starter] = shared_.flights.join(request.key, request.tags, shared_.fence);
  if (!starter) return;
  auto behind = request;
  behind.directives = {};
  worker_.tasks.spawn(run_flight(shared_from_this(), std::move(behind), f, seen));
}

bool cache::keep_in_l1(std::string_view key, const route& r, const proto::record& what, const fences::stamp& stamp, arrival how) {
  return shared_.l1_trusted.load(std::memory_order_acquire) && keep_in_l1_untrusted(key, r, what, stamp, core::milliseconds::max(), how);
}

bool cache::keep_in_l1_untrusted(std::string_view key, const route& r, const proto::record& what, const fences::stamp& stamp, core::milliseconds longest, arrival how) {
  if (!shared_.l1.enabled()) return false;
  const auto now = worker_.time->wall_now();
  memory_cache::times t;
  t.until = now + std::min({terms_.l1_ttl, longest, keep_for(what, now)});
  t.calm_until = calm_until(life_of(what), r);
  return shared_.l1.insert(key, what, t, shared_.fence, stamp, owner_of(r), how);
}

task<cache::explanation> cache::explain(read_request request) {
  request.tags = tags_of(request);
  explanation out;
  out.tags = request.tags;
  const auto held = shared_.l1.find(request.key, worker_.time->wall_now(), shared_.fence);
  out.l1 = held.value;
  out.l1_standing = standing_of(held);
  out.loading = shared_.flights.under_way(request.key);
  out.store_configured = store_ != nullptr;
  if (!store_) co_return out;
  out.l2 = co_await store_->read(item_of(request));
  out.stored = co_await store_->inspect(request.key);
  co_return out;
}

task<cache::put_outcome> cache::put(read_request to, std::unique_ptr<loaded> given) {
  const route& r = *to.to;
  to.tags = tags_of(to);
  if (given->content_type.empty()) given->content_type = r.content_type;
  tag_stamp tags;
  if (store_ && !to.tags.empty()) {
    auto versions = co_await store_->tag_versions(item_of(to));
    if (!versions) co_return put_outcome::unconfirmed;
    tags = {proto::hash_tags(to.tags), std::move(*versions)};
  }
  const auto now = worker_.time->wall_now();
  const auto made = compose(*given, r.rules, nullptr, now, core::microseconds(0), worker_.random->unit(), tags);
  const std::vector<std::string> keys{to.key};
  shared_.forget(keys);
  const auto stamp = shared_.fence.take(to.key, to.tags);
  if (!store_) {
    if (!made.storable) co_return put_outcome::done;
    if (!shared_.l1.takes(to.key, made.value->content())) co_return put_outcome::too_large;
    keep_in_l1(to.key, r, made.value->content(), stamp, arrival::made);
    co_return put_outcome::done;
  }
  bool done = false;
  if (made.storable) {
    done = co_await store_->put(item_of(to), made.value, now);  // not remembered: a Redis with older data has an older value, or none
  } else {
    const auto removed = co_await store_->invalidate(keys, mode::purge, now);
    done = removed.has_value();
    if (done) remember(recent_invalidations::kind::key, keys, mode::purge);
  }
  shared_.flights.overtake(to.key);  // begun since then, with what Redis held before
  // Another writer's news may have come meanwhile: then the copy stays out, by the stamp.
  const bool copied = done && made.storable && !terms_.own_fills_are_heard && keep_in_l1(to.key, r, made.value->content(), stamp, arrival::made);
  if (!copied) shared_.forget(keys);
  co_return done ? put_outcome::done : put_outcome::unconfirmed;
}

task<cache::count> cache::invalidate(std::vector<std::string> keys, mode how) {
  if (!store_ && how == mode::expire) {
    std::uint64_t held = 0;
    for (const auto& key : keys) held += mark_stale_in_l1(key) ? 1 : 0;
    co_return held;
  }
  const auto held = shared_.forget(keys);
  if (!store_) co_return held;
  const auto removed = co_await store_->invalidate(keys, how, worker_.time->wall_now());
  shared_.forget(keys);
  if (removed) remember(recent_invalidations::kind::key, keys, how);
  co_return removed;
}

task<cache::count> cache::invalidate_matching(std::string glob, mode how) {
  if (!store_ && how == mode::expire) {
    std::uint64_t held = 0;
    for (const auto& key : shared_.l1.keys_if([&](std::string_view k) { return core::glob_match(glob, k.substr(0, k.find('\0'))); })) held += mark_stale_in_l1(key) ? 1 : 0;
    co_return held;
  }
  const auto held = shared_.forget_matching(glob);
  if (!store_) co_return held;
  auto removed = co_await store_->invalidate_matching(glob, how, worker_.time->wall_now());
  // Variants have names that go on behind the key.
  const bool variants = std::any_of(routes.begin(), routes.end(), [](const route& r) { return !r.forward_headers.empty(); });
  if (removed && variants) {
    const auto more = co_await store_->invalidate_matching(glob + std::string(1, '\0') + "*", how, worker_.time->wall_now());
    if (more) removed = *removed + *more;
    else removed = more;
  }
  shared_.forget_matching(glob);
  if (removed && recent_) recent_->add(recent_invalidations::kind::pattern, std::move(glob), how);
  co_return removed;
}

task<cache::count> cache::invalidate_tags(std::vector<std::string> tags, mode how) {
  if (!store_ && how == mode::expire) {
    for (const auto& tag : tags) shared_.expire_tag(tag, worker_.time->wall_now());
    co_return tags.size();
  }
  for (const auto& tag : tags) shared_.forget_tag(tag);
  if (!store_) co_return tags.size();
  const auto done = co_await store_->invalidate_tags(tags, how);
  for (const auto& tag : tags) shared_.forget_tag(tag);
  if (done) remember(recent_invalidations::kind::tag, tags, how);
  co_return done;
}

task<cache::count> cache::invalidate_variants(std::vector<std::string> keys, mode how) {
  if (has_tags()) {
    for (auto& key : keys) key = variants_tag(key);
    co_return co_await invalidate_tags(std::move(keys), how);
  }
  std::uint64_t total = 0;
  for (const auto& key : keys) {  // raw bodies carry no tags: they must be looked for
    const auto done = co_await invalidate_matching(proto::glob_escape(key) + std::string(1, '\0') + "*", how);
    if (!done) co_return std::nullopt;
    total += *done;
  }
  co_return total;
}

void cache::remember(recent_invalidations::kind what, const std::vector<std::string>& names, mode how) {
  if (!recent_) return;
  for (const auto& name : names) recent_->add(what, name, how);
}

// For a daemon without a store, whose only copy this is.
bool cache::mark_stale_in_l1(const std::string& key) {
  shared_.flights.overtake(key);
  shared_.fence.move(key);
  return shared_.l1.mark_stale(key, worker_.time->wall_now());
}

}  // namespace asidecar::engine
