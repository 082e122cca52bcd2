#include "proto/record.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cassert>
#include <cstring>

namespace asidecar::proto {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the record is written as it lies in memory");

constexpr std::string_view magic("ASC\x01", 4);
constexpr std::uint16_t flag_negative = 1;
constexpr std::size_t checksum_end = 16;
constexpr std::size_t fixed_size = 66;
// Durations beyond this are not ours; keeps every sum of times far from overflow.
constexpr std::int64_t time_ms_max = std::int64_t(1) << 52;

template <class T>
void put(char* at, T value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

template <class T>
T get(const char* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::uint64_t checksum(std::string_view bytes) noexcept {
  return XXH3_64bits_withSeed(bytes.data() + checksum_end, bytes.size() - checksum_end, get<std::uint64_t>(bytes.data()));
}

bool sane(std::int64_t time_ms) noexcept { return time_ms >= 0 && time_ms <= time_ms_max; }

}  // namespace

std::string encode_record(const record& value) {
  const std::array<std::string_view, 5> texts{value.etag, value.content_type, value.content_encoding, value.origin_etag,
                                              value.last_modified};
  std::size_t body_offset = fixed_size;
  for (const auto& text : texts) {
    assert(text.size() <= record_text_max);
    body_offset += text.size();
  }
  std::string out;
  out.reserve(body_offset + value.body.size());
  out.resize(fixed_size);
  std::memcpy(out.data(), magic.data(), magic.size());
  put<std::uint16_t>(&out[4], value.negative ? flag_negative : 0);
  put<std::uint16_t>(&out[6], static_cast<std::uint16_t>(body_offset));
  put<std::int64_t>(&out[16], value.created_ms);
  put<std::int64_t>(&out[24], value.fresh_ms);
  put<std::int64_t>(&out[32], value.stale_while_revalidate_ms);
  put<std::int64_t>(&out[40], value.stale_if_error_ms);
  put<std::uint32_t>(&out[48], value.load_time_us);
  put<std::uint32_t>(&out[52], static_cast<std::uint32_t>(value.body.size()));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    put<std::uint16_t>(&out[56 + 2 * i], static_cast<std::uint16_t>(texts[i].size()));
    out.append(texts[i]);
  }
  out.append(value.body);
  put<std::uint64_t>(&out[8], checksum(out));
  return out;
}

std::optional<record> decode_record(std::string_view bytes) noexcept {
  if (bytes.size() < fixed_size || bytes.substr(0, magic.size()) != magic) return std::nullopt;
  const char* p = bytes.data();
  const auto flags = get<std::uint16_t>(p + 4);
  if ((flags & ~flag_negative) != 0 || get<std::uint64_t>(p + 8) != checksum(bytes)) return std::nullopt;

  record value;
  value.negative = (flags & flag_negative) != 0;
  value.created_ms = get<std::int64_t>(p + 16);
  value.fresh_ms = get<std::int64_t>(p + 24);
  value.stale_while_revalidate_ms = get<std::int64_t>(p + 32);
  value.stale_if_error_ms = get<std::int64_t>(p + 40);
  value.load_time_us = get<std::uint32_t>(p + 48);
  if (!sane(value.created_ms) || !sane(value.fresh_ms) || !sane(value.stale_while_revalidate_ms) ||
      !sane(value.stale_if_error_ms))
    return std::nullopt;

  std::size_t offset = fixed_size;
  const char* length = p + 56;
  for (std::string_view* text : {&value.etag, &value.content_type, &value.content_encoding, &value.origin_etag,
                                 &value.last_modified}) {
    const std::size_t size = get<std::uint16_t>(length);
    if (size > bytes.size() - offset) return std::nullopt;
    *text = bytes.substr(offset, size);
    offset += size;
    length += 2;
  }
  if (get<std::uint16_t>(p + 6) != offset || get<std::uint32_t>(p + 52) != bytes.size() - offset) return std::nullopt;
  value.body = bytes.substr(offset);
  return value;
}

std::string make_etag(std::string_view content_type, std::string_view body) {
  static constexpr char digits[] = "0123456789abcdef";
  const std::uint64_t hash =
      XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits(content_type.data(), content_type.size()));
  std::string out = "\"";
  for (int shift = 60; shift >= 0; shift -= 4) out.push_back(digits[hash >> shift & 15]);
  out.push_back('"');
  return out;
}

}  // namespace asidecar::proto
