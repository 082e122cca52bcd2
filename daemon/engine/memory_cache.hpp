// L1: values in this process, bounded in bytes with all overhead counted. Each entry is one allocation: bookkeeping, key and record.
// Sharded; each shard has a short mutex. Any thread.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <atomic>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/s3_fifo.hpp"
#include "daemon/engine/fences.hpp"
#include "daemon/engine/value.hpp"

namespace asidecar::engine {

// Which route an entry's key belongs to, under which configuration. One that is not of the configuration at work is not
// known to belong to any of its routes.
struct entry_owner {
  std::uint32_t generation = 0;
  std::uint32_t route = 0;
};

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
  // `whose`: becomes the entry's owner.
  found find(std::string_view key, core::wall_time now, const fences& fence, const owner& whose = {});
  struct times {
    core::wall_time until;       // ends its life here
    core::wall_time calm_until;  // before that it is fresh, and no draw can ask for its early refresh
  };
  // False, and not kept, when the stamp no longer holds or the value is larger than 1/16 of a shard.
  bool insert(std::string_view key, const value& v, const times& t, const fences& fence, const fences::stamp& stamp, const owner& whose = {});

  // The fast way for what needs no thought: calls use(record, route) under the shard's mutex when the entry is of this generation,
  // current, calm and not negative. False: it did not; find() tells more.
  template <class Use>
  bool use_calm(std::string_view key, core::wall_time now, const fences& fence, std::uint32_t generation, Use use);
  bool erase(std::string_view key);
  // Another form of the same value, with the same end and tags, and no longer calm. False: not held.
  bool update(std::string_view key, const std::function<value_ptr(const value&)>& change);
  template <class Predicate>
  std::uint64_t erase_if(Predicate matches);
  template <class Predicate>
  std::vector<std::string> keys_if(Predicate matches);
  // What is held may be old from now on. It stays, for find() to tell.
  void distrust() noexcept { epoch_.fetch_add(1, std::memory_order_acq_rel); }

  std::uint64_t bytes() const;
  std::uint64_t entries() const;

 private:
  // Its key and its record stand behind it.
  struct entry : core::s3_fifo::node {
    std::uint16_t key_size = 0;
    std::uint32_t record_size = 0;
    std::atomic<std::uint32_t> pins{1};  // the index', and those of values that view the record
    std::uint32_t epoch = 0;
    owner whose;
    core::wall_time until;
    core::wall_time calm_until;
    std::unique_ptr<const tag_marks> tags;

    std::string_view key() const noexcept { return {reinterpret_cast<const char*>(this + 1), key_size}; }
    std::string_view record() const noexcept { return {reinterpret_cast<const char*>(this + 1) + key_size, record_size}; }
    static entry* make(std::string_view key, std::string_view record);
    static void unpin(entry* e) noexcept;
    static std::uint64_t footprint(std::string_view key, std::string_view record, bool tagged) noexcept;
  };
  struct probe {
    std::uint64_t hash;
    std::string_view key;
  };
  struct hasher {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const probe& p) const noexcept { return p.hash; }
    std::size_t operator()(const entry* e) const noexcept { return hash_of(e->key()); }
  };
  struct equal {
    using is_transparent = void;
    bool operator()(const entry* a, const entry* b) const noexcept { return a == b; }
    bool operator()(const probe& p, const entry* e) const noexcept { return p.key == e->key(); }
    bool operator()(const entry* e, const probe& p) const noexcept { return (*this)(p, e); }
  };
  struct shard {
    explicit shard(std::uint64_t bytes_max) : policy(bytes_max) {}
    mutable std::mutex mutex;
    core::s3_fifo policy;
    boost::unordered_flat_set<entry*, hasher, equal> index;
    void drop(entry* e);
  };
  static std::uint64_t hash_of(std::string_view key) noexcept { return XXH3_64bits(key.data(), key.size()); }
  static std::string_view key_of(const core::s3_fifo::node& n) noexcept { return static_cast<const entry&>(n).key(); }
  static value_ptr value_of(entry* e);
  shard& shard_of(std::uint64_t hash) noexcept { return *shards_[(hash >> 40) % shard_count_]; }

  static constexpr std::uint64_t shards_max = 16;
  const std::uint64_t shard_count_;
  const std::uint64_t shard_bytes_max_;
  std::array<std::unique_ptr<shard>, shards_max> shards_;
  std::atomic<std::uint32_t> epoch_{0};

  void drop(shard& s, core::s3_fifo::node& n);
};

template <class Use>
bool memory_cache::use_calm(std::string_view key, core::wall_time now, const fences& fence, std::uint32_t generation, Use use) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  const auto at = s.index.find(probe{hash, key});
  if (at == s.index.end()) return false;
  auto* const e = *at;
  if (now >= e->calm_until || e->whose.generation != generation || e->epoch != epoch_.load(std::memory_order_acquire)) return false;
  if (e->tags && !fence.holds(*e->tags)) return false;
  core::s3_fifo::touch(*e);
  return use(e->record(), e->whose.route);
}

template <class Predicate>
std::uint64_t memory_cache::erase_if(Predicate matches) {
  std::uint64_t erased = 0;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    auto& s = *shards_[i];
    const std::lock_guard hold(s.mutex);
    s.policy.for_each([&](core::s3_fifo::node& n) {
      if (!matches(key_of(n))) return;
      drop(s, n);
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
      if (matches(key_of(n))) out.emplace_back(key_of(n));
    });
  }
  return out;
}

}  // namespace asidecar::engine
