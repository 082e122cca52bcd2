#include "daemon/engine/memory_cache.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <stdexcept>

namespace asidecar::engine {
namespace {

// Few and large shards in a small cache, so that values of max_value's default size fit.
constexpr std::uint64_t shard_bytes_wanted = std::uint64_t(32) << 20;

// µs in 22 bits, as 17 bits shifted by up to 15: exact up to 0.13 s, and then to the 65,536th part.
std::uint32_t pack_load_time(std::uint32_t us) noexcept {
  constexpr int mantissa = 17;
  const int shift = std::max(0, static_cast<int>(std::bit_width(us)) - mantissa);
  return static_cast<std::uint32_t>(shift) << mantissa | us >> shift;
}

std::uint32_t unpack_load_time(std::uint32_t packed) noexcept { return (packed & 0x1ffff) << (packed >> 17); }

// The index keeps 48 bits of an address. User space has no more, unless malloc tags what it gives out (arm64's MTE).
void require_untagged_addresses() {
  std::array<std::unique_ptr<char>, 16> probes;
  for (auto& p : probes) {
    p = std::make_unique<char>();
    if (reinterpret_cast<std::uintptr_t>(p.get()) >> 48 != 0)
      throw std::runtime_error("l1 cannot work with tagged memory: take glibc.mem.tagging out of the environment's GLIBC_TUNABLES, or start without memory tagging");
  }
}

}  // namespace

constexpr std::size_t index_bytes = 12, malloc_bytes = 16, ghost_bytes = 12;  // for one entry, on average
const std::size_t memory_cache::entry::overhead = sizeof(entry) + index_bytes + malloc_bytes + ghost_bytes;

memory_cache::entry::layout memory_cache::entry::plan(std::string_view key, const proto::record& what, std::size_t tags) noexcept {
  layout out;
  out.made_etag = proto::parse_made_etag(what.etag);
  out.texts = {out.made_etag ? std::string_view() : what.etag, what.origin_etag, what.last_modified};
  std::size_t text_bytes = 0;
  for (const auto& text : out.texts) text_bytes += text.size();
  out.has_texts = text_bytes > 0;
  out.tail = tag_bytes(tags) + key.size() + (out.has_texts ? sizeof(std::uint16_t) * out.texts.size() + text_bytes : 0) + what.body.size();
  return out;
}

bool memory_cache::takes(std::string_view key, const proto::record& what) const noexcept {
  return entry::plan(key, what, tag_marks::most).size() <= largest();
}

memory_cache::entry* memory_cache::entry::make(std::string_view key, const proto::record& content, const layout& planned, const tag_marks& marks) {
  static_assert(sizeof(entry) == 64);
  const auto life = life_of(content);
  auto* const e = new (::operator new(sizeof(entry) + planned.tail)) entry;
  e->bytes(static_cast<std::uint32_t>(planned.size()));
  e->key_size = static_cast<std::uint16_t>(key.size());
  e->tag_count = marks.size;
  e->negative = content.negative;
  e->has_etag = planned.made_etag.has_value();
  e->has_texts = planned.has_texts;
  e->created_ms = packed_time(life.created);
  e->load_time = pack_load_time(content.load_time_us);
  e->fresh_ms = static_cast<std::uint64_t>(life.fresh_for.count());
  e->etag = planned.made_etag.value_or(0);

  char* at = e->tail();
  const auto append = [&at](const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(at, from, bytes);
    at += bytes;
  };
  if (marks.size > 0) {
    append(&marks.sum, sizeof marks.sum);
    append(marks.slots.data(), sizeof(std::uint16_t) * marks.size);
  }
  append(key.data(), key.size());
  if (planned.has_texts) {
    for (const auto& text : planned.texts) {
      const auto length = static_cast<std::uint16_t>(text.size());
      append(&length, sizeof length);
    }
  }
  for (const auto& text : planned.texts) append(text.data(), text.size());
  append(content.body.data(), content.body.size());
  return e;
}

void memory_cache::entry::unpin(entry* e) noexcept {
  if (e->pins.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  e->~entry();
  ::operator delete(e);
}

bool memory_cache::entry::tags_hold(const fences& fence) const noexcept {
  return fence.holds(tag_slots(), tag_sum());
}

proto::record memory_cache::entry::record(const engine::profile& common, proto::made_etag& etag_room) const noexcept {
  proto::record r;
  r.negative = negative;
  r.created_ms = static_cast<std::int64_t>(created_ms);
  r.fresh_ms = static_cast<std::int64_t>(fresh_ms);
  r.stale_while_revalidate_ms = common.stale_while_revalidate_ms;
  r.stale_if_error_ms = common.stale_if_error_ms;
  r.load_time_us = unpack_load_time(static_cast<std::uint32_t>(load_time));
  r.content_type = common.content_type;
  r.content_encoding = common.content_encoding;
  if (has_etag) r.etag = proto::write_made_etag(etag, etag_room);
  std::string_view rest(tail(), tail_size());
  rest.remove_prefix(tag_bytes(tag_count) + key_size);
  if (has_texts) {
    std::array<std::uint16_t, 3> lengths;
    std::memcpy(lengths.data(), rest.data(), sizeof lengths);
    rest.remove_prefix(sizeof lengths);
    const std::array<std::string_view*, 3> texts{&r.etag, &r.origin_etag, &r.last_modified};
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (lengths[i] == 0) continue;
      *texts[i] = rest.substr(0, lengths[i]);
      rest.remove_prefix(lengths[i]);
    }
  }
  r.body = rest;
  r.body_size = static_cast<std::uint32_t>(rest.size());
  return r;
}

// Keeps what a value of an entry views: the entry, and copies of what the profile and the entry do not keep.
struct memory_cache::pinned {
  explicit pinned(entry* pinning, const engine::profile& common) : e(pinning), content_type(common.content_type), content_encoding(common.content_encoding) {
    e->pins.fetch_add(1, std::memory_order_relaxed);
  }
  ~pinned() { entry::unpin(e); }
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;

