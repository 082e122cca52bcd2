// A hash table of pointers to entries that know their own key. It grows and shrinks by one bucket at a time (linear hashing: Litwin,
// VLDB 1980), so that no insert waits for a rehash of everything and the table is never half empty: some 12 bytes an entry.
// A bucket is one cache line: eight fingerprints of 15 bits, compared at once, and eight pointers of 48 bits. What overflows goes on in a
// bucket behind it. Not thread-safe.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace asidecar::engine {

// HashOf: std::uint64_t operator()(const Entry&); its lowest bits choose the bucket, its highest 15 are the fingerprint.
template <class Entry, class HashOf>
class bucket_index {
 public:
  bucket_index() = default;
  bucket_index(const bucket_index&) = delete;
  bucket_index& operator=(const bucket_index&) = delete;

  std::size_t size() const noexcept { return size_; }

  // The entry with this hash of which same(entry) is true; null: there is none.
  template <class Same>
  Entry* find(std::uint64_t hash, Same same) const {
    if (count_ == 0) return nullptr;
    const auto print = fingerprint_of(hash);
    for (const bucket* b = &at(number_of(hash)); b != nullptr; b = b->behind()) {
      const auto found = b->find(print, same);
      if (found < slots) return b->pointer(found);
    }
    return nullptr;
  }
  // Fetches what find() will look at first.
  void prefetch_bucket(std::uint64_t hash) const noexcept {
    if (count_ > 0) __builtin_prefetch(&at(number_of(hash)));
  }
  // `e` must not be in it.
  void insert(std::uint64_t hash, Entry* e) {
    if (size_ >= count_ * load) grow();
    put(at(number_of(hash)), fingerprint_of(hash), e);
    ++size_;
  }
  // Of one that is in it.
  void erase(std::uint64_t hash, const Entry* e) noexcept {
    const auto where = position_of(hash, e);
    // The last one of the chain fills the hole.
    bucket* last = &at(number_of(hash));
    bucket* before = nullptr;
    while (bucket* next = last->behind()) before = std::exchange(last, next);
    const auto end = last->used();
    where.in->set(where.slot, last->prints[end - 1], last->pointer(end - 1));
    last->clear(end - 1);
    if (end == 1 && before != nullptr) unchain(*before);
    if (--size_ == 0) release();
    else if (count_ > 1 && size_ < (count_ - 1) * load / 2) shrink();
  }

 private:
  using fingerprint = std::uint16_t;
  static constexpr std::size_t slots = 8;
  static constexpr std::size_t load = 6;  // entries per bucket, on average
  static constexpr std::size_t segment_size = 64;
  static constexpr fingerprint empty = 0;
  static constexpr fingerprint chained = 0xffff;  // of the last slot: it points to the bucket behind
  // 1 to 32,768: neither of the above.
  static fingerprint fingerprint_of(std::uint64_t hash) noexcept { return static_cast<fingerprint>((hash >> 49) + 1); }

  using all_fingerprints = std::uint16_t __attribute__((vector_size(16)));

  struct alignas(64) bucket {
    std::array<fingerprint, slots> prints{};
    std::array<unsigned char, 6 * slots> pointers{};

    // Little endian: 48 bits, and 16 of the neighbour, which for the last slot is the one before.
    std::uint64_t address(std::size_t slot) const noexcept {
      std::uint64_t word;
      std::memcpy(&word, reinterpret_cast<const unsigned char*>(this) + sizeof prints + 6 * slot - 2, sizeof word);
      return word >> 16;
    }
    Entry* pointer(std::size_t slot) const noexcept { return reinterpret_cast<Entry*>(address(slot)); }
    void set(std::size_t slot, fingerprint print, const void* to) noexcept {
      const auto word = reinterpret_cast<std::uint64_t>(to);
      assert(word >> 48 == 0);
      prints[slot] = print;
      std::memcpy(pointers.data() + 6 * slot, &word, 6);
    }
    void clear(std::size_t slot) noexcept { set(slot, empty, nullptr); }
    bucket* behind() const noexcept { return prints[slots - 1] == chained ? reinterpret_cast<bucket*>(address(slots - 1)) : nullptr; }
    // Slots in use; they are the first ones.
    std::size_t used() const noexcept {
      std::size_t n = prints[slots - 1] == chained ? slots - 1 : slots;
      while (n > 0 && prints[n - 1] == empty) --n;
      return n;
    }

