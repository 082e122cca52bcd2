// Decisions as tables: freshness, a request's way, a flight's way, breaker, bulkhead.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "daemon/core/breaker.hpp"
#include "daemon/core/bulkhead.hpp"
#include "daemon/core/fill.hpp"
#include "daemon/core/lookup.hpp"

using namespace asidecar;
using namespace asidecar::core;
using namespace std::chrono_literals;
using proto::request_directives;

namespace {

const wall_time t0{1'000'000'000ms};

lifetime entry(milliseconds fresh, milliseconds swr = 0ms, milliseconds sie = 0ms) {
  lifetime l;
  l.created = t0;
  l.fresh_for = fresh;
  l.stale_while_revalidate = swr;
  l.stale_if_error = sie;
  return l;
}

}  // namespace

TEST_CASE("freshness is judged by RFC 9111 and RFC 5861") {
  const auto value = entry(10s, 5s, 20s);
  request_directives plain;
  CHECK(judge(value, plain, t0 + 9s, 0, 1) == verdict::fresh);
  CHECK(judge(value, plain, t0 + 10s, 0, 1) == verdict::revalidate);
  CHECK(judge(value, plain, t0 + 15s, 0, 1) == verdict::unusable);
  request_directives d;
  d.max_age = 3s;
  CHECK(judge(value, d, t0 + 3s, 0, 1) == verdict::fresh);
  CHECK(judge(value, d, t0 + 4s, 0, 1) == verdict::unusable);
  d = {};
  d.min_fresh = 5s;
  CHECK(judge(value, d, t0 + 5s, 0, 1) == verdict::fresh);
  CHECK(judge(value, d, t0 + 6s, 0, 1) == verdict::unusable);
  d = {};
  d.max_stale = 8s;
  CHECK(judge(value, d, t0 + 18s, 0, 1) == verdict::stale_allowed);
  CHECK(judge(value, d, t0 + 19s, 0, 1) == verdict::unusable);
  d = {};
  d.no_cache = true;
  CHECK(judge(value, d, t0, 0, 1) == verdict::unusable);
  CHECK(usable_on_error(value, t0 + 29s));
  CHECK_FALSE(usable_on_error(value, t0 + 30s));
}

TEST_CASE("XFetch refreshes with probability exp(-remaining / (beta * delta))") {
  auto value = entry(10s);
  value.load_time = 1s;
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> unit(0, 1);
  for (const double remaining_s : {0.5, 1.0, 3.0}) {
    const auto now = t0 + 10s - milliseconds(static_cast<int>(remaining_s * 1000));
    constexpr int draws = 100'000;
    int early = 0;
    for (int i = 0; i < draws; ++i) early += refresh_early(value, now, 1.0, 1.0 - unit(random)) ? 1 : 0;
    const double expected = std::exp(-remaining_s);
    const double error = std::sqrt(expected * (1 - expected) / draws);
    CHECK(std::abs(static_cast<double>(early) / draws - expected) < 3 * error);
  }
}

TEST_CASE("jitter only shortens") {
  CHECK(jittered(10s, 0, 1) == 10s);
  CHECK(jittered(10s, 0.5, 1) == 5s);
  CHECK(jittered(10s, 0.5, 1e-12) <= 10s);
}

TEST_CASE("a request's way through the tiers") {
  using action = lookup::action;
  policy rules;
  request_directives plain;
  SECTION("hit in L2") {
    lookup way(plain, rules, {false, true, true});
    CHECK(way.start() == action::read_l2);
    CHECK(way.on_entry(tier::l2, entry(10s), t0 + 1s, 1) == action::serve);
  }
  SECTION("miss, then a load that fails") {
    lookup way(plain, rules, {true, true, true});
    CHECK(way.start() == action::read_l1);
    CHECK(way.on_absent(tier::l1) == action::read_l2);
    CHECK(way.on_absent(tier::l2) == action::load);
    CHECK(way.reason() == proto::forward_reason::uri_miss);
    CHECK_FALSE(way.stale_may_serve(t0));
  }
  SECTION("stale within stale_if_error stands in when the load fails") {
    lookup way(plain, rules, {false, true, true});
    way.start();
    CHECK(way.on_entry(tier::l2, entry(10s, 0s, 60s), t0 + 20s, 1) == action::load);
    CHECK(way.reason() == proto::forward_reason::stale);
    CHECK(way.stale_may_serve(t0 + 21s));
    CHECK_FALSE(way.stale_may_serve(t0 + 71s));
  }
  SECTION("Redis away") {
    lookup way(plain, rules, {false, true, true});
    way.start();
    CHECK(way.on_store_down() == action::load);
    CHECK(way.reason() == proto::forward_reason::bypass);
  }
  SECTION("a route that the app fills by itself has nothing to load") {
    lookup way(plain, rules, {false, true, false});
    way.start();
    CHECK(way.on_absent(tier::l2) == action::miss);
  }
  SECTION("no-cache loads anew, only-if-cached never loads") {
    request_directives anew;
    anew.no_cache = true;
    lookup fresh(anew, rules, {false, true, true});
    CHECK(fresh.start() == action::load);
    request_directives only;
    only.only_if_cached = true;
    lookup cached(only, rules, {false, true, true});
    cached.start();
    CHECK(cached.on_absent(tier::l2) == action::not_cached);
  }
}

TEST_CASE("a flight's way to a value") {
  using action = fill::action;
  fill::rules rules;
  rules.lock_wait = 5s;
  SECTION("lock won: load, store") {
    fill f(rules);
    CHECK(f.start() == action::take_lock);
    CHECK(f.on_lock_won(std::nullopt, t0) == action::load);
    CHECK(f.fenced());
    CHECK(f.on_loaded(true, false) == action::store);
    CHECK(f.on_stored(fill_outcome::stored) == action::finish);
    CHECK(f.on_stored(fill_outcome::not_stored) == action::finish);
    CHECK(f.on_stored(fill_outcome::down) == action::release);
  }
  SECTION("lock won, but someone has just filled: adopt and release") {
    fill f(rules);
    f.start();
    CHECK(f.on_lock_won(entry(10s), t0) == action::adopt);
    CHECK(f.fenced());
    CHECK(f.on_adopted() == action::release);
  }
  SECTION("lock won, but nothing to keep, or an invalidation came meanwhile: release") {
    fill f(rules);
    f.start();
    f.on_lock_won(std::nullopt, t0);
    CHECK(f.on_loaded(false, false) == action::release);
    CHECK(f.on_loaded(true, true) == action::release);
  }
  SECTION("lock busy: wait, at most lock.wait, then load without storing") {
    fill f(rules);
    f.start();
    CHECK(f.on_lock_busy(std::nullopt, t0, 4s, true) == action::wait);
    CHECK(f.on_lock_busy(std::nullopt, t0, 5s, true) == action::load_unfenced);
    CHECK(f.on_loaded(true, false) == action::finish);
  }
  SECTION("lock busy for too long, but a stale value will do") {
    auto stale = rules;
    stale.stale_will_do = true;
    fill f(stale);
    f.start();
    CHECK(f.on_lock_busy(std::nullopt, t0, 4s, true) == action::wait);
    CHECK(f.on_lock_busy(std::nullopt, t0, 5s, true) == action::give_up);
  }
  SECTION("a refresh behind gives up when someone else is at it") {
    fill f(rules);
    f.start();
    CHECK(f.on_lock_busy(std::nullopt, t0, 0s, false) == action::give_up);
  }
  SECTION("an entry that the request refused is not good enough; a newer one is") {
    auto refused = rules;
    refused.newer_than = t0;
    fill f(refused);
    f.start();
    CHECK(f.on_lock_won(entry(10s), t0 + 1s) == action::load);
    auto newer = entry(10s);
    newer.created = t0 + 1s;
    CHECK(fill(refused).on_lock_won(newer, t0 + 2s) == action::adopt);
  }
  SECTION("a failed load releases the lock") {
    fill f(rules);
    f.start();
    f.on_lock_won(std::nullopt, t0);
    CHECK(f.on_load_failed() == action::release);
  }
  SECTION("waits grow and stay bounded") {
    fill f(rules);
    for (int i = 0; i < 20; ++i) {
      const auto pause = f.wait_for(false, 1);
      CHECK(pause > 0ms);
      CHECK(pause <= 51ms);
    }
  }
  SECTION("a watched lock is looked at seldom, and the watch may fail at any time") {
    fill f(rules);
    CHECK(f.wait_for(true, 1) == 101ms);
    CHECK(f.wait_for(true, 0.01) >= 50ms);
    CHECK(f.wait_for(false, 1) == 6ms);
    CHECK(f.wait_for(true, 1) == 101ms);
  }
}

TEST_CASE("the breaker opens after failures in a row, and one trial decides") {
  using state = breaker::state;
  const breaker::time_point now{};
  breaker b(3, 10s);
  b.on_failure(now);
  b.on_failure(now);
  b.on_success();
  b.on_failure(now);
  b.on_failure(now);
  CHECK(b.allow(now));
  b.on_failure(now);
  CHECK(b.current(now) == state::open);
  CHECK_FALSE(b.allow(now + 9s));
  CHECK(b.retry_after(now + 4s) == 6s);
  CHECK(b.allow(now + 10s));
  CHECK_FALSE(b.allow(now + 10s));  // one trial at a time
  b.on_failure(now + 11s);
  CHECK_FALSE(b.allow(now + 20s));
  CHECK(b.allow(now + 21s));
  b.on_success();
  CHECK(b.current(now + 21s) == state::closed);
}

TEST_CASE("the bulkhead lets in, queues in order, refuses") {
  bulkhead b(1, 2);
  CHECK(b.enter(1) == bulkhead::entry::run);
  CHECK(b.enter(2) == bulkhead::entry::wait);
  CHECK(b.enter(3) == bulkhead::entry::wait);
  CHECK(b.enter(4) == bulkhead::entry::refused);
  CHECK(b.abandon(2));
  CHECK(b.leave() == bulkhead::ticket(3));
  CHECK_FALSE(b.abandon(3));
  CHECK_FALSE(b.leave());
  CHECK(b.in_flight() == 0);
}