  entry* const e;
  const std::string content_type;
  const std::string content_encoding;
  proto::made_etag etag{};
};

// Only under the shard's mutex, or its index could let go of the entry.
value_ptr memory_cache::value_of(const shard& s, entry* e) {
  auto common = s.shared.at(e->profile);
  const auto keeper = std::make_shared<pinned>(e, common);
  common.content_type = keeper->content_type;
  common.content_encoding = keeper->content_encoding;
  return value::view(e->record(common, keeper->etag), keeper);
}

profile memory_cache::profile_of(const proto::record& what, const owner& whose) noexcept {
  return {whose, what.stale_while_revalidate_ms, what.stale_if_error_ms, what.content_type, what.content_encoding};
}

memory_cache::memory_cache(std::uint64_t bytes_max)
    : shard_count_(std::clamp<std::uint64_t>(bytes_max / shard_bytes_wanted, 1, shards_max)), shard_bytes_max_(bytes_max / shard_count_) {
  if (enabled()) require_untagged_addresses();
  for (std::uint64_t i = 0; i < shard_count_; ++i) shards_[i] = std::make_unique<shard>(shard_bytes_max_);
}

memory_cache::~memory_cache() {
  erase_if([](std::string_view) { return true; });
}

void memory_cache::drop(shard& s, entry* e) noexcept {
  s.index.erase(hash_of(e->key()), e);
  s.shared.release(static_cast<profiles::number>(e->profile));
  entry::unpin(e);
  entries_.fetch_sub(1, std::memory_order_relaxed);
}

void memory_cache::remove(shard& s, entry* e) noexcept {
  s.policy.remove(*e);
  drop(s, e);
}

void memory_cache::adopt(shard& s, entry& e, const owner& whose) {
  auto common = s.shared.at(e.profile);
  if (common.owner == whose) return;
  common.owner = whose;
  const auto number = s.shared.acquire(common);
  if (number == profiles::none) return;
  s.shared.release(static_cast<profiles::number>(e.profile));
  e.profile = number;
}

memory_cache::found memory_cache::find(std::string_view key, core::wall_time now, const fences& fence, const owner& whose) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  entry* const e = s.find(hash, key);
  if (e == nullptr) return {};
  if (packed_time(now) >= e->until_ms || (e->tag_count > 0 && !e->tags_hold(fence))) {
    remove(s, e);
    return {};
  }
  core::s3_fifo::touch(*e);
  if (whose.generation != 0) adopt(s, *e, whose);
  return {value_of(s, e), e->epoch == epoch_.load(std::memory_order_acquire) % epochs};
}

