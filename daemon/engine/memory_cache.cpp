#include "daemon/engine/memory_cache.hpp"

#include <algorithm>
#include <cstring>

namespace asidecar::engine {
namespace {

// Few and large shards in a small cache, so that values of max_value's default size fit.
constexpr std::uint64_t shard_bytes_wanted = std::uint64_t(32) << 20;

}  // namespace

memory_cache::entry* memory_cache::entry::make(std::string_view key, std::string_view record) {
  char* const room = static_cast<char*>(::operator new(sizeof(entry) + key.size() + record.size()));
  auto* const e = new (room) entry;
  e->key_size = static_cast<std::uint16_t>(key.size());
  e->record_size = static_cast<std::uint32_t>(record.size());
  std::memcpy(room + sizeof(entry), key.data(), key.size());
  std::memcpy(room + sizeof(entry) + key.size(), record.data(), record.size());
  return e;
}

void memory_cache::entry::unpin(entry* e) noexcept {
  if (e->pins.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  e->~entry();
  ::operator delete(e);
}

// With the index' slot at its usual load, and what malloc adds to each allocation.
std::uint64_t memory_cache::entry::footprint(std::string_view key, std::string_view record, bool tagged) noexcept {
  constexpr std::uint64_t index_bytes = 16;
  constexpr std::uint64_t malloc_bytes = 16;
  return sizeof(entry) + key.size() + record.size() + index_bytes + malloc_bytes + (tagged ? sizeof(tag_marks) + malloc_bytes : 0);
}

// Only under the shard's mutex, or its index could let go of the entry.
value_ptr memory_cache::value_of(entry* e) {
  e->pins.fetch_add(1, std::memory_order_relaxed);
  const std::shared_ptr<const void> pin(e, [](entry* held) { entry::unpin(held); });
  return value::view(e->record(), pin);
}

memory_cache::memory_cache(std::uint64_t bytes_max)
    : shard_count_(std::clamp<std::uint64_t>(bytes_max / shard_bytes_wanted, 1, shards_max)), shard_bytes_max_(bytes_max / shard_count_) {
  for (std::uint64_t i = 0; i < shard_count_; ++i) shards_[i] = std::make_unique<shard>(shard_bytes_max_);
}

memory_cache::~memory_cache() {
  erase_if([](std::string_view) { return true; });
}

void memory_cache::shard::drop(entry* e) {
  index.erase(index.find(probe{hash_of(e->key()), e->key()}));
  entry::unpin(e);
}

void memory_cache::drop(shard& s, core::s3_fifo::node& n) {
  s.policy.remove(n);
  s.drop(static_cast<entry*>(&n));
}

memory_cache::found memory_cache::find(std::string_view key, core::wall_time now, const fences& fence, const owner& whose) {
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
  if (whose.generation != 0) e->whose = whose;
  return {value_of(e), e->epoch == epoch_.load(std::memory_order_acquire)};
}

bool memory_cache::insert(std::string_view key, const value& v, const times& t, const fences& fence, const fences::stamp& stamp, const owner& whose) {
  if (!enabled()) return false;
  const auto bytes = entry::footprint(key, v.bytes(), stamp.tags.size > 0);
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
  auto* const e = entry::make(key, v.bytes());
  e->epoch = epoch;
  e->whose = whose;
  e->until = t.until;
  e->calm_until = std::min(t.calm_until, t.until);
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
    auto* out = static_cast<entry*>(s.policy.evict([](const core::s3_fifo::node& n) { return hash_of(key_of(n)); }));
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
  auto* const old = *at;
  const auto changed = change(*value_of(old));
  auto* const e = entry::make(key, changed->bytes());
  e->epoch = old->epoch;
  e->whose = old->whose;
  e->until = old->until;
  e->tags = std::move(old->tags);
  e->bytes = static_cast<std::uint32_t>(entry::footprint(key, changed->bytes(), e->tags != nullptr));
  s.policy.replace(*old, *e);
  s.drop(old);
  s.index.insert(e);
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
