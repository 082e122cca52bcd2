#include "daemon/engine/memory_cache.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace asidecar::engine {
namespace {

// Few and large shards in a small cache, so that values of max_value's default size fit.
constexpr std::uint64_t shard_bytes_wanted = std::uint64_t(32) << 20;

}  // namespace

// One allocation: the entry, and its key behind it.
struct memory_cache::entry : core::s3_fifo::node {
  entry(std::uint64_t h, std::uint32_t n, value_ptr v, core::wall_time end, std::uint64_t e) : key_size(n), hash(h), epoch(e), until(end), held(std::move(v)) {}
  std::string_view key() const noexcept { return {reinterpret_cast<const char*>(this + 1), key_size}; }

  static entry* make(std::string_view key, std::uint64_t hash, value_ptr v, core::wall_time until, std::uint64_t epoch) {
    void* room = ::operator new(sizeof(entry) + key.size());
    auto* e = new (room) entry(hash, static_cast<std::uint32_t>(key.size()), std::move(v), until, epoch);
    std::memcpy(static_cast<char*>(room) + sizeof(entry), key.data(), key.size());
    return e;
  }
  static void destroy(entry* e) noexcept {
    e->~entry();
    ::operator delete(e);
  }
  // With the index' slot at its usual load, and what malloc adds to each allocation.
  static std::uint64_t footprint(std::string_view key, const value& v, bool tagged) noexcept {
    constexpr std::uint64_t index_bytes = 16;
    constexpr std::uint64_t malloc_bytes = 16;
    return sizeof(entry) + key.size() + index_bytes + malloc_bytes + v.footprint() + (tagged ? sizeof(tag_marks) + malloc_bytes : 0);
  }

  const std::uint32_t key_size;
  const std::uint64_t hash;
  const std::uint64_t epoch;
  const core::wall_time until;
  value_ptr held;
  std::unique_ptr<const tag_marks> tags;
};

std::size_t memory_cache::hasher::operator()(const entry* e) const noexcept { return e->hash; }
bool memory_cache::equal::operator()(const entry* a, const entry* b) const noexcept { return a == b; }
bool memory_cache::equal::operator()(const probe& p, const entry* e) const noexcept { return p.hash == e->hash && p.key == e->key(); }

std::uint64_t memory_cache::hash_of(std::string_view key) noexcept { return XXH3_64bits(key.data(), key.size()); }
std::string_view memory_cache::key_of(const core::s3_fifo::node& n) noexcept { return static_cast<const entry&>(n).key(); }

memory_cache::memory_cache(std::uint64_t bytes_max)
    : shard_count_(std::clamp<std::uint64_t>(bytes_max / shard_bytes_wanted, 1, shards_max)), shard_bytes_max_(bytes_max / shard_count_) {
  for (std::uint64_t i = 0; i < shard_count_; ++i) shards_[i] = std::make_unique<shard>(shard_bytes_max_);
}

memory_cache::~memory_cache() {
  erase_if([](std::string_view) { return true; });
}

void memory_cache::shard::drop(entry* e) {
  index.erase(index.find(probe{e->hash, e->key()}));
  entry::destroy(e);
}

void memory_cache::drop(shard& s, core::s3_fifo::node& n) {
  s.policy.remove(n);
  s.drop(static_cast<entry*>(&n));
}

memory_cache::found memory_cache::find(std::string_view key, core::wall_time now, const fences& fence) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  const auto at = s.index.find(probe{hash, key});
  if (at == s.index.end()) return {};
  auto* e = *at;
  if (now >= e->until || (e->tags && !fence.holds(*e->tags))) {
    drop(s, *e);
    return {};
  }
  core::s3_fifo::touch(*e);
  return {e->held, e->epoch == epoch_.load(std::memory_order_acquire)};
}

bool memory_cache::insert(std::string_view key, value_ptr v, core::wall_time until, const fences& fence, const fences::stamp& stamp) {
  if (!enabled()) return false;
  const auto bytes = entry::footprint(key, *v, stamp.tags.size > 0);
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  // Before the fence: who distrusts moves the fence first, so a new epoch here goes with a stamp that no longer holds.
  const auto epoch = epoch_.load(std::memory_order_acquire);
  // The fence is looked at under the mutex that the invalidation's erase() takes after it has moved the fence.
  if (!fence.holds(key, stamp)) return false;
  const auto old = s.index.find(probe{hash, key});
  if (bytes > shard_bytes_max_ / 16) {  // one value must not push out a shard
    if (old != s.index.end()) drop(s, **old);
    return false;
  }
  auto* e = entry::make(key, hash, std::move(v), until, epoch);
  if (stamp.tags.size > 0) e->tags = std::make_unique<const tag_marks>(stamp.tags);
  e->bytes = static_cast<std::uint32_t>(bytes);
  if (old != s.index.end()) {
    s.policy.replace(**old, *e);
    s.drop(*old);
  } else {
    s.policy.insert(*e, hash);
  }
  s.index.insert(e);
  while (s.policy.over()) {
    auto* out = static_cast<entry*>(s.policy.evict([](const core::s3_fifo::node& n) { return static_cast<const entry&>(n).hash; }));
    if (out == nullptr) break;
    s.drop(out);
  }
  return true;
}

bool memory_cache::update(std::string_view key, const std::function<value_ptr(const value&)>& change) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  const auto at = s.index.find(probe{hash, key});
  if (at == s.index.end()) return false;
  (*at)->held = change(*(*at)->held);
  return true;
}

bool memory_cache::erase(std::string_view key) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  const auto at = s.index.find(probe{hash, key});
  if (at == s.index.end()) return false;
  drop(s, **at);
  return true;
}

std::uint64_t memory_cache::bytes() const {
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    const std::lock_guard hold(shards_[i]->mutex);
    total += shards_[i]->policy.bytes();
  }
  return total;
}

std::uint64_t memory_cache::entries() const {
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    const std::lock_guard hold(shards_[i]->mutex);
    total += shards_[i]->index.size();
  }
  return total;
}

}  // namespace asidecar::engine
