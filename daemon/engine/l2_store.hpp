// The port to Redis: the second level and its fill locks. One object per worker thread, used on that thread only. Every call
// is bounded by store.timeout; while the store is away it answers at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/fill.hpp"
#include "daemon/engine/value.hpp"
#include "daemon/runtime/clock.hpp"
#include "daemon/runtime/task.hpp"

namespace asidecar::engine {

using runtime::task;

// Waiting for a fill lock that another instance holds.
class lock_watch {
 public:
  virtual ~lock_watch() = default;
  virtual bool live() const noexcept = 0;  // a release from now on will wake; false: the waiter must look by itself
  // Until released, until live() changed, or `when`. Look at the lock again after each.
  virtual task<void> wait_until(runtime::steady_time when) = 0;
};

class l2_store {
 public:
  virtual ~l2_store() = default;

  struct read_outcome {
    bool up = false;
    value_ptr found;  // null: absent, or it failed its checks
  };
  struct item {
    std::string_view key;
    std::string_view content_type;  // of a body that is stored without metadata
  };
  virtual bool keeps_metadata() const noexcept = 0;  // false: plain bodies, which other apps may have written
  virtual task<read_outcome> read(item what) = 0;

  enum class lock_state : std::uint8_t { won, busy, down };
  struct lock_outcome {
    lock_state state = lock_state::down;
    value_ptr current;  // read in the same write, after the attempt
  };
  // The fill lock: a lease of store.lock.ttl, held by whoever knows the token.
  virtual task<lock_outcome> lock(item what, std::string_view token) = 0;
  virtual task<bool> renew(std::string_view key, std::string_view token) = 0;  // false: lost, or the store is away
  virtual task<void> release(std::string_view key, std::string_view token) = 0;
  virtual std::unique_ptr<lock_watch> watch_lock(std::string_view key) = 0;

  virtual task<core::fill_outcome> fill(std::string_view key, std::string_view token, value_ptr value, core::wall_time now) = 0;

  // Unconditional: the app's own value. Deletes the lock, so that a load under way cannot overwrite it.
  virtual task<bool> put(std::string_view key, value_ptr value, core::wall_time now) = 0;

  // Removes values AND locks. nullopt: the store did not confirm; the number counts values.
  virtual task<std::optional<std::uint64_t>> remove(const std::vector<std::string>& keys) = 0;
  virtual task<std::optional<std::uint64_t>> remove_matching(std::string_view glob) = 0;  // by SCAN, in bounded steps
};

}  // namespace asidecar::engine
