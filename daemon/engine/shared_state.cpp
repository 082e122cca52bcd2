#include "daemon/engine/shared_state.hpp"

#include <algorithm>

namespace asidecar::engine {

std::uint64_t shared_state::forget(std::span<const std::string> keys) {
  std::uint64_t held = 0;
  for (const auto& key : keys) {
    flights.overtake(key);
    fence.move(key);
    held += l1.erase(key) ? 1 : 0;
  }
  return held;
}

std::uint64_t shared_state::forget_matching(std::string_view glob) {
  // Variants of a key go with it.
  const auto matches = [glob](std::string_view key) { return core::glob_match(glob, key.substr(0, key.find('\0'))); };
  flights.overtake_if([&](const flight& f) { return matches(f.key()); });
  fence.move_all();
  return l1.erase_if(matches);
}

void shared_state::forget_tag(std::string_view tag) {
  flights.overtake_if([tag](const flight& f) { return std::find(f.tags().begin(), f.tags().end(), tag) != f.tags().end(); });
  fence.move_tag(tag);
}

void shared_state::expire_tag(std::string_view tag, core::wall_time now) {
  forget_tag(tag);
  l1.bring_back_stale(fences::slot_of(tag), now, fence);
}

void shared_state::changed_in_store(std::string_view key) {
  fence.move(key);
  l1.erase(key);
}

void shared_state::everything_changed_in_store() {
  fence.move_all();
  l1.distrust();
}

void shared_state::store_unheard() {
  l1_trusted.store(false, std::memory_order_release);
  everything_changed_in_store();
}

void shared_state::store_heard() {
  everything_changed_in_store();
  l1_trusted.store(true, std::memory_order_release);
}

}  // namespace asidecar::engine
