#include "daemon/origin/guard.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>
#include <mutex>

#include "daemon/core/backoff.hpp"
#include "daemon/core/breaker.hpp"
#include "daemon/core/bulkhead.hpp"

namespace asidecar::origin {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using engine::origin_stats;
using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds retry_pause{20};  // doubled with each try, shortened at random by up to half

const load_error* error_of(const load_outcome& outcome) {
  return std::get_if<load_error>(&outcome);
}

origin_stats::breaker_state shown(core::breaker::state state) {
  switch (state) {
    case core::breaker::state::closed:
      return origin_stats::breaker_state::closed;
    case core::breaker::state::open:
      return origin_stats::breaker_state::open;
    case core::breaker::state::half_open:
      break;
  }
  return origin_stats::breaker_state::half_open;
}

}  // namespace

class guard {
 public:
  guard(const config::origin_settings& settings, std::shared_ptr<origin_stats> stats)
      : delay(settings.delay),
        retries(settings.retries),
        stats_(std::move(stats)),
        breaker_(settings.breaker_failures, settings.breaker_open),
        bulkhead_(settings.max_in_flight, settings.queue) {}

  class place;

  const milliseconds delay;
  const std::uint32_t retries;

 private:
  struct waiter {
    explicit waiter(runtime::worker& w) : home(w), bell(w.time->make_alarm()) {}
    runtime::worker& home;
    std::unique_ptr<runtime::alarm> bell;  // touched on home's thread only
    bool admitted = false;                 // likewise
  };

  // Both with the mutex held. Frames are also destroyed when a thread's clock is gone already, so the time of
  // the last event has to do for what is shown.
  void leave();
  void show();

  std::shared_ptr<origin_stats> stats_;
  std::mutex mutex_;
  core::breaker breaker_;
  core::bulkhead bulkhead_;
  std::map<core::bulkhead::ticket, std::shared_ptr<waiter>> waiters_;
  core::bulkhead::ticket next_ticket_ = 0;
  steady_time seen_{};
};

void guard::leave() {
  const auto next = bulkhead_.leave();
  if (!next) return;
  const auto found = waiters_.find(*next);
  asio::post(found->second->home.executor(), [w = found->second] {
    w->admitted = true;
    w->bell->ring();
  });
  waiters_.erase(found);
}

void guard::show() {
  stats_->in_flight.store(bulkhead_.in_flight(), std::memory_order_relaxed);
  stats_->queued.store(bulkhead_.queued(), std::memory_order_relaxed);
  stats_->breaker.store(shown(breaker_.current(seen_)), std::memory_order_relaxed);
}

// One load's place in the bulkhead and its permission from the breaker; gives back what it holds, however the
// load ends.
class guard::place {
 public:
  explicit place(guard& g) : guard_(g) {}
  place(const place&) = delete;
  place& operator=(const place&) = delete;
  ~place();

  task<std::optional<load_error>> enter(runtime::worker& w, steady_time deadline);
  // Permission for one call: nullopt. Each permitted call is settled once.
  std::optional<load_error> permit(steady_time now);
  void settle(const load_error* error, steady_time now);

 private:
  enum class state : std::uint8_t { outside, queued, inside };

  load_error refuse(load_error::kind why, steady_time now);

  guard& guard_;
  state state_ = state::outside;
  bool trial_ = false;  // the half-open call is this one's
  core::bulkhead::ticket ticket_ = 0;
};

guard::place::~place() {
  const std::lock_guard hold(guard_.mutex_);
  if (trial_) guard_.breaker_.on_abandoned();
  if (state_ == state::queued) {
    if (guard_.bulkhead_.abandon(ticket_))
      guard_.waiters_.erase(ticket_);
    else
      state_ = state::inside;  // let in, but the news has not arrived
  }
  if (state_ == state::inside) guard_.leave();
  guard_.show();
}

// With the mutex held.
load_error guard::place::refuse(load_error::kind why, steady_time now) {
  guard_.stats_->refused.fetch_add(1, std::memory_order_relaxed);
  guard_.show();
  if (why != load_error::kind::open)
    return {why, "too many loads in flight and queued", std::chrono::seconds(1), true, load_error::progress::not_asked};
  const auto pause = std::chrono::ceil<std::chrono::seconds>(guard_.breaker_.retry_after(now));
  return {why, "the circuit breaker is open", std::max(pause, std::chrono::seconds(1)), true, load_error::progress::not_asked};
}

task<std::optional<load_error>> guard::place::enter(runtime::worker& w, steady_time deadline) {
  std::shared_ptr<waiter> me;
  {
    const std::lock_guard hold(guard_.mutex_);
    guard_.seen_ = w.time->now();
    if (guard_.breaker_.current(guard_.seen_) == core::breaker::state::open)
      co_return refuse(load_error::kind::open, guard_.seen_);
    ticket_ = ++guard_.next_ticket_;
    switch (guard_.bulkhead_.enter(ticket_)) {
      case core::bulkhead::entry::refused:
        co_return refuse(load_error::kind::overloaded, guard_.seen_);
      case core::bulkhead::entry::run:
        state_ = state::inside;
        break;
      case core::bulkhead::entry::wait:
        state_ = state::queued;
        me = std::make_shared<waiter>(w);
        guard_.waiters_.emplace(ticket_, me);
        break;
    }
    guard_.show();
  }
  while (me && !me->admitted) {
    const bool over = co_await me->bell->wait_until(deadline);
    if (!over) continue;
    // The origin was not even asked, so this is no timeout of its own.
    const std::lock_guard hold(guard_.mutex_);
    co_return refuse(load_error::kind::overloaded, w.time->now());
  }
  state_ = state::inside;
  co_return std::nullopt;
}

