#include "daemon/engine/cache.hpp"

#include <algorithm>

#include "daemon/engine/compose.hpp"

namespace asidecar::engine {
namespace {

using action = core::lookup::action;
using core::tier;

read_answer served(value_ptr v, core::wall_time now, tier where, read_result counted) {
  read_answer out;
  out.status.ttl = std::chrono::floor<std::chrono::seconds>(v->life().freshness_left(now)).count();
  out.status.detail = where == tier::l1 ? "L1" : "L2";
  out.counted = v->life().negative && counted != read_result::stale ? read_result::negative : counted;
  out.value = std::move(v);
  return out;
}

}  // namespace

value_ptr cache::peek(std::string_view key, const route& r, const proto::request_directives& directives) {
  if (!shared_.l1.enabled() || !directives.none()) return nullptr;
  const auto now = worker_.time->wall_now();
  auto found = shared_.l1.find(key, now);
  if (!found) return nullptr;
  const bool fresh = core::judge(found->life(), directives, now, r.load ? r.rules.early_refresh_beta : 0, worker_.random->unit()) == core::verdict::fresh;
  return fresh ? found : nullptr;
}

task<read_answer> cache::read(read_request request) {
  const route& r = *request.to;
  core::lookup way(request.directives, r.rules, {shared_.l1.enabled(), store_ != nullptr, r.load != nullptr});
  const auto stamp = shared_.fence.take(request.key);
  value_ptr seen;
  tier where = tier::none;
  for (action next = way.start();;) {
    const auto now = worker_.time->wall_now();
    switch (next) {
      case action::read_l1: {
        const auto found = shared_.l1.find(request.key, now);
        if (found) seen = found, where = tier::l1;
        next = found ? way.on_entry(tier::l1, found->life(), now, worker_.random->unit()) : way.on_absent(tier::l1);
        break;
      }
      case action::read_l2: {
        const auto got = co_await store_->read(request.key);
        if (got.found && (!seen || got.found->life().created >= seen->life().created)) seen = got.found, where = tier::l2;
        if (!got.up) next = way.on_store_down();
        else if (!got.found) next = way.on_absent(tier::l2);
        else next = way.on_entry(tier::l2, got.found->life(), worker_.time->wall_now(), worker_.random->unit());
        break;
      }
      case action::serve_and_refresh: start_refresh(request, seen); [[fallthrough]];
      case action::serve: {
        if (where == tier::l2) keep_in_l1(request.key, seen, stamp);
        const bool stale = seen->life().freshness_left(now) <= core::milliseconds(0);
        co_return served(seen, now, where, stale ? read_result::stale : where == tier::l1 ? read_result::l1 : read_result::l2);
      }
      case action::load: {
        if (r.load) co_return co_await join_load(request, way, seen);
        read_answer out;
        out.status.forward = way.reason();
        if (way.store_down()) out.status.detail = "redis-down";
        out.counted = read_result::miss;
        co_return out;
      }
      case action::not_cached: {
        read_answer out;
        out.not_cached = true;
        out.status.forward = way.reason();
        out.counted = read_result::miss;
        co_return out;
      }
      case action::serve_stale:
      case action::fail: std::abort();  // only after a load: see join_load
    }
  }
}

task<read_answer> cache::join_load(const read_request& request, core::lookup& way, value_ptr seen) {
  const route& r = *request.to;
  read_request asked = request;
  bool collapsed = false;
  flight_result_ptr result;
  for (int attempt = 0;; ++attempt) {
    const auto [f, starter] = shared_.flights.join(request.key, shared_.fence, true);
    if (starter) worker_.tasks.spawn(run_flight(shared_from_this(), asked, f, seen));
    else r.stats->coalesced.add();
    collapsed = !starter;
    const bool soft = r.rules.soft_timeout > core::milliseconds(0) && way.has_stale();
    auto give_up = runtime::steady_time::max();
    if (soft) give_up = worker_.time->now() + r.rules.soft_timeout;
    result = co_await f->wait(worker_, give_up);
    if (!result && way.on_load_failed(worker_.time->wall_now(), true) == action::serve_stale)
      co_return served(seen, worker_.time->wall_now(), tier::l2, read_result::stale);
    if (!result) {
      f->expect_waiter();
      result = co_await f->wait(worker_, runtime::steady_time::max());
    }
    // A flight that others began may have ended with a stored value, which this request has refused.
    if (!starter && result->adopted && way.wants_new_load() && attempt == 0) continue;
    // The flight waited in vain for another instance, and no stale value may stand in here (any more): load by oneself.
    if (result->gave_up && attempt < 2 && way.on_load_failed(worker_.time->wall_now(), false) == action::fail) {
      asked.without_lock = true;
      continue;
    }
    break;
  }
  const auto now = worker_.time->wall_now();
  read_answer out;
  if (result->error && way.on_load_failed(now, false) == action::serve_stale) {
    out = served(seen, now, tier::l2, read_result::stale);
    co_return out;
  }
  out.value = result->value;
  out.error = result->error;
  out.status.forward = way.reason();
  out.status.collapsed = collapsed || result->adopted;
  out.status.stored = result->stored && !out.status.collapsed;
  if (way.store_down() || result->store_down) {
    out.status.forward = proto::forward_reason::bypass;
    out.status.detail = "redis-down";
  }
  out.counted = out.error ? read_result::error : read_result::miss;
  co_return out;
}

void cache::start_refresh(const read_request& request, const value_ptr& seen) {
  const auto [f, starter] = shared_.flights.join(request.key, shared_.fence, false);
  if (!starter) return;
  auto behind = request;
  behind.directives = {};
  worker_.tasks.spawn(run_flight(shared_from_this(), std::move(behind), f, seen));
}

bool cache::keep_in_l1(std::string_view key, const value_ptr& v, const fences::stamp& stamp) {
  if (!shared_.l1.enabled()) return false;
  const auto now = worker_.time->wall_now();
  return shared_.l1.insert(key, v, now + std::min(terms_.l1_ttl, keep_for(*v, now)), shared_.fence, stamp);
}

task<std::vector<l2_store::read_outcome>> cache::read_stored(const std::vector<std::string>& keys) {
  if (store_) co_return co_await store_->read_many(keys);
  co_return std::vector<l2_store::read_outcome>(keys.size());
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
void cache::forget(const std::vector<std::string>& keys) {
  for (const auto& key : keys) {
    shared_.fence.move(key);
    shared_.l1.erase(key);
  }
}

task<std::optional<std::uint64_t>> cache::invalidate(std::vector<std::string> keys) {
  std::uint64_t held = 0;
  for (const auto& key : keys) {
    shared_.fence.move(key);
    held += shared_.l1.erase(key) ? 1 : 0;
  }
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
