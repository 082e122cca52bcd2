// How long to pause between attempts. Pure.
#pragma once

#include <chrono>
#include <cstdint>

namespace asidecar::core {

// Half of `longest` to all of it, so that many who failed together do not come back together; `u` is uniform in (0,1].
inline std::chrono::milliseconds jittered_pause(std::chrono::milliseconds longest, double u) noexcept {
  return std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(longest.count()) * (0.5 + 0.5 * u)));
}

}  // namespace asidecar::core
