// Applies the journal of write-behind: one process in the fleet at a time, by a lease. Writes of one key are applied in order, one
// after the other, each when the origin has surely ended with the one before; different keys at the same time. An entry leaves the
// journal only after the origin has it and the cache was told, so a death in between means that it is applied once more: at least
// once. What the origin refuses for good, or too often, goes to the dead letters with the reason. Lives on one thread for the life of
// the process; wake() from any.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/write_journal.hpp"

namespace asidecar::engine {

class write_behind : public std::enable_shared_from_this<write_behind> {
 public:
  // `current`: the configuration at work; null at the end.
  write_behind(runtime::worker& home, std::function<std::shared_ptr<cache>()> current, write_behind_stats& stats, event_sink& events);

  void start();
  void stop();  // what is being applied ends first
  void wake();  // something was appended

 private:
  struct round;

  task<void> live(std::shared_ptr<write_behind> self);
  static core::milliseconds lease_of(const cache& c);
  task<void> tell_risk(write_journal& journal);
  task<bool> hold_lease(write_journal& journal, core::milliseconds ttl);
  task<void> keep_lease(std::shared_ptr<round> r);
  // What came of a page of the journal.
  struct outcome {
    std::size_t settled = 0;  // entries that left the journal
    bool cut_short = false;   // some were not tried although they could have been
  };
  task<outcome> apply_page(std::shared_ptr<cache> c, std::vector<journaled_write> entries);
  void begin_pass();
  void end_pass(bool whole);
  runtime::steady_time next_pass() const;
  task<void> apply_in_turn(std::shared_ptr<round> r);
  struct pause;
  task<bool> apply(round& r, const journaled_write& w);
  task<bool> attempt(round& r, const journaled_write& w, pause& known, bool& may_go_on);
  task<bool> bury(round& r, const journaled_write& w, std::string why);
  task<void> sleep_until(runtime::steady_time when);

  runtime::worker& home_;
  std::function<std::shared_ptr<cache>()> current_;
  write_behind_stats& stats_;
  event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  std::string token_;  // of the lease; empty: not held
  runtime::steady_time renew_at_{};
  runtime::steady_time valid_until_{};  // of the lease, for sure
  runtime::steady_time doubt_until_{};  // the origin may still be at something of ours
  // Keys whose oldest entry could not be applied, and how it went.
  struct pause {
    std::string id;
    int attempts = 0;
    int failures = 0;
    std::string why;  // the last one
    runtime::steady_time until{};
    bool met = true;  // in this pass; an entry that is not has left the journal
  };
  // The journal is gone through in passes, page by page. Behind the end of a pass, new entries are looked for until some key may go on.
  std::string cursor_;  // of the last entry seen; empty: at the beginning
  bool passed_ = false;
  runtime::steady_time passed_at_{};
  std::unordered_map<std::string, pause> paused_;
  bool risk_told_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
