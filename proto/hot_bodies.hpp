// What hot values look like decompressed, so that a value that is read again and again from Redis is decompressed once. Not a cache of
// what Redis holds: it is asked each time, and only a frame that is the same byte for byte finds its body here.
// One per thread, and of one thread; holds at most `bytes_max`, the copies of the frames included.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace asidecar::proto {

class hot_bodies {
 public:
  static constexpr std::size_t bytes_max = std::size_t(1) << 20;
  static constexpr std::size_t pair_bytes_max = bytes_max / 16;  // a frame and its body

  // The body of this frame, empty when it is not here; valid until the next offer(). `checksum`: any number that differs from value to value.
  std::string_view find(std::uint64_t checksum, std::string_view frame) noexcept;

  // Kept when offered twice in a row for its place, with no hit there in between: a scan copies nothing and displaces nothing. When there
  // is no room, one such offer in a few takes that of a pair which had no hit since it was last looked at.
  void offer(std::uint64_t checksum, std::string_view frame, std::string_view body);

  std::size_t bytes() const noexcept;  // what is taken, counted anew

 private:
  struct place {
    std::uint64_t checksum = 0;
    std::uint64_t challenger = 0;
    std::size_t frame_size = 0;
    std::string pair;  // the frame, then the body
    bool hit = false;  // since the hand came by
  };
  place& place_of(std::uint64_t checksum) noexcept { return places_[checksum % places_.size()]; }
  bool make_room(std::size_t size) noexcept;
  void clear(place& p) noexcept;

  std::array<place, 1024> places_{};
  std::size_t bytes_ = 0;
  std::size_t hand_ = 0;
  std::uint32_t offers_without_room_ = 0;
};

}  // namespace asidecar::proto
