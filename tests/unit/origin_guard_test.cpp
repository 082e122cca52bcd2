// The guard before an origin, over a loader that does what it is told, on a real worker.
#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "daemon/origin/guard.hpp"

using namespace asidecar;
using namespace asidecar::engine;
using namespace std::chrono_literals;

namespace {

load_outcome value_of(std::string body) {
  loaded out;
  out.body = std::move(body);
  return out;
}

load_outcome error_of(load_error::kind kind) {
  return kind == load_error::kind::bad_key ? load_error::bad_key("told to") : load_error{kind, "told to", 1s};
}

// Answers with what is scripted, the last entry again and again, each after `takes`.
struct fake_loader final : loader {
  explicit fake_loader(runtime::worker& w) : worker(w) {}

  task<load_outcome> load(load_request) override {
    const auto n = calls++;
    most = std::max(most, ++running);
    const auto bell = worker.time->make_alarm();
    co_await bell->wait_until(worker.time->now() + takes);
    --running;
    co_return script[std::min(n, script.size() - 1)];
  }

  runtime::worker& worker;
  std::vector<load_outcome> script{value_of("v")};
  std::chrono::milliseconds takes{0};
  std::size_t calls = 0;
  std::size_t running = 0;
  std::size_t most = 0;
};

struct bench {
  explicit bench(config::origin_settings s) : g(origin::make_guard(s, stats)) {
    auto fake = std::make_unique<fake_loader>(w);
    inner = fake.get();
    outer = origin::guarded(g, w, std::move(fake));
  }

  task<void> call(std::size_t slot, std::chrono::milliseconds budget) {
    load_request request;
    request.deadline = w.time->now() + budget;
    auto outcome = co_await outer->load(std::move(request));
    outcomes[slot] = std::move(outcome);
    if (--left == 0) w.context.stop();
  }

  void run(std::size_t count, std::chrono::milliseconds budget = 2s) {
    outcomes.assign(count, load_outcome());
    left = count;
    for (std::size_t i = 0; i < count; ++i) w.tasks.spawn(call(i, budget));
    w.context.restart();
    w.context.run();
  }

  std::size_t count(load_error::kind kind) const {
    return static_cast<std::size_t>(std::count_if(outcomes.begin(), outcomes.end(), [kind](const auto& o) {
      const auto* e = std::get_if<load_error>(&o);
      return e != nullptr && e->what == kind;
    }));
  }
  std::size_t good() const {
    return static_cast<std::size_t>(
        std::count_if(outcomes.begin(), outcomes.end(), [](const auto& o) { return o.index() == 0; }));
  }

  runtime::worker w{0};
  std::shared_ptr<origin_stats> stats = std::make_shared<origin_stats>();
  std::shared_ptr<origin::guard> g;
  fake_loader* inner = nullptr;
  std::unique_ptr<loader> outer;
  std::vector<load_outcome> outcomes;
  std::size_t left = 0;
};

config::origin_settings settings_with(const std::function<void(config::origin_settings&)>& change) {
  config::origin_settings s;
  change(s);
  return s;
}

}  // namespace

TEST_CASE("the guard lets so many loads run, so many wait, and refuses the rest") {
  bench b(settings_with([](auto& s) { s.max_in_flight = 2, s.queue = 3; }));
  b.inner->takes = 20ms;
  b.run(8);
  CHECK(b.good() == 5);
  CHECK(b.count(load_error::kind::overloaded) == 3);
  CHECK(b.inner->most == 2);
  CHECK(b.stats->loads == 5);
  CHECK(b.stats->refused == 3);
  CHECK(b.stats->in_flight == 0);
  CHECK(b.stats->queued == 0);
  b.run(5);  // every place came back
  CHECK(b.good() == 5);
}

TEST_CASE("a load that waits in the queue until its deadline is given up and leaves no trace") {
  bench b(settings_with([](auto& s) { s.max_in_flight = 1, s.breaker_failures = 1; }));
  b.inner->takes = 80ms;
  b.run(3, 30ms);
  CHECK(b.good() == 1);
  CHECK(b.count(load_error::kind::overloaded) == 2);
  CHECK(b.inner->calls == 1);
  CHECK(b.stats->in_flight == 0);
  CHECK(b.stats->queued == 0);
  CHECK(b.stats->breaker == origin_stats::breaker_state::closed);
}

