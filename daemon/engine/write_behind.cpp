#include "daemon/engine/write_behind.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>

namespace asidecar::engine {
namespace {

using core::milliseconds;

constexpr std::size_t entries_most = 64;     // of one look at the journal
constexpr std::size_t paused_max = 4096;     // keys; with more, nothing behind them is looked for
constexpr std::size_t keys_at_once = 16;
constexpr milliseconds look_every{1000};     // for entries of other instances, and for a lease that has become free
constexpr milliseconds look_again{100};      // while there is something to do that must wait, at the earliest
constexpr milliseconds no_journal = std::chrono::hours(1);  // a new configuration wakes
constexpr milliseconds lease_margin{5000};   // beyond the longest write
constexpr milliseconds renew_every{1000};
constexpr milliseconds retry_first{100};
constexpr milliseconds retry_most{5000};
constexpr int failures_max = 20;             // an origin that fails over a write so often will not change its mind

}  // namespace

// Entries that are applied together.
struct write_behind::round {
  std::shared_ptr<cache> through;
  milliseconds lease;
  std::vector<std::vector<journaled_write>> chains;  // one per key, in order
  std::size_t next = 0;
  std::size_t running = 0;
  outcome so_far;
  std::unique_ptr<runtime::alarm> done;
  std::unique_ptr<runtime::alarm> stop_keeping;
};

write_behind::write_behind(runtime::worker& home, std::function<std::shared_ptr<cache>()> current, write_behind_stats& stats, event_sink& events)
    : home_(home), current_(std::move(current)), stats_(stats), events_(events), bell_(home.time->make_alarm()), stop_bell_(home.time->make_alarm()) {}

void write_behind::start() { home_.tasks.spawn(live(shared_from_this())); }

void write_behind::stop() {
  stopped_ = true;
  bell_->ring();
  stop_bell_->ring();
}

void write_behind::wake() {
  asio::post(home_.executor(), [self = shared_from_this()] { self->bell_->ring(); });
}

task<void> write_behind::sleep(milliseconds longest) {
  if (!stopped_) co_await bell_->wait_until(home_.time->now() + longest);
}

// While all that was seen must wait. News of further entries does not cut it short: they would all be read again each time.
task<void> write_behind::rest() {
  const auto now = home_.time->now();
  auto until = now + look_every;
  for (const auto& [key, p] : paused_) until = std::min(until, p.until);
  if (!stopped_) co_await stop_bell_->wait_until(std::max(until, now + look_again));
}

task<void> write_behind::live([[maybe_unused]] std::shared_ptr<write_behind> self) {
  std::shared_ptr<cache> c;
  auto wanted = entries_most;
  while (!stopped_) {
    c = current_();
    auto* const journal = c ? c->journal() : nullptr;
    if (journal == nullptr) {
      co_await sleep(no_journal);
      continue;
    }
    const auto pending = co_await journal->length();
    if (pending) stats_.pending = *pending;
    if (pending && !risk_told_) co_await tell_risk(*journal);
    // Only who has something to do asks for the lease.
    bool mine = false;
    if (pending.value_or(0) > 0) mine = co_await hold_lease(*journal, lease_of(*c));
    if (!mine) {
      // Empty, or surely somebody else's since the lease ran out, when all of ours was over.
      if (pending.value_or(1) == 0 || token_.empty()) paused_.clear(), cursor_.clear();
      co_await sleep(look_every);
      continue;
    }
    const bool from_start = cursor_.empty() || some_may_go_on();
    std::string after;
    if (!from_start) after = cursor_;
    auto entries = co_await journal->oldest(wanted, after);
    if (!entries) {  // perhaps more than one reply can hold
      wanted = std::max<std::size_t>(1, wanted / 4);
      co_await rest();
      continue;
    }
    const bool more = entries->size() == wanted;
    const auto last = entries->empty() ? std::string() : entries->back().id;
    wanted = std::min(entries_most, wanted * 2);
    const auto done = co_await apply_all(c, std::move(*entries), from_start);
    const bool look_behind = done.tried == 0 && more && paused_.size() < paused_max;
    cursor_ = look_behind ? last : std::string();
    if (done.settled == 0 && !look_behind) co_await rest();
  }
  // In doubt the lease runs out by itself, so that nobody overtakes what the origin is still at.
  const bool in_doubt = home_.time->now() < doubt_until_;
  if (!token_.empty() && !in_doubt && c && c->journal() != nullptr) co_await c->journal()->turn().release(token_);
}

milliseconds write_behind::lease_of(const cache& c) { return c.longest_write() + lease_margin; }

task<void> write_behind::tell_risk(write_journal& journal) {
  const auto risk = co_await journal.risk();
  risk_told_ = risk.has_value();
  if (risk && !risk->empty()) events_.event(severity::warn, "acknowledged writes of write-behind could get lost", {{"why", *risk}});
}

bool write_behind::some_may_go_on() const {
  const auto now = home_.time->now();
  return std::any_of(paused_.begin(), paused_.end(), [now](const auto& p) { return p.second.until <= now; });
}

// From the middle of the journal, keys that have an entry before it are left alone.
bool write_behind::must_wait(const std::string& key, bool from_start) const {
  const auto known = paused_.find(key);
  return known != paused_.end() && (!from_start || known->second.until > home_.time->now());
}

task<bool> write_behind::hold_lease(write_journal& journal, milliseconds ttl) {
  const auto now = home_.time->now();
  if (!token_.empty() && now < renew_at_) co_return true;
  auto got = answer::no;
  if (!token_.empty()) got = co_await journal.turn().renew(token_, ttl);
  if (got == answer::unknown) co_return false;  // it may still be ours
  if (got == answer::no) {
    token_ = home_.random->token();
    got = co_await journal.turn().take(token_, ttl);
  }
  if (got != answer::yes) {
    if (got == answer::no) token_.clear();
    co_return false;
  }
  valid_until_ = now + ttl;
  renew_at_ = now + renew_every;
  co_return true;
}

task<void> write_behind::keep_lease(std::shared_ptr<round> r) {
  for (;;) {
    const bool due = co_await r->stop_keeping->wait_until(home_.time->now() + renew_every);
    if (!due) co_return;
    const auto now = home_.time->now();
    const auto held = co_await r->through->journal()->turn().renew(token_, r->lease);
    if (held == answer::yes) valid_until_ = now + r->lease;
    if (held == answer::no) valid_until_ = renew_at_ = now;
  }
}

task<write_behind::outcome> write_behind::apply_all(std::shared_ptr<cache> c, std::vector<journaled_write> entries, bool from_start) {
  const auto r = std::make_shared<round>();
  r->through = std::move(c);
  r->lease = lease_of(*r->through);
  r->done = home_.time->make_alarm();
  r->stop_keeping = home_.time->make_alarm();
  std::map<std::string, std::size_t> chain_of;
  for (auto& e : entries) {
    if (must_wait(e.key, from_start)) continue;
    const auto [at, is_new] = chain_of.try_emplace(e.key, r->chains.size());
    if (is_new) r->chains.emplace_back();
    r->chains[at->second].push_back(std::move(e));
  }
  if (r->chains.empty()) co_return outcome();
  r->so_far.tried = r->chains.size();
  home_.tasks.spawn(keep_lease(r));
  r->running = std::min(keys_at_once, r->chains.size());
  for (std::size_t i = r->running; i > 0; --i) home_.tasks.spawn(apply_in_turn(r));
  while (r->running > 0) co_await r->done->wait_until(runtime::steady_time::max());
  r->stop_keeping->ring();
  co_return r->so_far;
}

task<void> write_behind::apply_in_turn(std::shared_ptr<round> r) {
  while (r->next < r->chains.size() && !stopped_) {
    const auto chain = std::move(r->chains[r->next++]);
    for (const auto& w : chain) {
      const bool settled = co_await apply(*r, w);
      if (!settled) break;  // the rest of this key must wait
      ++r->so_far.settled;
    }
  }
  if (--r->running == 0) r->done->ring();
}

// True when the entry has left the journal, and the next one of its key may follow.
task<bool> write_behind::apply(round& r, const journaled_write& w) {
  // It must be over before somebody else may begin.
  if (stopped_ || home_.time->now() + r.through->longest_write() >= valid_until_) co_return false;
  auto& known = paused_[w.key];  // stays where it is: only this chain removes it
  if (known.id != w.id) known = {};
  known.id = w.id;
  bool settled = false;
  if (known.failures >= failures_max) settled = co_await bury(r, w, known.why);
  else settled = co_await attempt(r, w, known);
  if (settled) paused_.erase(w.key);
  co_return settled;
}

task<bool> write_behind::attempt(round& r, const journaled_write& w, pause& known) {
  auto& journal = *r.through->journal();
  const auto over = home_.time->now() + r.through->longest_write();
  const auto got = co_await r.through->apply(w, known.attempts > 0);
  using result = cache::applied::outcome;
  ++known.attempts;
  if (got.what == result::failed) ++known.failures;
  if (got.may_go_on) doubt_until_ = std::max(doubt_until_, over);
  known.why = got.why;
  bool settled = false;
  if (got.what == result::done) {
    const auto left = co_await journal.done(token_, w);
    settled = left == answer::yes;
    if (settled) stats_.applied.add();
  } else if (got.what == result::refused || (known.failures >= failures_max && !got.may_go_on)) {
    settled = co_await bury(r, w, got.why);
  } else {
    stats_.retries.add();
    if (known.attempts == 1) events_.event(severity::warn, "a journaled write is tried again", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", got.why}});
  }
  if (!settled) wait_for(known, got.may_go_on, over);
  co_return settled;
}

void write_behind::wait_for(pause& known, bool may_go_on, runtime::steady_time over) {
  const auto longest = std::min(retry_first * (1 << std::clamp(known.attempts - 1, 0, 6)), retry_most);
  known.until = home_.time->now() + std::chrono::duration_cast<milliseconds>(longest * (0.5 + 0.5 * home_.random->unit()));
  if (may_go_on) known.until = std::max(known.until, over);
}

// To the dead letters. Its last attempt may have been applied late, so the value is removed once more.
task<bool> write_behind::bury(round& r, const journaled_write& w, std::string why) {
  const bool forgotten = co_await r.through->forget(w);
  auto left = answer::no;
  if (forgotten) left = co_await r.through->journal()->bury(token_, w, why);
  if (left != answer::yes) {
    wait_for(paused_[w.key], false, {});
    co_return false;
  }
  events_.event(severity::error, "a journaled write went to the dead letters", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", why}});
  stats_.dead.add();
  co_return true;
}

}  // namespace asidecar::engine
