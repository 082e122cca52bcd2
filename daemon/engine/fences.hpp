// Fences around L1: whoever is about to read or load a value takes a stamp first, and may put the value into L1 only while the
// stamp holds. Everything that makes a copy old moves a fence before it removes the copy, so an old value cannot come back from a
// slow reader (see docs/ARCHITECTURE.md). Keys and tags share counters by hash: a collision only costs a copy.
// Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cassert>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "proto/record.hpp"

namespace asidecar::engine {

// The tags of a value as counters, and what they stood at. Kept with the value: when one moves on, the copy is old.
struct tag_marks {
  static constexpr std::size_t most = proto::record_tags_max;  // no value has more
  std::array<std::uint16_t, most> slots{};
  std::uint8_t size = 0;
  std::uint64_t sum = 0;
  std::span<const std::uint16_t> used() const noexcept { return std::span(slots).first(size); }
};

class fences {
 public:
  struct stamp {
    std::uint64_t own = 0;
    std::uint64_t all = 0;
    tag_marks tags;
  };

  stamp take(std::string_view key, std::span<const std::string> tags = {}) const noexcept {
    stamp s{keys_[index(key)].load(std::memory_order_acquire), all_.load(std::memory_order_acquire), {}};
    assert(tags.size() <= tag_marks::most);
    for (const auto& tag : tags) s.tags.slots[s.tags.size++] = slot_of(tag);
    s.tags.sum = sum_of(s.tags.used());
    return s;
  }
  bool holds(std::string_view key, const stamp& s) const noexcept {
    return keys_[index(key)].load(std::memory_order_acquire) == s.own && all_.load(std::memory_order_acquire) == s.all && holds(s.tags);
  }
  bool holds(const tag_marks& m) const noexcept { return holds(m.used(), m.sum); }
  bool holds(std::span<const std::uint16_t> slots, std::uint64_t sum) const noexcept { return slots.empty() || sum_of(slots) == sum; }

  static std::uint16_t slot_of(std::string_view tag) noexcept { return static_cast<std::uint16_t>(index(tag)); }

  void move(std::string_view key) noexcept { keys_[index(key)].fetch_add(1, std::memory_order_acq_rel); }
  void move_tag(std::string_view tag) noexcept { tags_[index(tag)].fetch_add(1, std::memory_order_acq_rel); }
  void move_all() noexcept { all_.fetch_add(1, std::memory_order_acq_rel); }

 private:
  static constexpr std::size_t slot_count = 4096;
  static std::size_t index(std::string_view name) noexcept { return std::hash<std::string_view>{}(name) % slot_count; }
  // Counters only grow, so the sum stands still only while all of them do.
  std::uint64_t sum_of(std::span<const std::uint16_t> slots) const noexcept {
    std::uint64_t sum = 0;
    for (const auto slot : slots) sum += tags_[slot].load(std::memory_order_acquire);
    return sum;
  }

  std::array<std::atomic<std::uint64_t>, slot_count> keys_{};
  std::array<std::atomic<std::uint64_t>, slot_count> tags_{};
  std::atomic<std::uint64_t> all_{0};
};

}  // namespace asidecar::engine