TEST_CASE("the breaker opens, lets one trial through, and closes or opens again by it") {
  bench b(settings_with([](auto& s) { s.breaker_failures = 2, s.breaker_open = 60ms; }));
  const auto bad = error_of(load_error::kind::failed);
  b.inner->script = {bad, error_of(load_error::kind::timeout), bad, value_of("v")};
  b.run(1);
  b.run(1);
  CHECK(b.stats->breaker == origin_stats::breaker_state::open);
  CHECK_FALSE(b.stats->up);
  b.run(3);
  CHECK(b.count(load_error::kind::open) == 3);
  CHECK(std::get<load_error>(b.outcomes[0]).retry_after >= 1s);
  CHECK(b.inner->calls == 2);
  std::this_thread::sleep_for(70ms);
  b.inner->takes = 10ms;
  b.run(3);  // the trial fails, the others are refused meanwhile
  CHECK(b.count(load_error::kind::failed) == 1);
  CHECK(b.count(load_error::kind::open) == 2);
  CHECK(b.inner->calls == 3);
  std::this_thread::sleep_for(70ms);
  b.run(1);
  CHECK(b.good() == 1);
  CHECK(b.stats->breaker == origin_stats::breaker_state::closed);
  CHECK(b.stats->up);
  CHECK(b.stats->errors == 3);
}

TEST_CASE("a queued load does not reach an origin whose breaker opened meanwhile") {
  bench b(settings_with([](auto& s) { s.max_in_flight = 1, s.breaker_failures = 1; }));
  b.inner->script = {error_of(load_error::kind::failed)};
  b.inner->takes = 10ms;
  b.run(4);
  CHECK(b.inner->calls == 1);
  CHECK(b.count(load_error::kind::open) == 3);
  CHECK(b.stats->in_flight == 0);
}

TEST_CASE("a key the origin cannot take and an absent record say nothing against the origin") {
  bench b(settings_with([](auto& s) { s.breaker_failures = 1, s.retries = 2; }));
  loaded none;
  none.what = loaded::outcome::no_record;
  b.inner->script = {error_of(load_error::kind::bad_key), load_error::refused("told to"), none};
  b.run(1);
  CHECK(b.count(load_error::kind::bad_key) == 1);
  b.run(1);
  CHECK(b.count(load_error::kind::failed) == 1);
  b.run(1);
  CHECK(b.good() == 1);
  CHECK(b.stats->errors == 0);
  CHECK(b.inner->calls == 3);
}

TEST_CASE("failed loads are tried again, timed-out ones are not") {
  bench b(settings_with([](auto& s) { s.retries = 2, s.breaker_failures = 0; }));
  const auto bad = error_of(load_error::kind::failed);
  b.inner->script = {bad, bad, value_of("third")};
  b.run(1);
  CHECK(std::get<loaded>(b.outcomes[0]).body == "third");
  CHECK(b.stats->loads == 3);
  CHECK(b.stats->errors == 2);
  b.inner->script = {error_of(load_error::kind::timeout)};
  b.run(1);
  CHECK(b.count(load_error::kind::timeout) == 1);
  CHECK(b.inner->calls == 4);
  b.inner->script = {bad};
  b.run(1, 5ms);  // no time for a pause
  CHECK(b.count(load_error::kind::failed) == 1);
  CHECK(b.inner->calls == 5);
}

TEST_CASE("the configured delay passes before the call, within the deadline") {
  bench b(settings_with([](auto& s) { s.delay = 30ms; }));
  const auto started = b.w.time->now();
  b.run(1);
  CHECK(b.good() == 1);
  CHECK(b.w.time->now() - started >= 30ms);
  b.run(1, 10ms);
  CHECK(b.count(load_error::kind::timeout) == 1);
  CHECK(b.inner->calls == 1);
}
