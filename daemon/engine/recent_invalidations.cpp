#include "daemon/engine/recent_invalidations.hpp"

#include <array>
#include <utility>
#include <vector>

#include "daemon/engine/cache.hpp"

namespace asidecar::engine {
namespace {

constexpr std::chrono::seconds again_after{1};  // when Redis did not confirm

}  // namespace

void recent_invalidations::list::add(entry e) {
  const auto known = index.find({e.what, e.how, e.name});
  if (known != index.end()) erase(known->second);
  bytes += e.name.size();
  const auto at = entries.insert(entries.end(), std::move(e));
  index.emplace(std::tuple(at->what, at->how, std::string_view(at->name)), at);
}

void recent_invalidations::list::erase(std::list<entry>::iterator at) {
  bytes -= at->name.size();
  index.erase({at->what, at->how, at->name});
  entries.erase(at);
}

void recent_invalidations::add(kind what, std::string name, mode how) {
  kept_.add({what, how, home_.time->now(), std::move(name)});
  forget_old();
}

void recent_invalidations::forget_old() {
  const auto oldest = home_.time->now() - age_max;
  const auto& all = kept_.entries;
  while (!all.empty() && (all.size() > entries_max || kept_.bytes > bytes_max || all.front().when < oldest)) kept_.erase(kept_.entries.begin());
}

void recent_invalidations::store_is_up(std::string_view run_id, bool was_lost) {
  forget_old();
  const bool same = run_id.empty() ? !was_lost : run_id == run_id_;
  run_id_ = run_id;
  owed_ = !kept_.entries.empty() && (owed_ || !same);  // nothing kept, nothing owed: also before the first server
  bell_->ring();
  if (owed_ && !std::exchange(repeating_, true)) home_.tasks.spawn(repeat_until_confirmed(shared_from_this()));
}

void recent_invalidations::stop() {
  stopped_ = true;
  bell_->ring();
}

task<void> recent_invalidations::repeat_until_confirmed([[maybe_unused]] std::shared_ptr<recent_invalidations> self) {
  bool said = false;
  while (owed_ && !stopped_) {
    owed_ = false;
    auto all = std::exchange(kept_, {});
    const auto by = current_();
    bool confirmed = false;
    if (by) confirmed = co_await repeat(by, all);
    if (confirmed) {
      events_.event(severity::warn, "redis has restarted or is another server: recent invalidations were repeated", {{"count", std::to_string(all.entries.size())}});
      continue;
    }
    // Until they are, before what was confirmed meanwhile.
    for (auto& e : kept_.entries) all.add(std::move(e));
    kept_ = std::move(all);
    forget_old();
    owed_ = true;
    if (!std::exchange(said, true)) events_.event(severity::warn, "redis does not confirm the recent invalidations that are repeated; old values may be served until it does");
    if (!stopped_) co_await bell_->wait_until(home_.time->now() + again_after);
  }
  repeating_ = false;
}

// The cache adds each again, so that it is kept for the next time.
task<bool> recent_invalidations::repeat(std::shared_ptr<cache> by, const list& all) {
  constexpr std::array<mode, 2> modes{mode::purge, mode::expire};
  for (const auto how : modes) {
    std::vector<std::string> keys;
    std::vector<std::string> tags;
    for (const auto& e : all.entries) {
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
  for (const auto& e : all.entries) {
    if (e.what != kind::pattern) continue;
    std::string pattern = e.name;
    const auto done = co_await by->invalidate_matching(std::move(pattern), e.how);
    if (!done) co_return false;
  }
  co_return true;
}

}  // namespace asidecar::engine
