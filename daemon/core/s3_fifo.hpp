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
  struct node {
    node* newer = nullptr;
    node* older = nullptr;
    std::uint32_t bytes = 0;
    std::uint8_t uses = 0;    // since it came or went round, at most 3
    bool in_main = false;
  };

  explicit s3_fifo(std::uint64_t bytes_max) : bytes_max_(bytes_max), small_bytes_max_(bytes_max / 10) {}

  std::uint64_t bytes() const noexcept { return small_.bytes + main_.bytes; }
  bool over() const noexcept { return bytes() > bytes_max_; }

  // `hash` identifies the node's key among the ghosts.
  void insert(node& n, std::uint64_t hash);
  void replace(node& old, node& n) noexcept;  // `n` is the same key with another value
  static void touch(node& n) noexcept { n.uses = n.uses < 3 ? static_cast<std::uint8_t>(n.uses + 1) : n.uses; }
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
        n = n->newer;
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
  // Where a hash was evicted from the small queue, and when (as a count of such evictions). One slot per hash: a collision forgets
  // the older ghost, which only costs that key a second look.
  struct ghost {
    std::uint32_t tag = 0;
    std::uint32_t when = 0;
  };

  queue& queue_of(const node& n) noexcept { return n.in_main ? main_ : small_; }
  void remember(std::uint64_t hash);
  bool recall(std::uint64_t hash) noexcept;

  const std::uint64_t bytes_max_;
  const std::uint64_t small_bytes_max_;
  queue small_;
  queue main_;
  std::vector<ghost> ghosts_;
  std::uint32_t ghosts_seen_ = 0;
};

template <class HashOf>
s3_fifo::node* s3_fifo::evict(HashOf hash_of) {
  for (;;) {
    const bool from_small = small_.oldest != nullptr && (small_.bytes > small_bytes_max_ || main_.oldest == nullptr);
    if (from_small) {
      auto& n = *small_.oldest;
      small_.take(n);
      if (n.uses > 1) {
        n.uses = 0;
        n.in_main = true;
        main_.push(n);
        continue;
      }
      remember(hash_of(n));
      return &n;
    }
    if (main_.oldest == nullptr) return nullptr;
    auto& n = *main_.oldest;
    main_.take(n);
    if (n.uses == 0) return &n;
    --n.uses;
    main_.push(n);
  }
}

}  // namespace asidecar::core