bool memory_cache::insert(std::string_view key, const proto::record& what, const times& t, fences& fence, const fences::stamp& stamp, const owner& whose, arrival how) {
  if (!enabled()) return false;
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  // Before the fence: who distrusts moves the fence first, so a new epoch here goes with a stamp that no longer holds.
  const auto epoch = epoch_.load(std::memory_order_acquire);
  // The fence is looked at under the mutex that the invalidation's erase() takes after it has moved the fence.
  if (!fence.holds(key, stamp)) return false;
  if (how == arrival::made) fence.move(key);
  entry* const old = s.find(hash, key);
  const auto number = s.shared.acquire(profile_of(what, whose));
  const auto planned = entry::plan(key, what, stamp.tags.size);
  entry* const e = number == profiles::none || planned.size() > largest() ? nullptr : entry::make(key, what, planned, stamp.tags);
  if (e == nullptr) {
    if (number != profiles::none) s.shared.release(number);
    if (old != nullptr) remove(s, old);
    return false;
  }
  e->until_ms = packed_time(t.until);
  e->calm_until_ms = packed_time(std::min(t.calm_until, t.until));
  e->epoch = epoch % epochs;
  e->profile = number;
  s.index.insert(hash, e);
  if (old != nullptr) {
    s.policy.replace(*old, *e);
    drop(s, old);
  } else {
    s.policy.insert(*e, hash);
  }
  entries_.fetch_add(1, std::memory_order_relaxed);
  while (s.policy.over(s.shared.bytes())) {
    auto* const out = s.policy.evict([](const core::s3_fifo::node& n) { return hash_of(entry_of(n).key()); });
    if (out == nullptr) break;
    drop(s, static_cast<entry*>(out));
  }
  return true;
}

bool memory_cache::mark_stale(std::string_view key, core::wall_time now) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  entry* const e = s.find(hash, key);
  if (e == nullptr) return false;
  mark_stale(*e, now);
  return true;
}

void memory_cache::mark_stale(entry& e, core::wall_time now) noexcept {
  const auto age = now.time_since_epoch().count() - static_cast<std::int64_t>(e.created_ms);
  e.fresh_ms = std::min(e.fresh_ms, static_cast<std::uint64_t>(std::max<std::int64_t>(0, age)));
  e.calm_until_ms = 0;
}

void memory_cache::bring_back_stale(std::uint16_t tag_slot, core::wall_time now, const fences& fence) {
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    const std::lock_guard hold(shards_[i]->mutex);
    shards_[i]->policy.for_each([&](core::s3_fifo::node& n) {
      auto& e = static_cast<entry&>(n);
      const auto slots = e.tag_slots();
      const auto moves = std::count(slots.begin(), slots.end(), tag_slot);
      if (moves == 0) return;
      const auto sum = e.tag_sum() + static_cast<std::uint64_t>(moves);
      if (!fence.holds(slots, sum)) return;  // other moves have come, or it is newer than this one
      e.tag_sum(sum);
      mark_stale(e, now);
    });
  }
}

bool memory_cache::erase(std::string_view key) {
  const auto hash = hash_of(key);
  auto& s = shard_of(hash);
  const std::lock_guard hold(s.mutex);
  entry* const e = s.find(hash, key);
  if (e == nullptr) return false;
  remove(s, e);
  return true;
}

// Entries know only so many epochs: before one comes again, all of it are gone.
void memory_cache::distrust() {
  const auto now = epoch_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (now % epochs == 0) erase_if([](std::string_view) { return true; });
}

std::uint64_t memory_cache::bytes() const {
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < shard_count_; ++i) {
    const std::lock_guard hold(shards_[i]->mutex);
    total += shards_[i]->policy.bytes() + shards_[i]->shared.bytes();
  }
  return total;
}

}  // namespace asidecar::engine
