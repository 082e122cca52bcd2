// Which entry of a cache goes when it is full: S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: FIFO queues are all you need for cache
// eviction, SOSP 2023), counted in bytes.
//
// Most keys of real traffic are asked for once. So a new entry waits in a small queue (a tenth of the bytes) and only what is
// asked for again while there moves on to the main queue; the rest leaves quickly and a scan never reaches the main queue. Keys
// that left the small queue are remembered as ghosts for a while: one that comes back goes straight to the main queue. There, an
// entry that was used since it last came to the end goes round again. A hit only raises a counter of two bits: no list is
// touched, which is why it is cheaper than LRU under many threads, and all operations are O(1) (amortized for the rounds).
// On the traces of tests/bench its hit ratio is the best on average of LRU, SIEVE, S3-FIFO and W-TinyLFU; see docs/PERFORMANCE.md.
//
// Pure bookkeeping over nodes that the caller owns. Not thread-safe: one policy belongs to one shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace asidecar::core {

class s3_fifo {
 public:
  // 16 bytes, for millions of them: an address of a process takes 48 bits on every 64-bit Linux (x86-64, arm64).
  class node {
   public:
    static constexpr std::uint32_t bytes_max = (1U << 29) - 1;
    std::uint32_t bytes() const noexcept { return static_cast<std::uint32_t>(bytes_high_) << 16 | static_cast<std::uint32_t>(bytes_low_); }
    void bytes(std::uint32_t n) noexcept;  // while it is in no queue
    bool in_main() const noexcept { return in_main_ != 0; }

   private:
    friend class s3_fifo;
    static node* at(std::uint64_t address) noexcept { return reinterpret_cast<node*>(address); }
    static std::uint64_t address(const node* n) noexcept { return reinterpret_cast<std::uint64_t>(n); }
    node* newer() const noexcept { return at(newer_); }
    node* older() const noexcept { return at(older_); }
    void newer(const node* n) noexcept { newer_ = address(n); }
    void older(const node* n) noexcept { older_ = address(n); }

    std::uint64_t newer_ : 48 = 0;
    std::uint64_t bytes_low_ : 16 = 0;
    std::uint64_t older_ : 48 = 0;
    std::uint64_t bytes_high_ : 13 = 0;
    std::uint64_t uses_ : 2 = 0;  // since it came or went round, at most 3
    std::uint64_t in_main_ : 1 = 0;
  };

  explicit s3_fifo(std::uint64_t bytes_max) : bytes_max_(bytes_max), small_bytes_max_(bytes_max / 10) {}

  std::uint64_t bytes() const noexcept { return small_.bytes + main_.bytes; }
  bool over(std::uint64_t besides = 0) const noexcept { return bytes() + besides > bytes_max_; }

  // `hash` identifies the node's key among the ghosts.
  void insert(node& n, std::uint64_t hash);
  void replace(node& old, node& n) noexcept;  // `n` is the same key with another value
  static void touch(node& n) noexcept {
    if (n.uses_ < 3) ++n.uses_;
  }
  void remove(node& n) noexcept;

  // The next to go, taken out of its queue; null when nothing is held. hash_of(node) is called for what becomes a ghost.
  template <class HashOf>
  node* evict(HashOf hash_of);

  // All nodes, in no particular order. `visit` may remove() the node it is given.
  template <class Visit>
  void for_each(Visit visit) {
    for (auto* q : {&small_, &main_})
      for (auto* n = q->oldest; n != nullptr;) {
        auto* const here = n;
        n = n->newer();
        visit(*here);
      }
  }

 private:
  struct queue {
    node* newest = nullptr;
    node* oldest = nullptr;
    std::uint64_t bytes = 0;
    std::size_t size = 0;
    void push(node& n) noexcept;
    void take(node& n) noexcept;
  };
  // Where a hash was evicted from the small queue, and when (as a count of such evictions, in units of a 4,096th of the table). One
  // slot per hash: a collision forgets the older ghost, which only costs that key a second look.
  struct ghost {
    std::uint16_t tag = 0;
    std::uint16_t when = 0;
  };

  queue& queue_of(const node& n) noexcept { return n.in_main() ? main_ : small_; }
  static std::uint16_t tag_of(std::uint64_t hash) noexcept { return static_cast<std::uint16_t>(hash >> 48 | 1); }
  ghost& slot_of(std::uint64_t hash) noexcept { return ghosts_[hash & (ghosts_.size() - 1)]; }
  void remember(std::uint64_t hash);
  bool recall(std::uint64_t hash) noexcept;

  const std::uint64_t bytes_max_;
  const std::uint64_t small_bytes_max_;
  queue small_;
  queue main_;
  std::vector<ghost> ghosts_;  // a power of two
  int ghost_unit_ = 0;         // as an exponent of two
  std::uint64_t ghosts_seen_ = 0;
};

template <class HashOf>
s3_fifo::node* s3_fifo::evict(HashOf hash_of) {
  for (;;) {
    const bool from_small = small_.oldest != nullptr && (small_.bytes > small_bytes_max_ || main_.oldest == nullptr);
    if (from_small) {
      auto& n = *small_.oldest;
      small_.take(n);
      if (n.uses_ > 1) {
        n.uses_ = 0;
        n.in_main_ = 1;
        main_.push(n);
        continue;
      }
      remember(hash_of(n));
      return &n;
    }
    if (main_.oldest == nullptr) return nullptr;
    auto& n = *main_.oldest;
    main_.take(n);
    if (n.uses_ == 0) return &n;
    --n.uses_;
    main_.push(n);
  }
}

}  // namespace asidecar::core
