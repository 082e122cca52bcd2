#include "tests/sim/truth.hpp"

#include <algorithm>
#include <functional>

namespace asidecar::sim {
namespace {

constexpr milliseconds hearing_max{25};  // how long news may travel, and a lost backplane go unnoticed

}  // namespace

using std::to_string;

void broken(std::string what) { throw failure{std::move(what)}; }

truth::disturbance truth::disturb(const std::string& key, int daemon) {
  auto& list = disturbances_[key];
  list.push_back({world_.now(), steady_time::max(), daemon});
  return {key, list.size() - 1};
}

void truth::killed(int daemon) {
  for (auto& [key, list] : disturbances_)
    for (auto& d : list)
      if (d.daemon == daemon) d.to = std::min(d.to, world_.now());
}

void truth::check_answer(int daemon, const std::string& key, int served, steady_time began, std::string_view detail, bool away) const {
  if (began <= forgetful_until) return;
  const auto at = promises_.find(key);
  if (at == promises_.end()) return;
  for (const auto& p : at->second) {
    if (served >= p.version) continue;
    if (p.daemon != daemon && away) continue;  // promised only while Redis can be reached
    const bool strict = p.daemon == daemon || detail != "L1";
    if (began <= (strict ? p.when : p.when + hearing_max)) continue;
    broken("5.3: daemon " + to_string(p.daemon) + " promised that " + key + " is at least version " + to_string(p.version) + ", but daemon " + to_string(daemon) + " later answered " +
           to_string(served) + " (" + std::string(detail) + ") to a read that began " + to_string(std::chrono::duration_cast<milliseconds>(world_.now() - began).count()) + " ms ago");
  }
}

void truth::check_single_load(int daemon, const std::string& key) const {
  const auto all = disturbances_.find(key);
  for (const auto* other : visitors) {
    if (!other->alive) continue;
    if (other->daemon != daemon && !(calm_ && quiet_)) continue;  // a lock may be lost, or waited for in vain
    const auto at = other->loading.find(key);
    if (at == other->loading.end()) continue;
    for (const auto began : at->second) {
      const auto excuses = [&](const interval& i) { return i.to >= began - lock_wait - seconds(1); };
      const bool overtaken = all != disturbances_.end() && std::any_of(all->second.begin(), all->second.end(), excuses);
      if (!overtaken) broken("5.2: daemon " + to_string(daemon) + " loads " + key + " while daemon " + to_string(other->daemon) + " does");
    }
  }
}

bool truth::poisonous(const std::string& body) noexcept { return std::hash<std::string>{}(body) % 16 == 0; }

void truth::check_applies_alone(const visitor& who) const {
  for (const auto* other : visitors)
    if (other != &who && other->alive && other->applying > 0) broken("5.8: daemons " + to_string(who.daemon) + " and " + to_string(other->daemon) + " apply the journal at the same time");
}

void truth::applied(const std::string& key, const std::string& body, int as_version) {
  const auto id = journal.ids.at(body);
  auto& newest = newest_applied_[key];
  if (id < newest) broken("5.8: write " + to_string(id) + " of " + key + " was applied after write " + to_string(newest));
  newest = id;
  applied_[body] = as_version;
}

int truth::version_of(const std::string& body) const {
  const auto at = applied_.find(body);
  if (at == applied_.end()) broken("5.8: write " + body + " left the journal, and was not applied");
  return at->second;
}

void truth::check_journal_at_the_end() const {
  for (const auto& body : acknowledged_) {
    const auto id = journal.ids.at(body);
    const bool there = applied_.count(body) > 0;
    const bool dead = journal.dead.count(id) > 0;
    if (!there && !dead) broken("5.8: write " + body + " was acknowledged, and neither applied nor among the dead letters");
    if (dead && !poisonous(body)) broken("5.8: write " + body + " is among the dead letters, although the origin would have taken it: " + journal.dead.at(id));
  }
  if (!journal.entries.empty()) broken("5.8: " + to_string(journal.entries.size()) + " writes are still in the journal");
}

void truth::check_warms_alone(const visitor& who) const {
  for (const auto* other : visitors)
    if (calm_ && other != &who && other->alive && other->querying) broken("warming: daemons " + to_string(who.daemon) + " and " + to_string(other->daemon) + " at the same time");
}

}  // namespace asidecar::sim
