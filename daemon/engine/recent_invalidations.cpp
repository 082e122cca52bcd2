#include "daemon/engine/recent_invalidations.hpp"

#include <algorithm>
#include <utility>

#include "daemon/engine/cache.hpp"

namespace asidecar::engine {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds again_after_min{1000};  // when Redis did not confirm
constexpr milliseconds again_after_max{30'000};
constexpr std::size_t slice_max = 500;

}  // namespace

void recent_invalidations::list::add(entry e) {
  erase(e);
  bytes += e.name.size();
  const auto at = entries.insert(entries.end(), std::move(e));
  index.emplace(std::tuple(at->what, at->how, std::string_view(at->name)), at);
  while (entries.size() > entries_max || bytes > bytes_max) erase(entries.front());
}

void recent_invalidations::list::erase(const entry& e) {
  const auto known = index.find({e.what, e.how, e.name});
  if (known == index.end()) return;
  const auto at = known->second;
  bytes -= at->name.size();
  index.erase(known);
  entries.erase(at);
}

std::vector<recent_invalidations::entry> recent_invalidations::list::slice() const {
  std::vector<entry> out;
  const auto& first = entries.front();
  const auto most = first.what == kind::pattern ? 1 : slice_max;
  for (auto e = entries.begin(); e != entries.end() && out.size() < most; ++e)
    if (e->what == first.what && e->how == first.how) out.push_back(*e);
  return out;
}

void recent_invalidations::add(kind what, std::string name, mode how) {
  const auto now = home_.time->now();
  kept_.add({what, how, now, std::move(name)});
  while (kept_.entries.front().when < now - age_max) kept_.erase(kept_.entries.front());
}

void recent_invalidations::store_is_up(std::string_view run_id, bool was_lost) {
  const bool same = run_id.empty() ? !was_lost : run_id == run_id_;
  run_id_ = run_id;
  if (!same) {
    ++servers_;
    auto confirmed = std::exchange(kept_, {});
    for (auto& e : confirmed.entries) owed_.add(std::move(e));
  }
  bell_->ring();
  if (owes() && !std::exchange(repeating_, true)) home_.tasks.spawn(repeat_owed(shared_from_this()));
}

void recent_invalidations::stop() {
  stopped_ = true;
  bell_->ring();
}

task<void> recent_invalidations::repeat_owed([[maybe_unused]] std::shared_ptr<recent_invalidations> self) {
  std::size_t repeated = 0;
  auto pause = again_after_min;
  while (owes() && !stopped_) {
    auto some = owed_.slice();
    const auto server = servers_;
    const auto by = current_();
    bool confirmed = false;
    if (by) confirmed = co_await repeat(by, some);
    if (server != servers_) continue;  // confirmed by whom?
    if (confirmed) {
      for (const auto& e : some) owed_.erase(e);
      repeated += some.size();
      pause = again_after_min;
      continue;
    }
    if (pause == again_after_min) events_.event(severity::warn, "redis does not confirm the recent invalidations that are repeated; old values may be served until it does");
    if (!stopped_) co_await bell_->wait_until(home_.time->now() + pause);
    pause = std::min(pause * 2, again_after_max);
  }
  repeating_ = false;
  if (repeated == 0 || owes()) co_return;
  events_.event(severity::warn, "redis has restarted or is another server: recent invalidations were repeated", {{"count", std::to_string(repeated)}});
}

// The cache adds each again, so that it is kept for the next time.
task<bool> recent_invalidations::repeat(std::shared_ptr<cache> by, std::vector<entry> some) {
  const auto what = some.front().what;
  const auto how = some.front().how;
  std::vector<std::string> names;
  for (auto& e : some) names.push_back(std::move(e.name));
  cache::count done;
  if (what == kind::key) done = co_await by->invalidate(std::move(names), how);
  else if (what == kind::tag) done = co_await by->invalidate_tags(std::move(names), how);
  else done = co_await by->invalidate_matching(std::move(names.front()), how);
  co_return done.has_value();
}

}  // namespace asidecar::engine
