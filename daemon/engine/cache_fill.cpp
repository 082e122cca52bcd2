// How a flight runs: the driver of core::fill.
#include <cstdlib>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/compose.hpp"

namespace asidecar::engine {

using action = core::fill::action;

namespace {

constexpr core::milliseconds outage_l1_ttl = std::chrono::seconds(1);

}  // namespace

struct cache::fill_round {
  const read_request& request;
  const flight& f;
  value_ptr seen;  // what the request found stored, and would not do
  core::fill way;
  runtime::steady_time started;
  std::string token{};
  value_ptr current{};  // what the lock attempt read
  std::optional<std::string> tag_versions{};  // likewise
  composed made{};
  flight_result result{};
  std::unique_ptr<lock_watch> watch{};  // once another instance was found at work

  const route& to() const { return *request.to; }
};

task<void> cache::run_flight([[maybe_unused]] self_ptr self, read_request request, flight_ptr f, value_ptr seen) {
  core::fill::rules rules;
  rules.use_lock = store_ != nullptr && !request.without_lock;
  rules.lock_wait = terms_.lock_wait;
  rules.anew = request.directives.wants_new_load();
  if (seen) rules.newer_than = seen->life().created;
  rules.stale_will_do = seen && !seen->life().negative && core::usable_on_error(seen->life(), worker_.time->wall_now());
  fill_round round{request, *f, seen, core::fill(rules), worker_.time->now()};
  for (action next = round.way.start(); next != action::finish;) {
    // From here on Redis tells whether the value is still good: who comes now looks there instead of joining.
    if (next == action::store || next == action::release) shared_.flights.leave(f);
    switch (next) {
      case action::take_lock: next = co_await take_lock(round); break;
      case action::wait: next = co_await pause(round); break;
      case action::adopt:
        round.result.value = round.current;
        round.result.adopted = true;
        round.result.doubtful = true;  // to who came after it was read
        keep_in_l1(request.key, *request.to, round.current->content(), f->stamp());
        next = round.way.on_adopted();
        break;
      case action::load:
      case action::load_unfenced: next = co_await load(round); break;
      case action::store: next = co_await store_loaded(round); break;
      case action::release: {
        const bool held = co_await store_->release(request.key, round.token);
        round.result.doubtful = round.result.doubtful || !held || f->overtaken();
        next = action::finish;
        break;
      }
      case action::give_up:
        round.result.gave_up = true;
        round.result.waited_in_vain = worker_.time->now() - round.started >= terms_.lock_wait;
        round.result.error = load_error::failed("another instance is loading it");
        next = action::finish;
        break;
      case action::finish: break;
    }
  }
  // Out of the table first: whoever comes now starts anew instead of joining what is over.
  shared_.flights.leave(f);
  f->finish(std::move(round.result));
}

task<action> cache::take_lock(fill_round& round) {
  round.token = worker_.random->token();
  round.result.load_began = worker_.time->now();
  const auto got = co_await store_->lock(item_of(round.request), round.token);
  round.current = got.current;
  round.tag_versions = got.tag_versions;
  std::optional<core::lifetime> life;
  if (got.current) life = got.current->life();
  const auto now = worker_.time->wall_now();
  switch (got.state) {
    case l2_store::lock_state::won: co_return round.way.on_lock_won(life, now);
    case l2_store::lock_state::busy: {
      const auto waited = std::chrono::duration_cast<core::milliseconds>(worker_.time->now() - round.started);
      co_return round.way.on_lock_busy(life, now, waited, round.f.anyone_waits());
    }
    case l2_store::lock_state::down: break;
  }
  round.result.store_down = true;
  co_return round.way.on_store_down();
}

task<action> cache::pause(fill_round& round) {
  if (!round.watch) {
    round.to().stats->lock_waits.add();
    round.watch = store_->watch_lock(round.request.key);
  }
  co_await round.watch->wait_until(worker_.time->now() + round.way.wait_for(round.watch->live(), worker_.random->unit()));
  co_return action::take_lock;
}

task<action> cache::load(fill_round& round) {
  const route& r = round.to();
  std::shared_ptr<runtime::alarm> stop;
  if (round.way.fenced()) {
    stop = worker_.time->make_alarm();
    worker_.tasks.spawn(keep_lock(shared_from_this(), round.request.key, round.token, stop));
  }
  const auto started = worker_.time->now();
  round.result.load_began = started;
  round.result.doubtful = store_ && !round.way.fenced() && !round.result.store_down;
  r.stats->loads.add();
  // A named object, moved: GCC 12 destroys a braced argument of an awaited call twice.
  load_request asked{round.request.params, round.request.headers, round.seen, started + r.rules.timeout};
  auto outcome = co_await r.load->load(std::move(asked));
  if (stop) stop->ring();
  if (const auto* failure = std::get_if<load_error>(&outcome)) {
    shared_.failures.note(round.request.key, worker_.time->now());
    events_.event(severity::warn, "load failed", {{"route", r.name}, {"origin", r.origin}, {"key", round.request.key}, {"why", failure->detail}});
    round.result.error = *failure;
    co_return round.way.on_load_failed();
  }
  const auto took = std::chrono::duration_cast<core::microseconds>(worker_.time->now() - started);
  auto& answer = std::get<loaded>(outcome);
  if (store_ && !store_->keeps_metadata()) {  // so that a miss is answered as the hits after it
    answer.content_type = r.content_type;
    answer.etag.clear();
  }
  tag_stamp tags;
  if (store_ && !round.request.tags.empty()) tags = {proto::hash_tags(round.request.tags), round.tag_versions.value_or(std::string())};
  round.made = compose(answer, r.rules, round.seen, worker_.time->wall_now(), took, worker_.random->unit(), tags);
  if (!round.made.value) {
    round.result.error = load_error::failed("an answer that makes no sense");
    co_return round.way.on_load_failed();
  }
  round.result.value = round.made.value;
  if (round.request.directives.no_store) round.made.storable = false;
  // Without Redis there is no fill lock to fence the value; the stamp does it for L1.
  if (round.made.storable && !store_) round.result.stored = keep_in_l1(round.request.key, *round.request.to, round.made.value->content(), round.f.stamp());
  // While Redis is away L1 takes the load off the origin. Nobody can be told of an invalidation then, so not for long.
  if (round.made.storable && round.result.store_down) keep_in_l1_untrusted(round.request.key, *round.request.to, round.made.value->content(), round.f.stamp(), outage_l1_ttl);
  if (!round.request.tags.empty() && !round.tag_versions) round.made.storable = false;
  co_return round.way.on_loaded(round.made.storable, round.f.overtaken());
}

task<action> cache::store_loaded(fill_round& round) {
  const auto outcome = co_await store_->fill(item_of(round.request), round.token, round.made.value, worker_.time->wall_now());
  round.result.stored = outcome == core::fill_outcome::stored;
  round.result.doubtful = !round.result.stored && outcome != core::fill_outcome::not_stored;
  if (round.result.stored && !terms_.own_fills_are_heard) keep_in_l1(round.request.key, *round.request.to, round.made.value->content(), round.f.stamp(), arrival::made);
  co_return round.way.on_stored(outcome);
}

// The lock lives for ttl; it is renewed at a third of it, so that one lost renewal does not lose the lock.
task<void> cache::keep_lock([[maybe_unused]] self_ptr self, std::string key, std::string token, std::shared_ptr<runtime::alarm> stop) {
  for (;;) {
    const bool due = co_await stop->wait_until(worker_.time->now() + terms_.lock_ttl / 3);
    if (!due) co_return;
    co_await store_->renew(key, token);
  }
}

}  // namespace asidecar::engine
