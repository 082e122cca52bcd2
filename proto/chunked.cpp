#include "proto/chunked.hpp"

namespace asidecar::proto {
namespace {

constexpr std::uint32_t overhead_max = 4096;

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool control(char c) noexcept { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; }

}  // namespace

bool chunked_decoder::step(char c) noexcept {
  switch (phase_) {
    case phase::size: {
      const int value = hex_digit(c);
      if (value >= 0) {
        left_ = left_ * 16 + static_cast<std::uint64_t>(value);
        return ++digits_ <= 8;
      }
      if (digits_ == 0) return false;
      if (c == '\r') phase_ = phase::size_lf;
      else if (c == ';') phase_ = phase::extension;
      else return false;
      return true;
    }
    case phase::extension:
      if (c == '\r') phase_ = phase::size_lf;
      return (c == '\r' || !control(c)) && ++overhead_ <= overhead_max;
    case phase::size_lf:
      phase_ = left_ == 0 ? phase::trailer_start : phase::data;
      digits_ = 0;
      return c == '\n';
    case phase::data_cr: phase_ = phase::data_lf; return c == '\r';
    case phase::data_lf: phase_ = phase::size; return c == '\n';
    case phase::trailer_start:
      phase_ = c == '\r' ? phase::end_lf : phase::trailer;
      return (c == '\r' || (!control(c) && c != ' ' && c != '\t')) && ++overhead_ <= overhead_max;
    case phase::trailer:
      if (c == '\r') phase_ = phase::trailer_lf;
      return (c == '\r' || !control(c)) && ++overhead_ <= overhead_max;
    case phase::trailer_lf: phase_ = phase::trailer_start; return c == '\n';
    case phase::end_lf: phase_ = phase::end; return c == '\n';
    case phase::data:
    case phase::end: break;
  }
  return false;
}

}  // namespace asidecar::proto
