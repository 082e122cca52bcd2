#include "daemon/core/s3_fifo.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace asidecar::core {
namespace {

constexpr std::size_t ghosts_min = 64;

}  // namespace

void s3_fifo::node::bytes(std::uint32_t n) noexcept {
  assert(n <= bytes_max);
  bytes_low_ = n & 0xffff;
  bytes_high_ = n >> 16 & 0x1fff;
}

void s3_fifo::queue::push(node& n) noexcept {
  assert(node::at(node::address(&n) & ((std::uint64_t(1) << 48) - 1)) == &n);
  n.newer(nullptr);
  n.older(newest);
  if (newest != nullptr) newest->newer(&n);
  else oldest = &n;
  newest = &n;
  bytes += n.bytes();
  ++size;
}

void s3_fifo::queue::take(node& n) noexcept {
  if (n.newer() != nullptr) n.newer()->older(n.older());
  else newest = n.older();
  if (n.older() != nullptr) n.older()->newer(n.newer());
  else oldest = n.newer();
  bytes -= n.bytes();
  --size;
}

void s3_fifo::insert(node& n, std::uint64_t hash) {
  n.uses_ = 0;
  n.in_main_ = recall(hash) ? 1 : 0;
  queue_of(n).push(n);
}

void s3_fifo::replace(node& old, node& n) noexcept {
  queue_of(old).take(old);
  n.uses_ = old.uses_;
  n.in_main_ = old.in_main_;
  queue_of(n).push(n);
}

void s3_fifo::remove(node& n) noexcept {
  queue_of(n).take(n);
  if (main_.size + small_.size == 0) std::vector<ghost>().swap(ghosts_);  // which also gives its memory back
}

// A few more ghosts than entries: some are forgotten early, where two share a slot. All are when the entries have become twice as many.
void s3_fifo::remember(std::uint64_t hash) {
  const auto wanted = std::bit_ceil(std::max(ghosts_min, 2 * (main_.size + small_.size)));
  if (ghosts_.size() < wanted) {
    ghosts_ = std::vector<ghost>(wanted);
    ghost_unit_ = std::max(0, std::countr_zero(wanted) - 12);
  }
  slot_of(hash) = {tag_of(hash), static_cast<std::uint16_t>(++ghosts_seen_ >> ghost_unit_)};
}

bool s3_fifo::recall(std::uint64_t hash) noexcept {
  if (ghosts_.empty()) return false;
  auto& slot = slot_of(hash);
  if (slot.tag != tag_of(hash)) return false;
  const auto units = static_cast<std::uint16_t>((ghosts_seen_ >> ghost_unit_) - slot.when);
  if (std::size_t(units) << ghost_unit_ > (main_.size + small_.size) * 5 / 4) return false;
  slot = {};
  return true;
}

}  // namespace asidecar::core
