#include "daemon/engine/cache.hpp"

#include <algorithm>

#include "daemon/engine/compose.hpp"

namespace asidecar::engine {
namespace {

using action = core::lookup::action;
using core::tier;

enum class use : std::uint8_t { fresh, stale };

read_answer served(value_ptr v, tier where, use as, core::wall_time now) {
  read_answer out;
  out.status.ttl = std::chrono::floor<std::chrono::seconds>(v->life().freshness_left(now)).count();
  out.status.detail = where == tier::l1 ? "L1" : "L2";
  out.counted = as == use::stale         ? read_result::stale
                : v->life().negative     ? read_result::negative
                : where == tier::l1      ? read_result::l1
                                         : read_result::l2;
  out.value = std::move(v);
  return out;
}

}  // namespace

// The newest entry met on the way.
struct cache::candidate {
  value_ptr value;
  tier where = tier::none;
  void offer(value_ptr v, tier from) {
    if (v && (!value || v->life().created >= value->life().created)) value = std::move(v), where = from;
  }
};

std::optional<read_answer> cache::peek(std::string_view key, const route& r, const proto::request_directives& directives) {
  if (!shared_.l1.enabled() || !directives.none()) return std::nullopt;
  const auto now = worker_.time->wall_now();
  auto found = shared_.l1.find(key, now);
  if (!found) return std::nullopt;
  core::lookup way(directives, r.rules, tiers_of(r));
  if (way.on_entry(tier::l1, found->life(), now, worker_.random->unit()) != action::serve) return std::nullopt;
  return served(std::move(found), tier::l1, use::fresh, now);
}

core::lookup::tiers cache::tiers_of(const route& r) const noexcept { return {shared_.l1.enabled(), store_ != nullptr, r.load != nullptr}; }

task<read_answer> cache::read(read_request request) {
  const route& r = *request.to;
  core::lookup way(request.directives, r.rules, tiers_of(r));
  const auto stamp = shared_.fence.take(request.key);
  candidate seen;
  for (action next = way.start();;) {
    const auto now = worker_.time->wall_now();
    switch (next) {
      case action::read_l1: {
        const auto found = shared_.l1.find(request.key, now);
        seen.offer(found, tier::l1);
        next = found ? way.on_entry(tier::l1, found->life(), now, worker_.random->unit()) : way.on_absent(tier::l1);
        break;
      }
      case action::read_l2: {
        const auto got = co_await store_->read(item_of(request));
        seen.offer(got.found, tier::l2);
        if (!got.up) next = way.on_store_down();
        else if (!got.found) next = way.on_absent(tier::l2);
        else next = way.on_entry(tier::l2, got.found->life(), worker_.time->wall_now(), worker_.random->unit());
        break;
      }
      case action::serve_and_refresh: start_refresh(request, seen.value); [[fallthrough]];
      case action::serve: {
        if (seen.where == tier::l2) keep_in_l1(request.key, seen.value, stamp);
        const bool fresh = seen.value->life().freshness_left(now) > core::milliseconds(0);
        co_return served(seen.value, seen.where, fresh ? use::fresh : use::stale, now);
      }
      case action::load: co_return co_await load_or_join(request, way, std::move(seen));
      case action::miss:
      case action::not_cached: {
        read_answer out;
        out.not_cached = next == action::not_cached;
        out.status.forward = way.reason();
        if (way.store_down()) out.status.detail = "redis-down";
        out.counted = read_result::miss;
        co_return out;
      }
    }
  }
}

// Nothing stored will do: the key's flight, or a stale value in its stead.
task<read_answer> cache::load_or_join(const read_request& request, const core::lookup& way, candidate seen) {
  const auto end = co_await fly(request, way, seen.value);
  const auto now = worker_.time->wall_now();
  const bool stale = end.result ? end.result->error && way.stale_may_serve(now) : true;
  if (stale) co_return served(seen.value, seen.where, use::stale, now);
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
    const bool last = attempt == 2;
    const auto [f, starter] = shared_.flights.join(request.key, shared_.fence);
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
    // The flight waited in vain for another instance, and no stale value may stand in here (any more): load by oneself.
    if (result->gave_up && !way.stale_may_serve(worker_.time->wall_now()) && !last) {
      asked.without_lock = true;
      continue;
    }
    co_return end;
  }
}

void cache::start_refresh(const read_request& request, const value_ptr& seen) {
  const auto [f, starter] = shared_.flights.join(request.key, shared_.fence);
  if (!starter) return;
  auto behind = request;
  behind.directives = {};
  worker_.tasks.spawn(run_flight(shared_from_this(), std::move(behind), f, seen));
}

bool cache::keep_in_l1(std::string_view key, const value_ptr& v, const fences::stamp& stamp) {
  if (!shared_.l1.enabled()) return false;
  const auto now = worker_.time->wall_now();
  return shared_.l1.insert(key, v, now + std::min(times_.l1_ttl, keep_for(*v, now)), shared_.fence, stamp);
}

task<bool> cache::put(const route& r, std::string key, std::string content_type, std::string body) {
  loaded given;
  given.body = std::move(body);
  given.content_type = std::move(content_type);
  if (given.content_type.empty()) given.content_type = r.content_type;
  const auto now = worker_.time->wall_now();
  const auto made = compose(given, r.rules, nullptr, now, core::microseconds(0), worker_.random->unit());
  const std::vector<std::string> keys{key};
  forget(keys);
  if (store_) {
    bool done = false;
    if (made.storable) {
      done = co_await store_->put(key, made.value, now);
    } else {
      const auto removed = co_await store_->remove(keys);
      done = removed.has_value();
    }
    forget(keys);
    if (!done) co_return false;
  }
  if (made.storable) keep_in_l1(key, made.value, shared_.fence.take(key));
  co_return true;
}

// Twice around every removal in Redis: before it, so that loads under way are overtaken; after it, because what was read or
// begun in between saw the old value with a new stamp.
std::uint64_t cache::forget(const std::vector<std::string>& keys) {
  std::uint64_t held = 0;
  for (const auto& key : keys) {
    shared_.fence.move(key);
    held += shared_.l1.erase(key) ? 1 : 0;
  }
  return held;
}

task<std::optional<std::uint64_t>> cache::invalidate(std::vector<std::string> keys) {
  const auto held = forget(keys);
  if (!store_) co_return held;
  const auto removed = co_await store_->remove(keys);
  forget(keys);
  co_return removed;
}

task<std::optional<std::uint64_t>> cache::invalidate_matching(std::string glob) {
  const auto matches = [&glob](std::string_view key) { return core::glob_match(glob, key); };
  shared_.fence.move_all();
  const auto held = shared_.l1.erase_if(matches);
  if (!store_) co_return held;
  const auto removed = co_await store_->remove_matching(glob);
  shared_.fence.move_all();
  shared_.l1.erase_if(matches);
  co_return removed;
}

}  // namespace asidecar::engine
