#include "daemon/core/s3_fifo.hpp"

#include <algorithm>

namespace asidecar::core {
namespace {

constexpr std::size_t ghosts_min = 64;

}  // namespace

void s3_fifo::queue::push(node& n) noexcept {
  n.newer = nullptr;
  n.older = newest;
  (newest != nullptr ? newest->newer : oldest) = &n;
  newest = &n;
  bytes += n.bytes;
  ++size;
}

void s3_fifo::queue::take(node& n) noexcept {
  (n.newer != nullptr ? n.newer->older : newest) = n.older;
  (n.older != nullptr ? n.older->newer : oldest) = n.newer;
  bytes -= n.bytes;
  --size;
}

void s3_fifo::insert(node& n, std::uint64_t hash) {
  n.uses = 0;
  n.in_main = recall(hash);
  queue_of(n).push(n);
}

void s3_fifo::replace(node& old, node& n) noexcept {
  queue_of(old).take(old);
  n.uses = old.uses;
  n.in_main = old.in_main;
  queue_of(n).push(n);
}

void s3_fifo::remove(node& n) noexcept { queue_of(n).take(n); }

// A few more ghosts than entries: some are forgotten early, where two share a slot. The table grows with the entries.
void s3_fifo::remember(std::uint64_t hash) {
  const auto wanted = std::max(ghosts_min, 2 * (main_.size + small_.size));
  if (ghosts_.size() < wanted) {
    std::size_t size = ghosts_min;
    while (size < wanted) size *= 2;
    std::vector<ghost> larger(size);
    for (const auto& g : ghosts_)  // the slot is made of bits of the tag, so that ghosts can move
      if (g.tag != 0) larger[g.tag & (size - 1)] = g;
    ghosts_ = std::move(larger);
  }
  const auto tag = static_cast<std::uint32_t>(hash) | 1U << 31;
  ghosts_[tag & (ghosts_.size() - 1)] = {tag, ++ghosts_seen_};
}

bool s3_fifo::recall(std::uint64_t hash) noexcept {
  if (ghosts_.empty()) return false;
  const auto tag = static_cast<std::uint32_t>(hash) | 1U << 31;
  auto& slot = ghosts_[tag & (ghosts_.size() - 1)];
  if (slot.tag != tag || ghosts_seen_ - slot.when > (main_.size + small_.size) * 5 / 4) return false;
  slot = {};
  return true;
}

}  // namespace asidecar::core
