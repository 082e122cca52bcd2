// Which keys failed to load a moment ago, so that a stale value answers instead of another try: a failing origin is asked once a
// second and key, not once a request. Of fixed size: keys that share a place forget each other, which costs one more try.
// Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "daemon/runtime/clock.hpp"

namespace asidecar::engine {

class recent_failures {
 public:
  static constexpr std::chrono::seconds pause{1};

  void note(std::string_view key, runtime::steady_time now) noexcept {
    const auto [place, mark] = where(key, now);
    places_[place].store(mark, std::memory_order_relaxed);
  }
  bool recent(std::string_view key, runtime::steady_time now) const noexcept {
    const auto [place, mark] = where(key, now);
    const auto noted = places_[place].load(std::memory_order_relaxed);
    // The time counts in ms modulo 2^32, beside 32 bits of the key.
    return noted != 0 && noted >> 32 == mark >> 32 && static_cast<std::uint32_t>(mark - noted) < static_cast<std::uint32_t>(std::chrono::milliseconds(pause).count());
  }

 private:
  struct found {
    std::size_t place;
    std::uint64_t mark;
  };
  static found where(std::string_view key, runtime::steady_time now) noexcept {
    const std::uint64_t hash = std::hash<std::string_view>{}(key);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
    return {hash % places, (hash & 0xFFFFFFFF00000000U) | static_cast<std::uint32_t>(ms)};
  }
  static constexpr std::size_t places = 8192;
  std::array<std::atomic<std::uint64_t>, places> places_{};
};

}  // namespace asidecar::engine
