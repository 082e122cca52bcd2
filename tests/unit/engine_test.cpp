// What threads share: fences, L1, flights.
#include <catch2/catch.hpp>
#include <thread>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/compose.hpp"
#include "daemon/engine/flight.hpp"
#include "daemon/engine/shared_state.hpp"

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

TEST_CASE("L1 keeps to its bytes, keeps what is used, and respects fences") {
  fences fence;
  memory_cache l1(1024 * 1024);
  const auto find = [&](const char* key, core::wall_time now) { return l1.find(key, now, fence).value; };
  for (int i = 0; i < 5000; ++i) {
    const auto key = "k" + std::to_string(i);
    l1.insert(key, make_value(std::string(500, 'x'))->content(), {t0 + 10s, t0 + 9s}, fence, fence.take(key));
    find("k0", t0);
  }
  CHECK(l1.bytes() <= 1024 * 1024);
  CHECK(l1.bytes() > 900 * 1024);
  CHECK(l1.entries() < 5000);
  CHECK(find("k0", t0) != nullptr);
  CHECK(find("k0", t0 + 10s) == nullptr);
  const auto stamp = fence.take("late");
  fence.move("late");
  l1.insert("late", make_value("old")->content(), {t0 + 10s, t0 + 9s}, fence, stamp);
  CHECK(find("late", t0) == nullptr);
  const auto before_all = fence.take("late");
  fence.move_all();
  l1.insert("late", make_value("old")->content(), {t0 + 10s, t0 + 9s}, fence, before_all);
  CHECK(find("late", t0) == nullptr);
  l1.insert("large", make_value(std::string(110'000, 'x'))->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("large"));
  CHECK(find("large", t0) == nullptr);
  l1.insert("small", make_value("1")->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("small"));
  l1.insert("small", make_value("2")->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("small"));
  CHECK(find("small", t0)->body() == "2");
  l1.insert("small", make_value(std::string(110'000, 'x'))->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("small"));
  CHECK(find("small", t0) == nullptr);
  CHECK(l1.erase_if([](std::string_view) { return true; }) > 0);
  CHECK(l1.bytes() == 0);
}

TEST_CASE("L1: a value whose tag has moved on is gone, others stay") {
  shared_state shared(1 << 20);
  const std::vector<std::string> people{"people", "user:1"};
  const std::vector<std::string> things{"things"};
  shared.l1.insert("a", make_value("a")->content(), {t0 + 10s, t0 + 9s}, shared.fence, shared.fence.take("a", people));
  shared.l1.insert("b", make_value("b")->content(), {t0 + 10s, t0 + 9s}, shared.fence, shared.fence.take("b", things));
  const auto begun = shared.fence.take("c", people);
  const auto reading = shared.flights.join("d", people, shared.fence).flight;
  const auto other = shared.flights.join("e", things, shared.fence).flight;
  shared.forget_tag("user:1");
  CHECK(shared.l1.find("a", t0, shared.fence).value == nullptr);
  CHECK(shared.l1.find("b", t0, shared.fence).value != nullptr);
  CHECK_FALSE(shared.l1.insert("c", make_value("c")->content(), {t0 + 10s, t0 + 9s}, shared.fence, begun));
  CHECK(reading->overtaken());
  CHECK_FALSE(other->overtaken());
}

TEST_CASE("L1: what was held while the store could not be heard is told apart") {
  shared_state shared(1 << 20);
  const auto insert = [&](const char* key, const fences::stamp& s) { return shared.l1.insert(key, make_value(key)->content(), {t0 + 10s, t0 + 9s}, shared.fence, s); };
  insert("before", shared.fence.take("before"));
  const auto begun = shared.fence.take("slow");
  shared.store_unheard();
  CHECK_FALSE(shared.l1_trusted);
  CHECK_FALSE(shared.l1.find("before", t0, shared.fence).current);
  CHECK_FALSE(insert("slow", begun));
  insert("meanwhile", shared.fence.take("meanwhile"));
  CHECK(shared.l1.find("meanwhile", t0, shared.fence).current);
  shared.store_heard();
  CHECK(shared.l1_trusted);
  CHECK_FALSE(shared.l1.find("meanwhile", t0, shared.fence).current);
  insert("meanwhile", shared.fence.take("meanwhile"));
  CHECK(shared.l1.find("meanwhile", t0, shared.fence).current);
}

TEST_CASE("L1: the fast way takes what is calm, of this configuration, and neither outdated nor overtaken") {
  shared_state shared(1 << 20);
  auto& l1 = shared.l1;
  const std::vector<std::string> people{"people"};
  const auto use = [&](const char* key, core::wall_time now, std::uint32_t generation = 1) {
    std::uint32_t route = 99;
    l1.use_calm(key, now, shared.fence, generation, [&](const proto::record& record, std::uint32_t r) {
      CHECK(record.body == key);
      route = r;
      return true;
    });
    return route;
  };
  for (const char* key : {"a", "b", "c"}) l1.insert(key, make_value(key)->content(), {t0 + 10s, t0 + 5s}, shared.fence, shared.fence.take(key, people), {1, 7});
  CHECK(use("a", t0) == 7);
  CHECK(use("none", t0) == 99);
  CHECK(use("a", t0 + 5s) == 99);
  CHECK(use("a", t0, 2) == 99);
  CHECK(l1.find("a", t0, shared.fence, {2, 3}).value != nullptr);  // the general way tells whose it is now
  CHECK(use("a", t0, 2) == 3);
  CHECK(use("a", t0, 1) == 99);
  const std::vector<std::string> b{"b"};
  shared.forget(b);
  CHECK(use("b", t0) == 99);
  shared.forget_tag("people");
  CHECK(use("c", t0) == 99);
  l1.insert("d", make_value("d")->content(), {t0 + 10s, t0 + 5s}, shared.fence, shared.fence.take("d"), {1, 7});
  CHECK(use("d", t0) == 7);
  CHECK(l1.mark_stale("d", t0));
  CHECK(use("d", t0) == 99);
  l1.insert("e", make_value("e")->content(), {t0 + 10s, t0 + 5s}, shared.fence, shared.fence.take("e"), {1, 7});
  shared.store_unheard();
  CHECK(use("e", t0) == 99);
}

TEST_CASE("L1: a value that is held outlives its entry") {
  fences fence;
  memory_cache l1(1 << 20);
  l1.insert("k", make_value("body")->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("k"));
  const auto held = l1.find("k", t0, fence).value;
  CHECK(l1.erase("k"));
  CHECK(held->body() == "body");
  CHECK(held->content().content_type == "text/plain");
  CHECK(l1.bytes() == 0);
}

TEST_CASE("a flight is joined until an invalidation overtakes it") {
  shared_state shared(0);
  auto& table = shared.flights;
  const auto join = [&](const char* key) { return table.join(key, {}, shared.fence); };
  const auto first = join("k");
  CHECK(first.starter);
  CHECK_FALSE(join("k").starter);
  shared.changed_in_store("k");
  CHECK_FALSE(join("k").starter);
  const std::string key = "k";
  shared.forget({&key, 1});
  CHECK(first.flight->overtaken());
  const auto second = join("k");
  CHECK(second.starter);
  table.leave(first.flight);  // the overtaken one ends: it must not take the new one with it
  CHECK_FALSE(join("k").starter);
  const auto other = join("j");
  shared.forget_matching("k*");
  CHECK(second.flight->overtaken());
  CHECK_FALSE(other.flight->overtaken());
  table.leave(second.flight);
  table.leave(other.flight);
  CHECK(table.size() == 0);
}

TEST_CASE("a failure is remembered for a second, for its key alone") {
  recent_failures failures;
  const runtime::steady_time now{std::chrono::hours(1)};
  failures.note("a", now);
  CHECK(failures.recent("a", now));
  CHECK(failures.recent("a", now + 999ms));
  CHECK_FALSE(failures.recent("a", now + 1000ms));
  CHECK_FALSE(failures.recent("b", now));
}

TEST_CASE("a flight wakes waiters on other threads, also those that come late") {
  fences fence;
  flight_table table;
  const auto f = table.join("k", {}, fence).flight;
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
  CHECK(keep_for(negative.value->content(), t0) == 5s);
  loaded unchanged;
  unchanged.what = loaded::outcome::not_modified;
  CHECK(compose(unchanged, rules, nullptr, t0, 1ms, 1).value == nullptr);
  const auto again = compose(unchanged, rules, make_value("body"), t0 + 20s, 1ms, 1);
  CHECK(again.value->body() == "body");
  CHECK(again.value->life().freshness_left(t0 + 20s) == 1h);
}

TEST_CASE("what is marked stale is not for the fast way, whose clock ever the mark is of") {
  route r;
  proto::record what;
  what.created_ms = t0.time_since_epoch().count();
  what.fresh_ms = 60'000;
  CHECK(cache::fresh_and_calm(what, r, t0 + 1s));
  what.expired_at_ms = what.created_ms + 30'000;  // of a clock that is ahead
  CHECK_FALSE(cache::fresh_and_calm(what, r, t0 + 1s));
}

TEST_CASE("expiring a tag without a store leaves its values stale, and brings nothing back that is gone") {
  shared_state shared(1024 * 1024);
  const std::vector<std::string> people{"people"}, both{"people", "things"};
  const auto insert = [&](const char* key, const std::vector<std::string>& tags) {
    return shared.l1.insert(key, make_value(key)->content(), {t0 + 60s, t0 + 9s}, shared.fence, shared.fence.take(key, tags));
  };
  const auto left = [&](const char* key) {
    const auto found = shared.l1.find(key, t0 + 1s, shared.fence);
    return found.value ? std::optional(found.value->life().freshness_left(t0 + 1s)) : std::nullopt;
  };
  insert("a", people);
  insert("b", both);
  insert("other", {});
  shared.forget_tag("things");  // b is gone, though still held
  shared.expire_tag("people", t0 + 1s);
  CHECK(left("a") == 0ms);
  CHECK(left("b") == std::nullopt);
  CHECK(left("other") == 9s);
  shared.expire_tag("people", t0 + 1s);
  CHECK(left("a") == 0ms);
  shared.forget_tag("people");
  CHECK(left("a") == std::nullopt);
  // One that came after the move is not touched, and a later move removes it.
  shared.forget_tag("people");
  insert("new", people);
  shared.l1.bring_back_stale(fences::slot_of("people"), t0 + 1s, shared.fence);
  shared.forget_tag("people");
  CHECK(left("new") == std::nullopt);
}

TEST_CASE("what was read before a newer value was made does not replace it") {
  shared_state shared(1024 * 1024);
  const auto before = shared.fence.take("k");
  const memory_cache::times times{t0 + 10s, t0 + 9s};
  CHECK(shared.l1.insert("k", make_value("new")->content(), times, shared.fence, shared.fence.take("k"), {}, memory_cache::arrival::made));
  CHECK_FALSE(shared.l1.insert("k", make_value("old")->content(), times, shared.fence, before));
  CHECK(shared.l1.find("k", t0, shared.fence).value->body() == "new");
}
