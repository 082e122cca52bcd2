#include "daemon/engine/write_behind.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>

#include "daemon/core/backoff.hpp"

namespace asidecar::engine {
namespace {

using core::milliseconds;

constexpr std::size_t page_most = 64;        // entries
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
    : home_(home), current_(std::move(current)), stats_(stats), events_(events), bell_(home.time->make_alarm()) {}

void write_behind::start() { home_.tasks.spawn(live(shared_from_this())); }

void write_behind::stop() {
  stopped_ = true;
  bell_->ring();
}

void write_behind::wake() {
  asio::post(home_.executor(), [self = shared_from_this()] { self->bell_->ring(); });
}

task<void> write_behind::sleep_until(runtime::steady_time when) {
  if (!stopped_) co_await bell_->wait_until(when);
}

void write_behind::begin_pass() {
  cursor_.clear();
  passed_ = false;
  for (auto& [key, p] : paused_) p.met = false;
}

// `whole`: up to the end of the journal.
void write_behind::end_pass(bool whole) {
  passed_ = true;
  passed_at_ = home_.time->now();
  const auto gone = whole ? std::erase_if(paused_, [](const auto& p) { return !p.second.met; }) : 0;
  if (gone > 0) begin_pass();  // what of their keys was left alone comes before what is appended now
}

// When some key may go on. Not at once again: a pass reads the whole journal.
runtime::steady_time write_behind::next_pass() const {
  auto first = passed_at_ + look_every;
  for (const auto& [key, p] : paused_) first = std::min(first, p.until);
  return std::max(first, passed_at_ + (paused_.size() > page_most ? look_every : look_again));
}

task<void> write_behind::live([[maybe_unused]] std::shared_ptr<write_behind> self) {
  std::shared_ptr<cache> c;
  auto wanted = page_most;
  while (!stopped_) {
    c = current_();
    auto* const journal = c ? c->journal() : nullptr;
    if (journal == nullptr) {
      co_await sleep_until(home_.time->now() + no_journal);
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
      if (pending.value_or(1) == 0 || token_.empty()) {
        paused_.clear();
        begin_pass();
      }
      co_await sleep_until(home_.time->now() + look_every);
      continue;
    }
    if (passed_ && home_.time->now() >= next_pass()) begin_pass();
    auto entries = co_await journal->oldest(wanted, cursor_);
    if (!entries) {  // perhaps more than one reply can hold
      wanted = std::max<std::size_t>(1, wanted / 4);
      co_await sleep_until(home_.time->now() + look_again);
      continue;
    }
    const bool end = entries->size() < wanted;
    if (!entries->empty()) cursor_ = entries->back().id;
    wanted = std::min(page_most, wanted * 2);
    const auto done = co_await apply_page(c, std::move(*entries));
    if (done.cut_short) {  // what was left out must come before what is behind it
      begin_pass();
      co_await sleep_until(home_.time->now() + look_again);
    } else if (end || paused_.size() >= paused_max) {
      if (!passed_) end_pass(end);
      if (done.settled == 0) co_await sleep_until(next_pass());
    }
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

// A key whose oldest entry waits is left alone, whatever stands behind it.
task<write_behind::outcome> write_behind::apply_page(std::shared_ptr<cache> c, std::vector<journaled_write> entries) {
  const auto r = std::make_shared<round>();
  r->through = std::move(c);
  r->lease = lease_of(*r->through);
  r->done = home_.time->make_alarm();
  r->stop_keeping = home_.time->make_alarm();
  const auto now = home_.time->now();
  std::map<std::string, std::size_t> chain_of;
  for (auto& e : entries) {
    const auto known = paused_.find(e.key);
    const bool first = known != paused_.end() && known->second.id == e.id;
    if (first) known->second.met = true;
    const bool may_begin = known == paused_.end() || (first && known->second.until <= now);
    if (may_begin && chain_of.try_emplace(e.key, r->chains.size()).second) r->chains.emplace_back();
    const auto chain = chain_of.find(e.key);
    if (chain != chain_of.end()) r->chains[chain->second].push_back(std::move(e));
  }
  if (r->chains.empty()) co_return outcome();
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
  if (stopped_ || home_.time->now() + r.through->longest_write() >= valid_until_) {
    r.so_far.cut_short = true;
    co_return false;
  }
  auto& known = paused_[w.key];  // stays where it is: only this chain removes it
  if (known.id != w.id) known = {};
  known.id = w.id;
  known.met = true;
  bool settled = false;
  const auto over = home_.time->now() + r.through->longest_write();
  bool may_go_on = false;
  if (known.failures >= failures_max) settled = co_await bury(r, w, known.why);
  else settled = co_await attempt(r, w, known, may_go_on);
  if (settled) {
    paused_.erase(w.key);
    co_return true;
  }
  if (may_go_on) doubt_until_ = std::max(doubt_until_, over);
  const auto longest = std::min(retry_first * (1 << std::clamp(known.attempts - 1, 0, 6)), retry_most);
  known.until = home_.time->now() + core::jittered_pause(longest, home_.random->unit());
  if (may_go_on) known.until = std::max(known.until, over);
  co_return false;
}

// `may_go_on`: the origin may still be at it.
task<bool> write_behind::attempt(round& r, const journaled_write& w, pause& known, bool& may_go_on) {
  auto& journal = *r.through->journal();
  const auto got = co_await r.through->apply(w, known.attempts > 0);
  using result = cache::applied::outcome;
  ++known.attempts;
  if (got.what == result::failed) ++known.failures;
  may_go_on = got.may_go_on;
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
  co_return settled;
}

// To the dead letters. Its last attempt may have been applied late, so the value is removed once more.
task<bool> write_behind::bury(round& r, const journaled_write& w, std::string why) {
  const bool forgotten = co_await r.through->forget(w);
  auto left = answer::no;
  if (forgotten) left = co_await r.through->journal()->bury(token_, w, why);
  if (left != answer::yes) co_return false;
  events_.event(severity::error, "a journaled write went to the dead letters", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", why}});
  stats_.dead.add();
  co_return true;
}

}  // namespace asidecar::engine
