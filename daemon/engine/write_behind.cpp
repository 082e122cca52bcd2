#include "daemon/engine/write_behind.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>

namespace asidecar::engine {
namespace {

using core::milliseconds;

constexpr std::size_t entries_at_once = 256;
constexpr std::size_t keys_at_once = 16;
constexpr milliseconds look_every{1000};     // for entries of other instances, and for a lease that has become free
constexpr milliseconds no_journal = std::chrono::hours(1);  // a new configuration wakes
constexpr milliseconds lease_min{10'000};    // or twice the longest write
constexpr milliseconds retry_first{100};
constexpr milliseconds retry_most{5000};
constexpr int answers_max = 20;              // an origin that answers with an error so often will not change its mind

}  // namespace

// Entries that are applied together.
struct write_behind::round {
  std::shared_ptr<cache> through;
  milliseconds lease;
  std::vector<std::vector<journaled_write>> chains;  // one per key, in order
  std::size_t next = 0;
  std::size_t running = 0;
  bool lost = false;  // the lease: nothing more may be begun
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
  while (!stopped_) {
    c = current_();
    auto* const journal = c ? c->journal() : nullptr;
    if (journal == nullptr) {
      co_await sleep(no_journal);
      continue;
    }
    const auto pending = co_await journal->length();
    if (pending) stats_.pending = *pending;
    // Only who has something to do asks for the lease.
    bool mine = false;
    if (pending.value_or(0) > 0) mine = co_await hold_lease(*journal, lease_of(*c));
    if (!mine) {
      co_await sleep(look_every);
      continue;
    }
    auto entries = co_await journal->oldest(entries_at_once);
    if (!entries || entries->empty()) {
      co_await sleep(look_every);
      continue;
    }
    co_await apply_all(c, std::move(*entries));
  }
  if (!token_.empty() && c && c->journal() != nullptr) co_await c->journal()->release_lease(token_);
}

milliseconds write_behind::lease_of(const cache& c) { return std::max(lease_min, 2 * c.longest_write()); }

task<bool> write_behind::hold_lease(write_journal& journal, milliseconds ttl) {
  const auto now = home_.time->now();
  if (!token_.empty() && now < renew_at_) co_return true;
  bool held = false;
  if (!token_.empty()) held = co_await journal.renew_lease(token_, ttl);
  if (!held) {
    token_ = home_.random->token();
    held = co_await journal.take_lease(token_, ttl);
  }
  if (!held) token_.clear();
  renew_at_ = now + ttl / 3;
  co_return held;
}

task<void> write_behind::keep_lease(std::shared_ptr<round> r) {
  for (;;) {
    const bool due = co_await r->stop_keeping->wait_until(home_.time->now() + r->lease / 3);
    if (!due) co_return;
    const bool held = co_await r->through->journal()->renew_lease(token_, r->lease);
    if (!held) r->lost = true;
  }
}

task<void> write_behind::apply_all(std::shared_ptr<cache> c, std::vector<journaled_write> entries) {
  const auto r = std::make_shared<round>();
  r->through = std::move(c);
  r->lease = lease_of(*r->through);
  r->done = home_.time->make_alarm();
  r->stop_keeping = home_.time->make_alarm();
  std::map<std::string, std::size_t> chain_of;
  for (auto& e : entries) {
    const auto [at, is_new] = chain_of.try_emplace(e.key, r->chains.size());
    if (is_new) r->chains.emplace_back();
    r->chains[at->second].push_back(std::move(e));
  }
  home_.tasks.spawn(keep_lease(r));
  r->running = std::min(keys_at_once, r->chains.size());
  for (std::size_t i = r->running; i > 0; --i) home_.tasks.spawn(apply_in_turn(r));
  while (r->running > 0) co_await r->done->wait_until(runtime::steady_time::max());
  r->stop_keeping->ring();
  renew_at_ = home_.time->now();  // looked at before the next round
  if (r->lost) token_.clear();
}

task<void> write_behind::apply_in_turn(std::shared_ptr<round> r) {
  while (r->next < r->chains.size() && !r->lost && !stopped_) {
    const auto chain = std::move(r->chains[r->next++]);
    for (const auto& w : chain) {
      const bool settled = co_await apply(*r, w);
      if (!settled) break;  // the rest of this key must wait
    }
  }
  if (--r->running == 0) r->done->ring();
}

// True when the entry has left the journal.
task<bool> write_behind::apply(round& r, const journaled_write& w) {
  auto& journal = *r.through->journal();
  auto pause = retry_first;
  for (int answers = 0;;) {
    if (r.lost || stopped_) co_return false;
    const auto outcome = co_await r.through->apply(w);
    if (outcome.what == cache::applied::outcome::done) {
      stats_.applied.add();
      const bool removed = co_await journal.done(token_, w.id);
      if (!removed) r.lost = true;
      co_return removed;
    }
    answers += outcome.what == cache::applied::outcome::answered ? 1 : 0;
    if (outcome.what == cache::applied::outcome::refused || answers >= answers_max) {
      events_.event(severity::error, "a journaled write goes to the dead letters", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", outcome.why}});
      stats_.dead.add();
      const bool buried = co_await journal.bury(token_, w, outcome.why);
      if (!buried) r.lost = true;
      co_return buried;
    }
    stats_.retries.add();
    if (pause == retry_first) events_.event(severity::warn, "a journaled write is tried again", {{"route", w.route}, {"key", w.key}, {"id", w.id}, {"why", outcome.why}});
    const auto again = std::chrono::duration_cast<milliseconds>(pause * (0.5 + 0.5 * home_.random->unit()));
    pause = std::min(pause * 2, retry_most);
    const auto bell = home_.time->make_alarm();
    co_await bell->wait_until(home_.time->now() + again);
  }
}

}  // namespace asidecar::engine
