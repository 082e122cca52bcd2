#include "daemon/engine/writes_in_doubt.hpp"

#include <algorithm>
#include <vector>

#include "daemon/engine/cache.hpp"

namespace asidecar::engine {
namespace {

constexpr std::chrono::seconds again_after{1};  // when Redis did not confirm

}  // namespace

writes_in_doubt::writes_in_doubt(runtime::worker& home, std::function<std::shared_ptr<cache>()> current, event_sink& events)
    : home_(home), current_(std::move(current)), events_(events), bell_(home.time->make_alarm()) {}

void writes_in_doubt::add(std::string key, bool variants, runtime::steady_time when) {
  if (keys_.size() >= keys_max && keys_.count(key) == 0) {
    events_.event(severity::warn, "too many writes are in doubt: the value of this one may be old until its TTL", {{"key", key}});
    return;
  }
  auto& known = keys_[std::move(key)];
  known.variants = known.variants || variants;
  known.when = std::max(known.when, when);
  bell_->ring();
  if (std::exchange(working_, true)) return;
  home_.tasks.spawn(work(shared_from_this()));
}

void writes_in_doubt::stop() {
  if (working_) last_ = current_();
  stopped_ = true;
  bell_->ring();
}

task<void> writes_in_doubt::work([[maybe_unused]] std::shared_ptr<writes_in_doubt> self) {
  while (!keys_.empty()) {
    const auto first = std::min_element(keys_.begin(), keys_.end(), [](const auto& a, const auto& b) { return a.second.when < b.second.when; })->second.when;
    if (!stopped_ && first > home_.time->now()) co_await bell_->wait_until(first);
    else co_await remove_due();
  }
  working_ = false;
  last_.reset();
}

task<void> writes_in_doubt::remove_due() {
  const auto now = home_.time->now();
  std::vector<std::string> due;
  for (const auto& [key, p] : keys_)
    if (stopped_ || p.when <= now) due.push_back(key);
  for (const auto& key : due) {
    const auto asked = keys_.at(key);
    const auto by = last_ ? last_ : current_();
    bool confirmed = false;
    if (by) {
      const auto removed = co_await by->invalidate_record(key, asked.variants);
      confirmed = removed.has_value();
    }
    const bool anew = keys_.at(key).when != asked.when;  // another write of it came meanwhile
    if (confirmed && !anew) {
      keys_.erase(key);
    } else if (stopped_ || !by) {
      events_.event(severity::warn, "a write is in doubt at the end, and Redis did not confirm: its value may be old until its TTL", {{"key", key}});
      keys_.erase(key);
    } else if (!anew) {
      keys_.at(key).when = home_.time->now() + again_after;
    }
  }
}

}  // namespace asidecar::engine
