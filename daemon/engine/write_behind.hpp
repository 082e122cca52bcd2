// Applies the journal of write-behind: one process in the fleet at a time, by a lease. Writes of one key are applied in order, one
// after the other, each when the origin has surely ended with the one before; different keys at the same time. An entry leaves the journal only after the origin has it and the cache was
// told, so a death in between means that it is applied once more: at least once. What the origin refuses for good, or too often,
// goes to the dead letters with the reason. Lives on one thread for the life of the process; wake() from any.
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
  // What came of a look at the journal.
  struct outcome {
    std::size_t tried = 0;    // keys
    std::size_t settled = 0;  // entries that left the journal
  };
  task<outcome> apply_all(std::shared_ptr<cache> c, std::vector<journaled_write> entries, bool from_start);
  bool must_wait(const std::string& key, bool from_start) const;
  bool some_may_go_on() const;
  task<void> apply_in_turn(std::shared_ptr<round> r);
  struct pause;
  task<bool> apply(round& r, const journaled_write& w);
  task<bool> attempt(round& r, const journaled_write& w, pause& known);
  task<bool> bury(round& r, const journaled_write& w, std::string why);
  void wait_for(pause& known, bool may_go_on, runtime::steady_time over);
  task<void> sleep(core::milliseconds longest);
  task<void> rest();

  runtime::worker& home_;
  std::function<std::shared_ptr<cache>()> current_;
  write_behind_stats& stats_;
  event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  std::unique_ptr<runtime::alarm> stop_bell_;
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
  };
  std::string cursor_;  // everything of the journal up to this entry waits; empty: nothing is known of it
  std::unordered_map<std::string, pause> paused_;
  bool risk_told_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
