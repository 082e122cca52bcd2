// The port to Redis: the second level and its fill locks. One object per worker thread, used on that thread only. Every call
// is bounded by store.timeout; while the store is away it answers at once. What it removes or replaces it also announces to the
// other instances.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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

  // What the store has to know of a key. Views of the caller's, which outlive the call.
  struct item {
    std::string_view key;
    std::string_view content_type;      // of a body that is stored without metadata
    core::milliseconds fresh_for{0};    // of one that is also stored without a TTL
    std::span<const std::string> tags;  // of its values; needs metadata
    std::uint64_t compress_above = 0;   // bodies from this size on are stored compressed; 0: never
  };
  virtual bool keeps_metadata() const noexcept = 0;  // false: raw bodies, which other apps may have written

  struct read_outcome {
    bool up = false;
    value_ptr found;  // null: absent, purged by a tag, or it failed its checks
  };
  virtual task<read_outcome> read(item what) = 0;
  // The fast way for a value without tags: no coroutine, and the record as it lies there. Only while reads_in_place() says so.
  class record_reader {
   public:
    virtual void on_record(bool up, std::string_view record) = 0;  // once, later; an empty record: absent. It lies there for the call only

   protected:
    ~record_reader() = default;
  };
  class pending_read {  // ends unheard when it goes before its answer
   public:
    virtual ~pending_read() = default;
  };
  virtual bool reads_in_place() const noexcept { return false; }
  virtual std::unique_ptr<pending_read> read_in_place([[maybe_unused]] std::string_view key, [[maybe_unused]] record_reader& to) { return nullptr; }
  virtual task<std::vector<read_outcome>> read_many(std::vector<item> what) = 0;  // one command for all

  enum class lock_state : std::uint8_t { won, busy, down };
  struct lock_outcome {
    lock_state state = lock_state::down;
    value_ptr current;  // read in the same write, after the attempt
    // What the tags stand at, for the value to be stored with; nullopt: unknown, so a value with tags cannot be stored.
    std::optional<std::string> tag_versions;
  };
  // The fill lock: a lease of store.lock.ttl, held by whoever knows the token.
  virtual task<lock_outcome> lock(item what, std::string_view token) = 0;
  virtual task<bool> renew(std::string_view key, std::string_view token) = 0;  // false: lost, or the store is away
  virtual task<bool> release(std::string_view key, std::string_view token) = 0;  // true: until now it was the token's
  virtual std::unique_ptr<lock_watch> watch_lock(std::string_view key) = 0;

  virtual task<core::fill_outcome> fill(item what, std::string_view token, value_ptr value, core::wall_time now) = 0;

  // For people who want to know; milliseconds left, unset where there is nothing (or, for the value, no end).
  struct inspection {
    std::optional<std::int64_t> value_ttl_ms;
    std::optional<std::int64_t> lock_ttl_ms;
    std::uint64_t bytes = 0;  // as stored
  };
  virtual task<inspection> inspect(std::string_view key) = 0;

  virtual bool up() const noexcept = 0;
  // Takes the fill lock from whoever has it, and removes the value: for a writer, whose value will be newer than any load's or any
  // earlier writer's. False: the store did not confirm.
  virtual task<bool> seize(std::string_view key, std::string_view token) = 0;

  // What the tags stand at; nullopt: the store did not answer.
  virtual task<std::optional<std::string>> tag_versions(item what) = 0;

  // Unconditional: the app's own value. Deletes the lock, so that a load under way cannot overwrite it.
  virtual task<bool> put(item what, value_ptr value, core::wall_time now) = 0;

  // Purges, or marks stale. Deletes locks too, so that no load under way stores what it has read before. nullopt: the store did
  // not confirm; the number counts values, or tags that were in use.
  enum class mode : std::uint8_t { purge, expire };
  using count = std::optional<std::uint64_t>;
  virtual task<count> invalidate(std::vector<std::string> keys, mode how, core::wall_time now) = 0;
  virtual task<count> invalidate_matching(std::string glob, mode how, core::wall_time now) = 0;  // by SCAN, in bounded steps
  virtual task<count> invalidate_tags(std::vector<std::string> tags, mode how) = 0;
};

}  // namespace asidecar::engine
