// One flight's way to a value, as a state machine: take the fill lock, check again, load, store only while the lock is still
// ours. The lock is a lease with a token (Nishtala et al., Scaling Memcache at Facebook, NSDI 2013). Invalidation deletes value
// AND lock, so a load that began before it can never be stored after it. Driver: engine/cache_fill.cpp.
// Pure: time is an argument. One object per load round of a flight.
#pragma once

#include <cstdint>
#include <optional>

#include "daemon/core/freshness.hpp"

namespace asidecar::core {

enum class fill_outcome : std::uint8_t {
  stored,
  not_stored,  // this value cannot be kept
  lock_lost,   // the lock is no longer the token's: it ran out, or an invalidation deleted it
  tag_moved,   // stored, but a tag was invalidated since the load began: nobody will read it
  down,        // the store did not answer, or refused
};

class fill {
 public:
  enum class action : std::uint8_t {
    take_lock,      // SET NX with a new token, and read the value in the same write
    wait,           // someone else holds the lock: sleep for wait_for() or until woken, then take_lock
    adopt,          // the value read with the lock is new enough: it is the result; release the lock if it is ours
    load,           // call the origin; the lock is ours
    load_unfenced,  // call the origin without a lock: the result must not be stored in Redis
    store,          // fill by script, only while the token is still the lock's
    release,        // nothing to store: delete the lock if it is ours
    give_up,        // someone else is at it, and nobody waits here or a stale value will do
    finish,
  };

  struct rules {
    bool use_lock = true;  // a store is there, and the wait for its lock has not been in vain before
    milliseconds lock_wait{0};
    // Entries created up to here are not good enough: the request has seen and refused them. Unset: any fresh entry will do.
    std::optional<wall_time> newer_than;
    bool anew = false;           // no-cache: load in any case
    bool stale_will_do = false;  // a stale value may answer when the wait for the lock gets too long
  };

  explicit fill(rules r) noexcept : rules_(r) {}

  action start() noexcept { return rules_.use_lock ? action::take_lock : load_without_lock(); }

  // `current` is what stands in Redis now, if it decodes. `waited` counts from the flight's first attempt.
  action on_lock_won(const std::optional<lifetime>& current, wall_time now) noexcept;
  action on_lock_busy(const std::optional<lifetime>& current, wall_time now, milliseconds waited, bool anyone_waits) noexcept;
  action on_store_down() noexcept { return load_without_lock(); }

  action on_adopted() noexcept { return release_or_finish(); }
  // `storable`: a value or a negative entry to keep. `overtaken`: this process was told of an invalidation meanwhile.
  action on_loaded(bool storable, bool overtaken) noexcept;
  action on_load_failed() noexcept { return release_or_finish(); }
  // When the store is full it refuses the value, but the lock must not stay for its whole ttl.
  action on_stored(fill_outcome o) noexcept { return o == fill_outcome::down ? action::release : action::finish; }

  bool fenced() const noexcept { return fenced_; }  // the lock was won

  // How long to sleep before the next look at a busy lock. `watched`: its release would wake, so this only finds holders that
  // died: 100 ms. Otherwise it doubles from 5 ms to 50 ms. `u` in (0,1] shortens it by up to half.
  milliseconds wait_for(bool watched, double u) noexcept;

 private:
  action load_without_lock() noexcept;
  action release_or_finish() const noexcept { return fenced_ ? action::release : action::finish; }
  bool good_enough(const std::optional<lifetime>& current, wall_time now) const noexcept;

  rules rules_;
  bool fenced_ = false;
  milliseconds pause_{5};
};

}  // namespace asidecar::core
