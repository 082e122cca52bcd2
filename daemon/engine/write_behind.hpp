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
  task<std::size_t> apply_all(std::shared_ptr<cache> c, std::vector<journaled_write> entries);
  task<void> apply_in_turn(std::shared_ptr<round> r);
  struct attempt {
    bool settled = false;  // the entry has left the journal
    bool go_on = false;    // with the next one of its key
  };
  task<attempt> apply(round& r, const journaled_write& w);
  task<void> sleep(core::milliseconds longest);

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
    runtime::steady_time until{};
  };
  std::unordered_map<std::string, pause> paused_;
  bool risk_told_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
