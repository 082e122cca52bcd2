// L1: values in this process, bounded in bytes with all overhead counted. Each entry is one allocation: 64 bytes of bookkeeping, its
// tags, its key, and the value. Sharded; each shard has a short mutex. Any thread.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/s3_fifo.hpp"
#include "daemon/engine/bucket_index.hpp"
#include "daemon/engine/fences.hpp"
#include "daemon/engine/profiles.hpp"
#include "daemon/engine/value.hpp"

namespace asidecar::engine {

class memory_cache {
 public:
  using owner = entry_owner;
  explicit memory_cache(std::uint64_t bytes_max);
  ~memory_cache();
  memory_cache(const memory_cache&) = delete;
  memory_cache& operator=(const memory_cache&) = delete;

  bool enabled() const noexcept { return shard_bytes_max_ > 0; }

  struct found {
    value_ptr value;      // null: not held
    bool current = true;  // put here since the last distrust()
  };
  // `whose`, if given, becomes the entry's owner: so that use_calm() finds it after a reload, too.
  found find(std::string_view key, core::wall_time now, const fences& fence, const owner& whose = {});
  struct times {
    core::wall_time until;       // ends its life here
    core::wall_time calm_until;  // before that it is fresh, and no draw can ask for its early refresh
  };
  // False, and not kept, when the stamp no longer holds or the value is too large: one must not push out a shard.
  enum class arrival : std::uint8_t {
    read,
    made,  // newer than any that is being read: those stay out
  };
  bool insert(std::string_view key, const proto::record& what, const times& t, fences& fence, const fences::stamp& stamp, const owner& whose = {},
              arrival how = arrival::read);

  // The fast way for what needs no thought: calls use(record, route) under the shard's mutex when the entry is of this generation,
  // current and calm. `route` is an index into what the configuration of that generation has.
  enum class glance : std::uint8_t {
    used,    // use() returned true
    absent,
    other,   // find() tells more
  };
  template <class Use>
  glance use_calm(std::string_view key, core::wall_time now, const fences& fence, std::uint32_t generation, Use use);
  // Waiting for memory is most of what a lookup among many entries takes. These fetch what it will touch into the CPU's caches, in two
  // steps with some time between them, and do nothing when another thread has the shard. The hash is for the second step.
  bool worth_prefetching() const noexcept { return entries() >= entries_in_cpu_caches; }
  std::uint64_t prefetch_index(std::string_view key) {
    const auto hash = hash_of(key);
    const auto& s = shard_of(hash);
    const std::unique_lock hold(s.mutex, std::try_to_lock);
    if (hold) s.index.prefetch_bucket(hash);
    return hash;
  }
  void prefetch_entry(std::uint64_t hash) {
    const auto& s = shard_of(hash);
    const std::unique_lock hold(s.mutex, std::try_to_lock);
    if (hold) s.index.find(hash, [](const entry& e) {
      e.prefetch();
      return true;
    });
  }
  bool erase(std::string_view key);
  // The value is stale from `now` on, if it is not yet. False: not held.
  bool mark_stale(std::string_view key, core::wall_time now);
  // Undoes one move of a tag's counter for the entries that have the tag and hold but for that move: they are stale instead of gone. An
  // entry that is asked for between the two is gone.
  void bring_back_stale(std::uint16_t tag_slot, core::wall_time now, const fences& fence);
  bool takes(std::string_view key, const proto::record& what) const noexcept;  // it is not too large
  template <class Predicate>
  std::uint64_t erase_if(Predicate matches);
  template <class Predicate>
  std::vector<std::string> keys_if(Predicate matches);
  // What is held may be old from now on. It stays, for find() to tell.
  void distrust();

