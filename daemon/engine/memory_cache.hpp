// L1: values in this process, bounded in bytes with all overhead counted. Sharded; each shard has a short mutex. Any thread.
#pragma once

#include <array>
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

class memory_cache {
 public:
  explicit memory_cache(std::uint64_t bytes_max);
  ~memory_cache();
  memory_cache(const memory_cache&) = delete;
  memory_cache& operator=(const memory_cache&) = delete;

  bool enabled() const noexcept { return shard_bytes_max_ > 0; }

  struct found {
    value_ptr value;      // null: not held
    bool current = true;  // put here since the last distrust()
  };
  found find(std::string_view key, core::wall_time now, const fences& fence);
  // False, and not kept, when the stamp no longer holds or the value is larger than 1/16 of a shard. `until` ends its life here.
  bool insert(std::string_view key, value_ptr value, core::wall_time until, const fences& fence, const fences::stamp& stamp);
  bool erase(std::string_view key);
  // Another form of the same value, with the same end and tags. False: not held.
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
  struct entry;
  struct probe {
    std::uint64_t hash;
    std::string_view key;
  };
  struct hasher {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const probe& p) const noexcept { return p.hash; }
    std::size_t operator()(const entry* e) const noexcept;
  };
  struct equal {
    using is_transparent = void;
    bool operator()(const entry* a, const entry* b) const noexcept;
    bool operator()(const probe& p, const entry* e) const noexcept;
    bool operator()(const entry* e, const probe& p) const noexcept { return (*this)(p, e); }
  };
  struct shard {
    explicit shard(std::uint64_t bytes_max) : policy(bytes_max) {}
    mutable std::mutex mutex;
    core::s3_fifo policy;
    boost::unordered_flat_set<entry*, hasher, equal> index;
    void drop(entry* e);
  };
  static std::uint64_t hash_of(std::string_view key) noexcept;
  static std::string_view key_of(const core::s3_fifo::node& n) noexcept;
  shard& shard_of(std::uint64_t hash) noexcept { return *shards_[(hash >> 40) % shard_count_]; }

  static constexpr std::uint64_t shards_max = 16;
  const std::uint64_t shard_count_;
  const std::uint64_t shard_bytes_max_;
  std::array<std::unique_ptr<shard>, shards_max> shards_;
  std::atomic<std::uint64_t> epoch_{0};

  void drop(shard& s, core::s3_fifo::node& n);
};

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
