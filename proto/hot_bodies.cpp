#include "proto/hot_bodies.hpp"

#include <utility>

namespace asidecar::proto {

std::string_view hot_bodies::find(std::uint64_t mark, std::string_view frame) noexcept {
  place& p = place_of(mark);
  if (p.mark != mark || p.frame_size != frame.size() || !std::string_view(p.pair).starts_with(frame)) return {};
  p.challenger = p.mark;
  p.hit = true;
  return std::string_view(p.pair).substr(p.frame_size);
}

void hot_bodies::offer(std::uint64_t mark, std::string_view frame, std::string_view body) {
  const auto size = frame.size() + body.size();
  if (size > pair_bytes_max) return;
  place& p = place_of(mark);
  if (p.challenger != mark) {
    p.challenger = mark;
    return;
  }
  if (bytes_ - p.pair.size() + size > bytes_max && !make_room(size)) return;
  empty(p);
  p.pair.reserve(size);
  p.pair.append(frame).append(body);
  p.mark = mark;
  p.frame_size = frame.size();
  bytes_ += size;
}

bool hot_bodies::make_room(std::size_t size) noexcept {
  constexpr std::uint32_t heeded = 8;  // so that a working set larger than the room does not turn it over again and again
  if (++offers_without_room_ % heeded != 0) return false;
  while (bytes_ + size > bytes_max) {
    place& p = places_[hand_];
    hand_ = (hand_ + 1) % places_.size();
    if (std::exchange(p.hit, false)) return false;
    empty(p);
  }
  return true;
}

void hot_bodies::empty(place& p) noexcept {
  bytes_ -= p.pair.size();
  p.pair = {};
  p.frame_size = 0;
  p.hit = false;
}

}  // namespace asidecar::proto