    template <class Same>
    std::size_t find(fingerprint print, Same same) const {
      all_fingerprints all;
      std::memcpy(&all, prints.data(), sizeof all);
      const all_fingerprints equal = all == print;
      std::array<std::uint64_t, 2> bits;
      std::memcpy(bits.data(), &equal, sizeof bits);
      for (std::size_t half = 0; half < bits.size(); ++half)
        for (auto left = bits[half]; left != 0;) {
          const auto lane = static_cast<std::size_t>(std::countr_zero(left)) / 16;
          const auto slot = half * 4 + lane;
          if (same(*pointer(slot))) return slot;
          left &= ~(std::uint64_t(0xffff) << 16 * lane);
        }
      return slots;
    }
  };
  static_assert(sizeof(bucket) == 64 && std::endian::native == std::endian::little);
  using segment = std::array<bucket, segment_size>;
  struct position {
    bucket* in;
    std::size_t slot;
  };

  bucket& at(std::size_t number) const noexcept { return (*segments_[number / segment_size])[number % segment_size]; }
  // Bucket doubled_ + i, once there is one, has taken its half of bucket i; until then bucket i has both.
  std::size_t number_of(std::uint64_t hash) const noexcept {
    const auto number = hash & (2 * doubled_ - 1);
    return number < count_ ? number : number & (doubled_ - 1);
  }
  position position_of(std::uint64_t hash, const Entry* e) const noexcept {
    bucket* b = &at(number_of(hash));
    for (;;) {
      const auto slot = b->find(fingerprint_of(hash), [e](const Entry& held) { return &held == e; });
      if (slot < slots) return {b, slot};
      b = b->behind();
      assert(b != nullptr);
    }
  }
  void put(bucket& first, fingerprint print, Entry* e) {
    bucket* b = &first;
    while (bucket* next = b->behind()) b = next;
    const auto n = b->used();
    if (n < slots) return b->set(n, print, e);
    auto* const next = take_spare();
    next->set(0, b->prints[slots - 1], b->pointer(slots - 1));
    next->set(1, print, e);
    b->set(slots - 1, chained, next);
  }
  // `before` gives up the bucket behind it, which is empty.
  void unchain(bucket& before) noexcept {
    give_spare(before.behind());
    before.clear(slots - 1);
  }
  // Buckets that stand behind others come from segments of their own; those not in use are a chain.
  bucket* take_spare() {
    if (spare_ == nullptr) {
      spare_segments_.push_back(std::make_unique<segment>());
      for (auto& b : *spare_segments_.back()) give_spare(&b);
    }
    bucket* const b = spare_;
    spare_ = b->behind();
    *b = bucket();
    return b;
  }
  void give_spare(bucket* b) noexcept {
    if (spare_ == nullptr) b->clear(slots - 1);
    else b->set(slots - 1, chained, spare_);
    spare_ = b;
  }
  void release() noexcept {
    std::vector<std::unique_ptr<segment>>().swap(segments_);
    std::vector<std::unique_ptr<segment>>().swap(spare_segments_);
    std::vector<moved>().swap(moving_);
    spare_ = nullptr;
    count_ = 0;
    doubled_ = 1;
  }

  struct moved {
    fingerprint print;
    Entry* e;
  };
  // Empties a bucket and those behind it.
  void take_all(bucket& from, std::vector<moved>& out) {
    for (bucket* b = &from; b != nullptr;) {
      for (std::size_t i = 0, n = b->used(); i < n; ++i) out.push_back({b->prints[i], b->pointer(i)});
      bucket* const next = b->behind();
      if (b != &from) give_spare(b);
      b = next;
    }
    from = bucket();
  }

  void grow() {
    if (count_ == segments_.size() * segment_size) segments_.push_back(std::make_unique<segment>());
    const auto added = count_++;
    if (added == 0) return;
    if (added == 2 * doubled_) doubled_ = added;
    moving_.clear();
    take_all(at(added - doubled_), moving_);
    for (const auto& m : moving_) put(at(number_of(HashOf()(*m.e))), m.print, m.e);
  }
  void shrink() noexcept {
    moving_.clear();
    take_all(at(--count_), moving_);
    auto& back_to = at(count_ - doubled_);
    if (count_ == doubled_ && doubled_ > 1) doubled_ /= 2;
    for (const auto& m : moving_) put(back_to, m.print, m.e);
    // One is kept to spare, so that growing and shrinking in turn does not allocate.
    if (segments_.size() * segment_size >= count_ + 2 * segment_size) segments_.pop_back();
  }

  std::vector<std::unique_ptr<segment>> segments_;
  std::vector<std::unique_ptr<segment>> spare_segments_;
  bucket* spare_ = nullptr;
  std::vector<moved> moving_;  // kept for its room
  std::size_t count_ = 0;       // buckets
  std::size_t doubled_ = 1;     // the largest power of two less than count_, or 1
  std::size_t size_ = 0;
};

}  // namespace asidecar::engine
