#include "daemon/engine/memory_cache.hpp"

namespace asidecar::engine {

void memory_cache::shard::drop(std::list<entry>::iterator at) {
  bytes -= at->bytes();
  index.erase(at->key);
  recent.erase(at);
}

value_ptr memory_cache::find(std::string_view key, core::wall_time now) {
  auto& s = shard_of(key);
  const std::lock_guard hold(s.mutex);
  const auto found = s.index.find(key);
  if (found == s.index.end()) return nullptr;
  const auto at = found->second;
  if (now >= at->until) {
    s.drop(at);
    return nullptr;
  }
  s.recent.splice(s.recent.begin(), s.recent, at);
  return at->held;
}

bool memory_cache::insert(std::string_view key, value_ptr value, core::wall_time until, const fences& fence, const fences::stamp& stamp) {
  if (!enabled()) return false;
  auto& s = shard_of(key);
  const std::lock_guard hold(s.mutex);
  // The fence is looked at under the mutex that the invalidation's erase() takes after it has moved the fence.
  if (!fence.holds(key, stamp)) return false;
  if (const auto found = s.index.find(key); found != s.index.end()) s.drop(found->second);
  entry e{std::string(key), std::move(value), until};
  if (e.bytes() > shard_bytes_max_ / 16) return false;  // one value must not push out a shard
  s.bytes += e.bytes();
  s.recent.push_front(std::move(e));
  s.index.emplace(s.recent.front().key, s.recent.begin());
  while (s.bytes > shard_bytes_max_) s.drop(std::prev(s.recent.end()));
  return true;
}

bool memory_cache::erase(std::string_view key) {
  auto& s = shard_of(key);
  const std::lock_guard hold(s.mutex);
  const auto found = s.index.find(key);
  if (found == s.index.end()) return false;
  s.drop(found->second);
  return true;
}

std::uint64_t memory_cache::bytes() const {
  std::uint64_t total = 0;
  for (const auto& s : shards_) {
    const std::lock_guard hold(s.mutex);
    total += s.bytes;
  }
  return total;
}

std::uint64_t memory_cache::entries() const {
  std::uint64_t total = 0;
  for (const auto& s : shards_) {
    const std::lock_guard hold(s.mutex);
    total += s.index.size();
  }
  return total;
}

}  // namespace asidecar::engine
