// Invalidation fences of one instance: whoever reads or loads a value takes a stamp first, and may put the value into L1, or
// hand it to a later request, only while the stamp holds. An invalidation moves the fence before it removes anything, so a
// value from before it cannot come back (see docs/ARCHITECTURE.md). Keys share counters by hash: a collision only costs a store.
// Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace asidecar::engine {

class fences {
 public:
  struct stamp {
    std::uint64_t own;
    std::uint64_t all;
  };

  stamp take(std::string_view key) const noexcept {
    return {slot(key).load(std::memory_order_acquire), all_.load(std::memory_order_acquire)};
  }
  bool holds(std::string_view key, const stamp& s) const noexcept {
    const auto now = take(key);
    return now.own == s.own && now.all == s.all;
  }
  void move(std::string_view key) noexcept { slots_[index(key)].fetch_add(1, std::memory_order_acq_rel); }
  void move_all() noexcept { all_.fetch_add(1, std::memory_order_acq_rel); }  // patterns and tags

 private:
  static std::size_t index(std::string_view key) noexcept { return std::hash<std::string_view>{}(key) % slot_count; }
  const std::atomic<std::uint64_t>& slot(std::string_view key) const noexcept { return slots_[index(key)]; }

  static constexpr std::size_t slot_count = 4096;
  std::array<std::atomic<std::uint64_t>, slot_count> slots_{};
  std::atomic<std::uint64_t> all_{0};
};

}  // namespace asidecar::engine
