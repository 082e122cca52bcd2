#include "proto/hot_bodies.hpp"

namespace asidecar::proto {

std::string_view hot_bodies::find(std::uint64_t mark, std::string_view frame) noexcept {
  place& p = place_of(mark);
  if (p.mark != mark || p.frame_size != frame.size() || !std::string_view(p.pair).starts_with(frame)) return {};
  p.challenger = p.mark;
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
  empty(p);
  while (bytes_ + size > bytes_max) {
    empty(places_[hand_]);
    hand_ = (hand_ + 1) % places_.size();
  }
  p.pair.reserve(size);
  p.pair.append(frame).append(body);
  p.mark = mark;
  p.frame_size = frame.size();
  bytes_ += size;
}

void hot_bodies::empty(place& p) noexcept {
  bytes_ -= p.pair.size();
  p.pair = {};
  p.frame_size = 0;
}

}  // namespace asidecar::proto
