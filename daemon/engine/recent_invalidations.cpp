#include "daemon/engine/recent_invalidations.hpp"

#include <array>
#include <utility>

#include "daemon/engine/cache.hpp"

namespace asidecar::engine {

void recent_invalidations::add(kind what, std::string name, mode how) {
  bytes_ += name.size();
  entries_.push_back({what, how, home_.time->now(), std::move(name)});
  forget_old();
}

void recent_invalidations::forget_old() {
  const auto oldest = home_.time->now() - age_max;
  while (!entries_.empty() && (entries_.size() > entries_max || bytes_ > bytes_max || entries_.front().when < oldest)) {
    bytes_ -= entries_.front().name.size();
    entries_.pop_front();
  }
}

void recent_invalidations::store_is_up(std::string_view life) {
  const bool first = life_.empty() && !life.empty();
  const bool other = life.empty() || life != life_;
  life_ = life;
  owed_ = owed_ || (other && !first);
  forget_old();
  if (!owed_ || entries_.empty() || std::exchange(repeating_, true)) return;
  home_.tasks.spawn(repeat(shared_from_this()));
}

task<void> recent_invalidations::repeat([[maybe_unused]] std::shared_ptr<recent_invalidations> self) {
  auto all = std::exchange(entries_, {});
  bytes_ = 0;
  owed_ = false;
  const auto by = current_();
  bool confirmed = false;
  if (by) confirmed = co_await repeat_on(by, all);
  repeating_ = false;
  if (confirmed) {
    events_.event(severity::warn, "redis has another life: recent invalidations were repeated", {{"count", std::to_string(all.size())}});
    co_return;
  }
  // When it is up again. What was confirmed meanwhile is newer.
  owed_ = true;
  auto newer = std::exchange(entries_, {});
  bytes_ = 0;
  for (auto* list : {&all, &newer})
    for (auto& e : *list) add(e.what, std::move(e.name), e.how);
}

// Each adds itself again, for the next time.
task<bool> recent_invalidations::repeat_on(std::shared_ptr<cache> by, const entries& all) {
  constexpr std::array<mode, 2> modes{mode::purge, mode::expire};
  for (const auto how : modes) {
    std::vector<std::string> keys;
    std::vector<std::string> tags;
    for (const auto& e : all) {
      if (e.how != how) continue;
      if (e.what == kind::key) keys.push_back(e.name);
      if (e.what == kind::tag) tags.push_back(e.name);
    }
    if (!keys.empty()) {
      const auto done = co_await by->invalidate(std::move(keys), how);
      if (!done) co_return false;
    }
    if (!tags.empty()) {
      const auto done = co_await by->invalidate_tags(std::move(tags), how);
      if (!done) co_return false;
    }
  }
  for (const auto& e : all) {
    if (e.what != kind::pattern) continue;
    std::string pattern = e.name;
    const auto done = co_await by->invalidate_matching(std::move(pattern), e.how);
    if (!done) co_return false;
  }
  co_return true;
}

}  // namespace asidecar::engine
