// What threads share: fences, L1, flights.
#include <catch2/catch.hpp>
#include <thread>

#include "daemon/engine/compose.hpp"
#include "daemon/engine/flight.hpp"
#include "daemon/engine/memory_cache.hpp"

using namespace asidecar;
using namespace asidecar::engine;
using namespace std::chrono_literals;

namespace {

const core::wall_time t0{1'000'000'000ms};

value_ptr make_value(std::string body, core::milliseconds ttl = 10s) {
  loaded given;
  given.body = std::move(body);
  given.content_type = "text/plain";
  core::policy rules;
  rules.ttl = ttl;
  return compose(given, rules, nullptr, t0, 1ms, 1).value;
}

}  // namespace

TEST_CASE("L1 keeps to its bytes, forgets the least recently used, and respects fences") {
  fences fence;
  memory_cache l1(1024 * 1024);
  for (int i = 0; i < 5000; ++i) {
    const auto key = "k" + std::to_string(i);
    l1.insert(key, make_value(std::string(500, 'x')), t0 + 10s, fence, fence.take(key));
    l1.find("k0", t0);
  }
  CHECK(l1.bytes() <= 1024 * 1024);
  CHECK(l1.entries() < 5000);
  CHECK(l1.find("k0", t0) != nullptr);
  CHECK(l1.find("k0", t0 + 10s) == nullptr);
  const auto stamp = fence.take("late");
  fence.move("late");
  l1.insert("late", make_value("old"), t0 + 10s, fence, stamp);
  CHECK(l1.find("late", t0) == nullptr);
  const auto before_all = fence.take("late");
  fence.move_all();
  l1.insert("late", make_value("old"), t0 + 10s, fence, before_all);
  CHECK(l1.find("late", t0) == nullptr);
  l1.insert("large", make_value(std::string(70'000, 'x')), t0 + 10s, fence, fence.take("large"));
  CHECK(l1.find("large", t0) == nullptr);
}

TEST_CASE("a flight is joined until an invalidation overtakes it") {
  fences fence;
  flight_table table;
  const auto first = table.join("k", fence);
  CHECK(first.starter);
  CHECK_FALSE(table.join("k", fence).starter);
  fence.move("k");
  const auto second = table.join("k", fence);
  CHECK(second.starter);
  table.leave(first.flight);  // the overtaken one ends: it must not take the new one with it
  CHECK_FALSE(table.join("k", fence).starter);
  table.leave(second.flight);
  CHECK(table.size() == 0);
}

TEST_CASE("a flight wakes waiters on other threads, also those that come late") {
  fences fence;
  flight_table table;
  const auto f = table.join("k", fence).flight;
  struct waiting {
    static runtime::task<void> run(runtime::worker& w, flight_ptr f, bool& got) {
      const auto result = co_await f->wait(w, runtime::steady_time::max());
      got = result && result->value && result->value->body() == "v";
      w.guard.reset();
      w.context.stop();
    }
  };
  bool got[2] = {false, false};
  std::vector<std::unique_ptr<runtime::worker>> workers;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i) {
    workers.push_back(std::make_unique<runtime::worker>(i));
    workers[i]->tasks.spawn(waiting::run(*workers[i], f, got[i]));
  }
  threads.emplace_back([&] { workers[0]->context.run(); });
  flight_result result;
  result.value = make_value("v");
  f->finish(std::move(result));
  threads.emplace_back([&] { workers[1]->context.run(); });
  for (auto& t : threads) t.join();
  CHECK(got[0]);
  CHECK(got[1]);
}

TEST_CASE("what an origin answered becomes what is kept") {
  core::policy rules;
  rules.ttl = 10s;
  loaded given;
  given.body = "x";
  CHECK(compose(given, rules, nullptr, t0, 1ms, 1).storable);
  given.storable = false;
  CHECK_FALSE(compose(given, rules, nullptr, t0, 1ms, 1).storable);
  given.storable = true;
  rules.max_value = 0;
  CHECK_FALSE(compose(given, rules, nullptr, t0, 1ms, 1).storable);
  rules = {};
  rules.ttl = 0s;
  CHECK_FALSE(compose(given, rules, nullptr, t0, 1ms, 1).storable);
  loaded none;
  none.what = loaded::outcome::no_record;
  CHECK_FALSE(compose(none, core::policy{}, nullptr, t0, 1ms, 1).storable);
  rules = {};
  rules.negative_ttl = 5s;
  const auto negative = compose(none, rules, nullptr, t0, 1ms, 1);
  CHECK(negative.storable);
  CHECK(negative.value->life().negative);
  CHECK(keep_for(*negative.value, t0) == 5s);
  loaded unchanged;
  unchanged.what = loaded::outcome::not_modified;
  CHECK(compose(unchanged, rules, nullptr, t0, 1ms, 1).value == nullptr);
  const auto again = compose(unchanged, rules, make_value("body"), t0 + 20s, 1ms, 1);
  CHECK(again.value->body() == "body");
  CHECK(again.value->life().freshness_left(t0 + 20s) == 1h);
}
