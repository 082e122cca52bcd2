// What the cache counts. Each thread writes its own object; /metrics sums them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "daemon/runtime/counter.hpp"

namespace asidecar::engine {

enum class read_result : std::uint8_t { l1, l2, miss, stale, negative, error };
inline constexpr std::array<std::string_view, 6> read_result_names{"l1", "l2", "miss", "stale", "negative", "error"};

struct route_stats {
  std::array<runtime::counter, 6> results;  // by read_result
  runtime::latency_histogram latency;
  runtime::counter loads;       // begun for this route, also those that the origin's guard then refuses
  runtime::counter coalesced;   // requests that shared another request's load
  runtime::counter lock_waits;  // flights that found the fill lock held by another instance
};

// One warm-up, in this process.
struct warm_stats {
  runtime::counter runs;
  runtime::counter warmed;  // keys
  runtime::counter failed;
  std::atomic<bool> running{false};
};

// Write-behind, of this process.
struct write_behind_stats {
  std::atomic<std::uint64_t> pending{0};  // entries of the journal, as last seen
  runtime::counter applied;
  runtime::counter retries;
  runtime::counter dead;  // letters
};

// The Redis connection of one thread.
struct store_stats {
  std::atomic<int> up{0};       // connections, of which there are two for a moment at a reload
  runtime::counter commands;
  runtime::counter errors;      // error replies
  runtime::counter timeouts;
  runtime::counter reconnects;
};

}  // namespace asidecar::engine
