#include "proto/hot_bodies.hpp"

#include <utility>

namespace asidecar::proto {

std::string_view hot_bodies::find(std::uint64_t checksum, std::string_view frame) noexcept {
  place& p = place_of(checksum);
  if (p.checksum != checksum || p.frame_size != frame.size() || !std::string_view(p.pair).starts_with(frame)) return {};
  p.challenger = p.checksum;
  p.hit = true;
  return std::string_view(p.pair).substr(p.frame_size);
}

void hot_bodies::offer(std::uint64_t checksum, std::string_view frame, std::string_view body) {
  const auto size = frame.size() + body.size();
  if (size > pair_bytes_max) return;
  place& p = place_of(checksum);
  if (p.challenger != checksum) {
    p.challenger = checksum;
    return;
  }
  if (bytes_ - p.pair.size() + size > bytes_max && !make_room(size)) return;
  clear(p);
  p.pair.reserve(size);
  p.pair.append(frame).append(body);
  p.checksum = checksum;
  p.frame_size = frame.size();
  bytes_ += size;
}

std::size_t hot_bodies::bytes() const noexcept {
  std::size_t all = 0;
  for (const auto& p : places_)
    if (p.frame_size > 0 || p.pair.capacity() > std::string().capacity()) all += p.pair.capacity();
  return all;
}

// CLOCK: a hit spares a pair once.
bool hot_bodies::make_room(std::size_t size) noexcept {
  constexpr std::uint32_t one_offer_in = 8;  // so that a working set larger than the room does not turn it over again and again
  if (++offers_without_room_ % one_offer_in != 0) return false;
  while (bytes_ + size > bytes_max) {
    place& p = places_[hand_];
    hand_ = (hand_ + 1) % places_.size();
    if (std::exchange(p.hit, false)) return false;
    clear(p);
  }
  return true;
}

void hot_bodies::clear(place& p) noexcept {
  bytes_ -= p.pair.size();
  std::string().swap(p.pair);  // an assignment would keep its room
  p.frame_size = 0;
  p.hit = false;
}

}  // namespace asidecar::proto