std::optional<load_error> guard::place::permit(steady_time now) {
  const std::lock_guard hold(guard_.mutex_);
  guard_.seen_ = now;
  const bool half_open = guard_.breaker_.current(now) == core::breaker::state::half_open;
  if (!guard_.breaker_.allow(now)) return refuse(load_error::kind::open, now);
  trial_ = half_open;
  guard_.stats_->loads.fetch_add(1, std::memory_order_relaxed);
  guard_.show();
  return std::nullopt;
}

void guard::place::settle(const load_error* error, steady_time now) {
  const bool failed = error != nullptr && error->origins_fault;
  const std::lock_guard hold(guard_.mutex_);
  guard_.seen_ = now;
  if (error != nullptr && error->got == load_error::progress::not_asked) {
    if (std::exchange(trial_, false)) guard_.breaker_.on_abandoned();
    return guard_.show();
  }
  if (failed)
    guard_.breaker_.on_failure(now);
  else
    guard_.breaker_.on_success();
  trial_ = false;
  if (failed) guard_.stats_->errors.fetch_add(1, std::memory_order_relaxed);
  guard_.stats_->up.store(!failed, std::memory_order_relaxed);
  guard_.show();
}

namespace {

class guarded_loader final : public engine::loader {
 public:
  guarded_loader(std::shared_ptr<guard> g, runtime::worker& w, std::unique_ptr<engine::loader> inner)
      : guard_(std::move(g)), worker_(w), inner_(std::move(inner)) {}

  task<load_outcome> load(load_request request) override;

 private:
  task<load_outcome> call(load_request request);
  task<void> sleep_until(steady_time when);

  std::shared_ptr<guard> guard_;
  runtime::worker& worker_;
  std::unique_ptr<engine::loader> inner_;
};

task<load_outcome> guarded_loader::load(load_request request) {
  const auto keep = guard_;
  guard::place mine(*keep);
  if (auto refused = co_await mine.enter(worker_, request.deadline)) co_return std::move(*refused);
  load_outcome outcome = load_error{};
  milliseconds pause = retry_pause;
  for (std::uint32_t attempt = 0;; ++attempt) {
    if (auto refused = mine.permit(worker_.time->now())) {
      // A breaker that opened between two tries leaves the first one's error to be told.
      if (attempt == 0) co_return std::move(*refused);
      co_return outcome;
    }
    // A named copy: GCC 12 destroys a conditional argument of an awaited call twice.
    load_request asked = request;
    outcome = co_await call(std::move(asked));
    const auto* error = error_of(outcome);
    mine.settle(error, worker_.time->now());
    const bool again_may_help = error != nullptr && error->what == load_error::kind::failed && error->origins_fault;
    if (!again_may_help || attempt >= keep->retries)
      co_return outcome;
    const auto again = worker_.time->now() + core::jittered_pause(pause, worker_.random->unit());
    if (again >= request.deadline) co_return outcome;
    co_await sleep_until(again);
    pause *= 2;
  }
}

task<load_outcome> guarded_loader::call(load_request request) {
  if (guard_->delay > milliseconds(0))
    co_await sleep_until(std::min(request.deadline, worker_.time->now() + guard_->delay));
  if (worker_.time->now() >= request.deadline)
    co_return load_error::timed_out("no time was left for the call");
  co_return co_await inner_->load(std::move(request));
}

task<void> guarded_loader::sleep_until(steady_time when) {
  const auto bell = worker_.time->make_alarm();
  co_await bell->wait_until(when);
}

class guarded_writer final : public engine::writer {
 public:
  guarded_writer(std::shared_ptr<guard> g, runtime::worker& w, std::unique_ptr<engine::writer> inner)
      : guard_(std::move(g)), worker_(w), inner_(std::move(inner)) {}

  const std::vector<std::string>& params() const noexcept override { return inner_->params(); }
  task<engine::write_outcome> write(engine::write_request request) override;

 private:
  std::shared_ptr<guard> guard_;
  runtime::worker& worker_;
  std::unique_ptr<engine::writer> inner_;
};

task<engine::write_outcome> guarded_writer::write(engine::write_request request) {
  const auto keep = guard_;
  guard::place mine(*keep);
  if (auto refused = co_await mine.enter(worker_, request.deadline)) co_return std::move(*refused);
  if (auto refused = mine.permit(worker_.time->now())) co_return std::move(*refused);
  auto outcome = co_await inner_->write(std::move(request));
  mine.settle(std::get_if<load_error>(&outcome), worker_.time->now());
  co_return outcome;
}

}  // namespace

std::shared_ptr<guard> make_guard(const config::origin_settings& settings,
                                  std::shared_ptr<origin_stats> stats) {
  return std::make_shared<guard>(settings, std::move(stats));
}

std::unique_ptr<engine::loader> guarded(std::shared_ptr<guard> g, runtime::worker& worker,
                                        std::unique_ptr<engine::loader> inner) {
  return std::make_unique<guarded_loader>(std::move(g), worker, std::move(inner));
}

std::unique_ptr<engine::writer> guarded(std::shared_ptr<guard> g, runtime::worker& worker, std::unique_ptr<engine::writer> inner) {
  return std::make_unique<guarded_writer>(std::move(g), worker, std::move(inner));
}

}  // namespace asidecar::origin