  std::uint64_t bytes() const;
  std::uint64_t largest() const noexcept { return std::min<std::uint64_t>(shard_bytes_max_ / 10, entry::bytes_max); }  // what S3-FIFO has for newcomers
  std::uint64_t entries() const noexcept { return entries_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t time_ms_max = (std::uint64_t(1) << 42) - 1;  // the year 2109
  static constexpr std::uint32_t epochs = 1U << 22;
  static std::uint64_t packed_time(core::wall_time t) noexcept {
    return std::min(static_cast<std::uint64_t>(std::max<std::int64_t>(0, t.time_since_epoch().count())), time_ms_max);
  }

  // Bits are counted here because there may be millions of entries. Its tail, in brackets what stands there only if there is any:
  //   [u64 sum of the tags' counters, u16 counter × tag_count]  key  [u16 length × 3, ETag, origin's ETag, Last-Modified]  body
  struct entry : core::s3_fifo::node {
    std::atomic<std::uint32_t> pins{1};  // the index', and those of values that view it
    std::uint16_t key_size = 0;
    std::uint8_t tag_count = 0;
    bool negative : 1 = false;
    bool has_etag : 1 = false;   // one of our own making, in `etag`
    bool has_texts : 1 = false;  // another ETag, or validators of the origin's
    std::uint64_t until_ms : 42 = 0;
    std::uint64_t profile : 22 = 0;
    std::uint64_t calm_until_ms : 42 = 0;
    std::uint64_t epoch : 22 = 0;
    std::uint64_t created_ms : 42 = 0;
    std::uint64_t load_time : 22 = 0;  // see pack_load_time()
    std::uint64_t fresh_ms = 0;
    std::uint64_t etag = 0;

    struct layout {
      std::optional<std::uint64_t> made_etag;
      std::array<std::string_view, 3> texts{};  // of the value's what is not known otherwise
      bool has_texts = false;
      std::size_t tail = 0;                     // bytes
      std::uint64_t size() const noexcept { return overhead + tail; }
    };
    static layout plan(std::string_view key, const proto::record& what, std::size_t tags) noexcept;
    static entry* make(std::string_view key, const proto::record& what, const layout& planned, const tag_marks& tags);
    static void unpin(entry* e) noexcept;
    // Its first lines at once, instead of one after the other as they turn out to be needed.
    void prefetch() const noexcept {
      for (int line = 0; line < 5; ++line) __builtin_prefetch(reinterpret_cast<const char*>(this) + 64 * line);
    }
    std::string_view key() const noexcept { return {tail() + tag_bytes(tag_count), key_size}; }
    bool tags_hold(const fences& fence) const noexcept;
    std::span<const std::uint16_t> tag_slots() const noexcept {
      return {reinterpret_cast<const std::uint16_t*>(tail() + sizeof(std::uint64_t)), tag_count};
    }
    std::uint64_t tag_sum() const noexcept {  // only with tags
      std::uint64_t sum = 0;
      std::memcpy(&sum, tail(), sizeof sum);
      return sum;
    }
    void tag_sum(std::uint64_t sum) noexcept { std::memcpy(tail(), &sum, sizeof sum); }
    // Its value; `etag_room` is for an ETag of our own making. Valid under the shard's mutex.
    proto::record record(const engine::profile& common, proto::made_etag& etag_room) const noexcept;
    bool calm(core::wall_time now) const noexcept { return packed_time(now) < calm_until_ms; }

    char* tail() noexcept { return reinterpret_cast<char*>(this + 1); }
    const char* tail() const noexcept { return reinterpret_cast<const char*>(this + 1); }
    std::size_t tail_size() const noexcept { return bytes() - overhead; }
    static std::size_t tag_bytes(std::size_t count) noexcept { return count == 0 ? 0 : sizeof(std::uint64_t) + sizeof(std::uint16_t) * count; }
    static const std::size_t overhead;  // beyond the tail
  };
  struct hash_of_entry {
    std::uint64_t operator()(const entry& e) const noexcept { return hash_of(e.key()); }
  };
  struct shard {
    explicit shard(std::uint64_t bytes_max) : policy(bytes_max) {}
    mutable std::mutex mutex;
    core::s3_fifo policy;
    bucket_index<entry, hash_of_entry> index;
    profiles shared;  // the entries'
    entry* find(std::uint64_t hash, std::string_view key) const {
      return index.find(hash, [key](const entry& e) {
        e.prefetch();
        return e.key() == key;
      });
    }
  };
  struct pinned;
  static std::uint64_t hash_of(std::string_view key) noexcept { return XXH3_64bits(key.data(), key.size()); }
  static const entry& entry_of(const core::s3_fifo::node& n) noexcept { return static_cast<const entry&>(n); }
  static value_ptr value_of(const shard& s, entry* e);
  static profile profile_of(const proto::record& what, const owner& whose) noexcept;
  // bucket_index takes the lowest bits and the highest, the ghosts of s3_fifo likewise.
  shard& shard_of(std::uint64_t hash) noexcept { return *shards_[(hash >> 40) % shard_count_]; }
  static void mark_stale(entry& e, core::wall_time now) noexcept;
  static void adopt(shard& s, entry& e, const owner& whose);
  void remove(shard& s, entry* e) noexcept;
  void drop(shard& s, entry* e) noexcept;  // which the policy has let go

  static constexpr std::uint64_t shards_max = 16;
  static constexpr std::uint64_t entries_in_cpu_caches = 4096;  // some 1 MiB, the index included
  const std::uint64_t shard_count_;
  const std::uint64_t shard_bytes_max_;
  std::array<std::unique_ptr<shard>, shards_max> shards_;
  std::atomic<std::uint32_t> epoch_{0};  // of which entries hold the lower bits
  alignas(64) std::atomic<std::uint64_t> entries_{0};  // not beside what every hit reads
};

template <class Use>
memory_cache::glance memory_cache::use_calm(std::string_view key, core::wall_time now, const fences& fence, std::uint32_t generation, Use use) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  entry* const e = s.find(hash, key);
  if (e == nullptr) return glance::absent;
  if (!e->calm(now) || e->epoch != epoch_.load(std::memory_order_acquire) % epochs) return glance::other;
  const auto& common = s.shared.at(e->profile);
  if (common.owner.generation != generation || (e->tag_count > 0 && !e->tags_hold(fence))) return glance::other;
  core::s3_fifo::touch(*e);
  proto::made_etag etag_room;
  return use(e->record(common, etag_room), common.owner.route) ? glance::used : glance::other;
}

template <class Predicate>
std::uint64_t memory_cache::erase_if(Predicate matches) {
  std::uint64_t erased = 0;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    auto& s = *shards_[i];
    const std::lock_guard hold(s.mutex);
    s.policy.for_each([&](core::s3_fifo::node& n) {
      if (!matches(entry_of(n).key())) return;
      remove(s, static_cast<entry*>(&n));
      ++erased;
    });
  }
  return erased;
}

template <class Predicate>
std::vector<std::string> memory_cache::keys_if(Predicate matches) {
  std::vector<std::string> out;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    const std::lock_guard hold(shards_[i]->mutex);
    shards_[i]->policy.for_each([&](core::s3_fifo::node& n) {
      const auto key = entry_of(n).key();
      if (matches(key)) out.emplace_back(key);
    });
  }
  return out;
}

}  // namespace asidecar::engine
