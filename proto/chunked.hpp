// Decoder of the chunked transfer coding of a request (RFC 9112 section 7.1). Strict: CRLF only, chunk extensions and trailer
// fields bounded and dropped. Pure; one object per message; allocates nothing.
#pragma once

#include <cstdint>
#include <string_view>

namespace asidecar::proto {

class chunked_decoder {
 public:
  enum class state : std::uint8_t { more, done, bad };

  // Takes bytes off the front of `input`; each piece of the body goes to sink(std::string_view).
  template <class Sink>
  state feed(std::string_view& input, Sink sink) {
    while (phase_ != phase::end) {
      if (phase_ == phase::data) {
        const auto piece = input.substr(0, left_ < input.size() ? static_cast<std::size_t>(left_) : input.size());
        input.remove_prefix(piece.size());
        left_ -= piece.size();
        if (!piece.empty()) sink(piece);
        if (left_ != 0) return state::more;
        phase_ = phase::data_cr;
        continue;
      }
      if (input.empty()) return state::more;
      const char c = input.front();
      input.remove_prefix(1);
      if (!step(c)) return state::bad;
    }
    return state::done;
  }

 private:
  enum class phase : std::uint8_t { size, extension, size_lf, data, data_cr, data_lf, trailer_start, trailer, trailer_lf, end_lf, end };
  bool step(char c) noexcept;

  phase phase_ = phase::size;
  std::uint64_t left_ = 0;
  std::uint32_t digits_ = 0;
  std::uint32_t overhead_ = 0;  // bytes of extensions and trailers
};

}  // namespace asidecar::proto
