// Decisions as tables: freshness, a request's way, a flight's way, breaker, bulkhead.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <set>

#include "daemon/core/breaker.hpp"
#include "daemon/core/bulkhead.hpp"
#include "daemon/core/fill.hpp"
#include "daemon/core/lookup.hpp"
#include "daemon/core/s3_fifo.hpp"
#include "daemon/core/tag_template.hpp"

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

TEST_CASE("before calm_until no draw refreshes early, and after it one may") {
  const double smallest = std::ldexp(1.0, -53);  // of random sources
  for (const auto load_time : {0us, 1us, 40'000us, 3'000'000us})
    for (const double beta : {0.0, 0.5, 1.0, 10.0}) {
      auto value = entry(3600s);
      value.load_time = load_time;
      const auto until = calm_until(value, beta);
      CHECK(until <= value.fresh_until());
      CHECK_FALSE(refresh_early(value, until - 1ms, beta, smallest));
      const auto gap = value.fresh_until() - until;
      if (gap > 10ms) CHECK(refresh_early(value, until + gap / 100 + 1ms, beta, smallest));
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
    lookup way(plain, rules, {false, true, true, false});
    CHECK(way.start() == action::read_l2);
    CHECK(way.on_l2(entry(10s), t0 + 1s, 1) == action::serve);
  }
  SECTION("miss, then a load that fails") {
    lookup way(plain, rules, {true, true, true, false});
    CHECK(way.start() == action::read_l1);
    CHECK(way.on_absent(tier::l1, t0) == action::read_l2);
    CHECK(way.on_absent(tier::l2, t0) == action::load);
    CHECK(way.reason() == proto::forward_reason::uri_miss);
    CHECK_FALSE(way.stale_may_serve(t0));
  }
  SECTION("stale within stale_if_error stands in when the load fails") {
    lookup way(plain, rules, {false, true, true, false});
    way.start();
    CHECK(way.on_l2(entry(10s, 0s, 60s), t0 + 20s, 1) == action::load);
    CHECK(way.reason() == proto::forward_reason::stale);
    CHECK(way.stale_may_serve(t0 + 21s));
    CHECK_FALSE(way.stale_may_serve(t0 + 71s));
  }
  SECTION("Redis away") {
    lookup way(plain, rules, {false, true, true, false});
    way.start();
    CHECK(way.on_store_down(t0) == action::load);
    CHECK(way.reason() == proto::forward_reason::bypass);
  }
  SECTION("L1: current answers, everything else is checked in L2 first") {
    lookup current(plain, rules, {true, true, true, false});
    CHECK(current.start() == action::read_l1);
    CHECK(current.on_l1(entry(10s), standing::current, t0 + 1s, 1) == action::serve);
    for (const auto s : {standing::unheard, standing::outdated}) {
      lookup checked(plain, rules, {true, true, true, false});
      checked.start();
      CHECK(checked.on_l1(entry(10s), s, t0 + 1s, 1) == action::read_l2);
      CHECK(checked.on_l2(entry(10s), t0 + 1s, 1) == action::serve);
      // What the store no longer has may have been invalidated: it must not even stand in for a failed load.
      lookup removed(plain, rules, {true, true, true, false});
      removed.start();
      CHECK(removed.on_l1(entry(10s, 0s, 60s), s, t0 + 1s, 1) == action::read_l2);
      CHECK(removed.on_absent(tier::l2, t0 + 1s) == action::load);
      CHECK_FALSE(removed.stale_may_serve(t0 + 1s));
    }
  }
  SECTION("Redis away: only what came to L1 since then answers; the rest stands in when the load fails") {
    lookup since(plain, rules, {true, true, true, false});
    since.start();
    since.on_l1(entry(10s), standing::unheard, t0 + 1s, 1);
    CHECK(since.on_store_down(t0 + 1s) == action::serve_newest);
    lookup before(plain, rules, {true, true, true, false});
    before.start();
    before.on_l1(entry(10s, 0s, 5s), standing::outdated, t0 + 1s, 1);
    CHECK(before.on_store_down(t0 + 1s) == action::load);
    CHECK(before.stale_may_serve(t0 + 1s));
    CHECK_FALSE(before.stale_may_serve(t0 + 15s));
    lookup strict(plain, rules, {true, true, true, false});
    strict.start();
    strict.on_l1(entry(10s), standing::outdated, t0 + 1s, 1);
    strict.on_store_down(t0 + 1s);
    CHECK_FALSE(strict.stale_may_serve(t0 + 1s));
  }
  SECTION("a load that failed a moment ago is not tried again while a stale value may answer") {
    lookup stale(plain, rules, {false, true, true, true});
    stale.start();
    CHECK(stale.on_l2(entry(10s, 0s, 60s), t0 + 20s, 1) == action::serve_newest);
    lookup revalidating(plain, rules, {false, true, true, true});
    revalidating.start();
    CHECK(revalidating.on_l2(entry(10s, 60s, 60s), t0 + 20s, 1) == action::serve);
    lookup dead(plain, rules, {false, true, true, true});
    dead.start();
    CHECK(dead.on_l2(entry(10s), t0 + 20s, 1) == action::load);
    request_directives anew;
    anew.no_cache = true;
    rules.stale_if_error = 60s;
    lookup asked(anew, rules, {false, true, true, true});
    asked.start();
    CHECK(asked.on_l2(entry(10s, 0s, 60s), t0 + 20s, 1) == action::load);
  }
  SECTION("a route that the app fills by itself has nothing to load") {
    lookup way(plain, rules, {false, true, false, false});
    way.start();
    CHECK(way.on_absent(tier::l2, t0) == action::miss);
  }
  SECTION("no-cache loads anew, only-if-cached never loads") {
    request_directives anew;
    anew.no_cache = true;
    lookup fresh(anew, rules, {false, true, true, false});
    CHECK(fresh.start() == action::load);
    request_directives only;
    only.only_if_cached = true;
    lookup cached(only, rules, {false, true, true, false});
    cached.start();
    CHECK(cached.on_absent(tier::l2, t0) == action::not_cached);
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
    CHECK(f.on_stored(fill_outcome::lock_lost) == action::finish);
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

TEST_CASE("S3-FIFO: one-hit wonders leave early, what is used stays, ghosts come back for good") {
  struct item : s3_fifo::node {
    std::uint64_t hash = 0;
  };
  const auto hash_of = [](const s3_fifo::node& n) { return static_cast<const item&>(n).hash; };
  std::vector<item> items(4000);
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].bytes(10);
    items[i].hash = i * 0x9E3779B97F4A7C15U;
  }
  s3_fifo policy(1000);  // room for 100
  std::set<std::uint64_t> held;
  const auto insert = [&](std::size_t i) {
    policy.insert(items[i], items[i].hash);
    held.insert(items[i].hash);
    while (policy.over()) {
      auto* out = policy.evict(hash_of);
      REQUIRE(out != nullptr);
      held.erase(hash_of(*out));
    }
    CHECK(policy.bytes() == 10 * held.size());
  };
  for (std::size_t i = 0; i < 50; ++i) insert(i);
  for (std::size_t i = 0; i < 50; ++i) {
    s3_fifo::touch(items[i]);
    s3_fifo::touch(items[i]);
  }
  for (std::size_t i = 100; i < 3000; ++i) insert(i);  // a scan of 29 times the cache
  for (std::size_t i = 0; i < 50; ++i) CHECK(held.count(items[i].hash) == 1);
  // 2990 was just evicted or is still in the small queue; one that is a ghost goes to the main queue at once.
  std::size_t ghost = 2999;
  while (held.count(items[ghost].hash) == 1) --ghost;
  insert(ghost);
  CHECK(items[ghost].in_main());
  CHECK_FALSE(items[2999].in_main());
  std::size_t seen = 0;
  policy.for_each([&](s3_fifo::node& n) {
    policy.remove(n);
    ++seen;
  });
  CHECK(seen == held.size());
  CHECK(policy.bytes() == 0);
  CHECK(policy.evict(hash_of) == nullptr);
}

TEST_CASE("tags take what the key captured") {
  const auto ok = tag_template::parse("a:{id}-{id}:{x}");
  const auto& t = boost::variant2::get<tag_template>(ok);
  CHECK(t.params() == std::vector<std::string>{"id", "id", "x"});
  CHECK(t.format({"1", "1", "y"}) == "a:1-1:y");
  for (const char* bad : {"", "{", "a}", "{1x}", "{}"}) CHECK(boost::variant2::holds_alternative<template_error>(tag_template::parse(bad)));
}
