// What all threads share, for the life of the process: L1, its fences, the flights. Everything that makes a value old comes
// through here, whether a request of ours or news of other instances. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "daemon/core/glob.hpp"
#include "daemon/engine/fences.hpp"
#include "daemon/engine/flight.hpp"
#include "daemon/engine/memory_cache.hpp"
#include "daemon/engine/recent_failures.hpp"

namespace asidecar::engine {

struct shared_state {
  explicit shared_state(std::uint64_t l1_bytes) : l1(l1_bytes) {}
  fences fence;
  flight_table flights;
  memory_cache l1;
  recent_failures failures;
  // False while other writers cannot be heard: then L1 may only stand in for an origin or a store that is away.
  std::atomic<bool> l1_trusted{true};

  // An invalidation. Call it twice around the removal in the store: before it, so that loads under way are overtaken; after it,
  // because what was read or begun in between saw the old value with a new stamp. Returns how many copies L1 held.
  std::uint64_t forget(std::span<const std::string> keys);
  std::uint64_t forget_matching(std::string_view glob);
  void forget_tag(std::string_view tag);
  void expire_tag(std::string_view tag, core::wall_time now);  // its values stay, stale: for a daemon without a store

  // The store has another value than L1, which is no reason to stop a load.
  void changed_in_store(std::string_view key);
  void everything_changed_in_store();

  void store_unheard();  // nothing is known of other writers from here on
  void store_heard();    // from here on everything is; nothing is known of before
};

}  // namespace asidecar::engine
