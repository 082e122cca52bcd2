// L1: values in this process, bounded in bytes, least recently used out first. Sharded; each shard has a short mutex. Any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/engine/fences.hpp"
#include "daemon/engine/value.hpp"

namespace asidecar::engine {

class memory_cache {
 public:
  explicit memory_cache(std::uint64_t bytes_max)
      : shard_count_(std::clamp<std::uint64_t>(bytes_max / shard_bytes_wanted, 1, shards_max)), shard_bytes_max_(bytes_max / shard_count_) {}

  bool enabled() const noexcept { return shard_bytes_max_ > 0; }
  value_ptr find(std::string_view key, core::wall_time now);
  // False, and not kept, when the stamp no longer holds or the value is larger than 1/16 of a shard. `until` ends its life here.
  bool insert(std::string_view key, value_ptr value, core::wall_time until, const fences& fence, const fences::stamp& stamp);
  bool erase(std::string_view key);
  template <class Predicate>
  std::uint64_t erase_if(Predicate matches);

  std::uint64_t bytes() const;
  std::uint64_t entries() const;

 private:
  struct entry {
    std::string key;
    value_ptr held;
    core::wall_time until;
    std::size_t bytes() const noexcept { return key.size() + held->bytes().size() + overhead; }
    static constexpr std::size_t overhead = 256;  // list node, index node, shared value header
  };
  struct shard {
    mutable std::mutex mutex;
    std::list<entry> recent;  // front: used last
    std::unordered_map<std::string_view, std::list<entry>::iterator> index;
    std::uint64_t bytes = 0;
    void drop(std::list<entry>::iterator at);
  };
  // Few and large shards in a small cache, so that values of max_value's default size fit.
  static constexpr std::uint64_t shard_bytes_wanted = std::uint64_t(32) << 20;
  static constexpr std::uint64_t shards_max = 16;
  shard& shard_of(std::string_view key) noexcept { return shards_[(std::hash<std::string_view>{}(key) >> 32) % shard_count_]; }

  std::uint64_t shard_count_;
  std::uint64_t shard_bytes_max_;
  std::array<shard, shards_max> shards_;
};

template <class Predicate>
std::uint64_t memory_cache::erase_if(Predicate matches) {
  std::uint64_t erased = 0;
  for (auto& s : shards_) {
    const std::lock_guard hold(s.mutex);
    for (auto it = s.recent.begin(); it != s.recent.end();) {
      const auto here = it++;
      if (!matches(std::string_view(here->key))) continue;
      s.drop(here);
      ++erased;
    }
  }
  return erased;
}

}  // namespace asidecar::engine
