#include "daemon/engine/write_behind.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>

namespace asidecar::engine {
namespace {

using core::milliseconds;

constexpr std::size_t entries_first = 64;    // of one look at the journal; adapted
constexpr std::size_t entries_most = 4096;
constexpr std::size_t keys_at_once = 16;
constexpr milliseconds look_every{1000};     // for entries of other instances, and for a lease that has become free
constexpr milliseconds look_again{100};      // while there is something to do that must wait
constexpr milliseconds no_journal = std::chrono::hours(1);  // a new configuration wakes
constexpr milliseconds lease_min{10'000};    // or twice the longest write
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
  std::size_t settled = 0;  // entries that left the journal
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

task<void> write_behind::sleep(milliseconds longest) {
  if (!stopped_) co_await bell_->wait_until(home_.time->now() + longest);
}

task<void> write_behind::live([[maybe_unused]] std::shared_ptr<write_behind> self) {
  std::shared_ptr<cache> c;
  auto wanted = entries_first;
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
      if (pending.value_or(1) == 0) paused_.clear();
      co_await sleep(look_every);
      continue;
    }
    auto entries = co_await journal->oldest(wanted);
    if (!entries) {  // perhaps more than one reply can hold
      wanted = std::max<std::size_t>(1, wanted / 4);
      co_await sleep(look_again);
      continue;
    }
    const auto seen = entries->size();
    const auto settled = co_await apply_all(c, std::move(*entries));
    // When all of what was seen must wait, there may be something behind it that need not.
    if (settled > 0) wanted = std::min(entries_first, std::max<std::size_t>(wanted, 1));
    else if (seen == wanted) wanted = std::min(entries_most, wanted * 2);
    if (settled == 0) co_await sleep(look_again);
  }
  // In doubt the lease runs out by itself, so that nobody overtakes what the origin is still at.
  const bool in_doubt = home_.time->now() < doubt_until_;
  if (!token_.empty() && !in_doubt && c && c->journal() != nullptr) co_await c->journal()->turn().release(token_);
}

milliseconds write_behind::lease_of(const cache& c) { return std::max(lease_min, 2 * c.longest_write()); }

task<void> write_behind::tell_risk(write_journal& journal) {
  const auto risk = co_await journal.risk();
  risk_told_ = true;
  if (!risk.empty()) events_.event(severity::warn, "acknowledged writes of write-behind could get lost", {{"why", risk}});
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
  renew_at_ = now + ttl / 3;
  co_return true;
}

task<void> write_behind::keep_lease(std::shared_ptr<round> r) {
  for (;;) {
    const bool due = co_await r->stop_keeping->wait_until(home_.time->now() + r->lease / 3);
    if (!due) co_return;
    const auto now = home_.time->now();
    const auto held = co_await r->through->journal()->turn().renew(token_, r->lease);
    if (held == answer::yes) valid_until_ = now + r->lease;
    if (held == answer::no) valid_until_ = renew_at_ = now;
  }
}

// How many entries left the journal.
task<std::size_t> write_behind::apply_all(std::shared_ptr<cache> c, std::vector<journaled_write> entries) {
  const auto r = std::make_shared<round>();
  r->through = std::move(c);
  r->lease = lease_of(*r->through);
  r->done = home_.time->make_alarm();
  r->stop_keeping = home_.time->make_alarm();
  std::map<std::string, std::size_t> chain_of;
  for (auto& e : entries) {
    const auto waits = paused_.find(e.key);
    if (waits != paused_.end() && waits->second.until > home_.time->now()) continue;
    const auto [at, is_new] = chain_of.try_emplace(e.key, r->chains.size());
    if (is_new) r->chains.emplace_back();
    r->chains[at->second].push_back(std::move(e));
  }
  if (r->chains.empty()) co_return 0;
  home_.tasks.spawn(keep_lease(r));
  r->running = std::min(keys_at_once, r->chains.size());
  for (std::size_t i = r->running; i > 0; --i) home_.tasks.spawn(apply_in_turn(r));
  while (r->running > 0) co_await r->done->wait_until(runtime::steady_time::max());
  r->stop_keeping->ring();
  co_return r->settled;
}

task<void> write_behind::apply_in_turn(std::shared_ptr<round> r) {
  while (r->next < r->chains.size() && !stopped_) {
    const auto chain = std::move(r->chains[r->next++]);
    for (const auto& w : chain) {
      const auto one = co_await apply(*r, w);
      r->settled += one.settled ? 1 : 0;
      if (!one.go_on) break;  // the rest of this key must wait
    }
  }
  if (--r->running == 0) r->done->ring();
}

task<write_behind::attempt> write_behind::apply(round& r, const journaled_write& w) {
  auto& journal = *r.through->journal();
  // It must be over before somebody else may begin.
  const auto over = home_.time->now() + r.through->longest_write();
  if (stopped_ || over >= valid_until_) co_return attempt();
  const auto before = paused_.find(w.key);
  const bool same = before != paused_.end() && before->second.id == w.id;
  const auto outcome = co_await r.through->apply(w, same && before->second.attempts > 0);
  using result = cache::applied::outcome;
  if (outcome.may_go_on) doubt_until_ = std::max(doubt_until_, over);
  if (!same) paused_[w.key] = {};
  auto& known = paused_[w.key];
  known.id = w.id;
  const int attempts = ++known.attempts;
  const int failures = known.failures += outcome.what == result::failed ? 1 : 0;  // other keys may move it while this waits
  auto left = answer::no;
  if (outcome.what == result::done) {
    left = co_await journal.done(token_, w.id);
    if (left == answer::yes) stats_.applied.add();
  } else if (outcome.what == result::refused || failures >= failures_max) {
    events_.event(severity::error, "a journaled write goes to the dead letters", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", outcome.why}});
    left = co_await journal.bury(token_, w, outcome.why);
    if (left == answer::yes) stats_.dead.add();
  } else {
    stats_.retries.add();
    if (attempts == 1) events_.event(severity::warn, "a journaled write is tried again", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", outcome.why}});
  }
  attempt out;
  out.settled = left == answer::yes;
  out.go_on = out.settled && !outcome.may_go_on;
  if (out.go_on) {
    paused_.erase(w.key);
    co_return out;
  }
  auto& wait = paused_[w.key];
  const auto longest = std::min(retry_first * (1 << std::min(wait.attempts - 1, 6)), retry_most);
  wait.until = home_.time->now() + std::chrono::duration_cast<milliseconds>(longest * (0.5 + 0.5 * home_.random->unit()));
  if (outcome.may_go_on) wait.until = std::max(wait.until, over);
  co_return out;
}

}  // namespace asidecar::engine
