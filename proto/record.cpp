#include "proto/record.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include <array>
#include <cassert>
#include <charconv>
#include <cstring>
#include <memory>

#include "proto/hot_bodies.hpp"

namespace asidecar::proto {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the record is written as it lies in memory");

constexpr std::uint16_t flag_negative = 1;
constexpr std::uint16_t flag_compressed = 2;
constexpr std::size_t checked_from = 32;
constexpr std::size_t fixed_size = 96;
// What Redis stores is read far more often than written. Of a small value most of the time to read it went into building the tables
// of its literals' Huffman code; negative levels have none. 4 KiB of JSON: 3.6 us instead of 7.2, 46 % of the size instead of 32 %.
constexpr std::size_t small_body = 16 * 1024;
constexpr int small_body_level = -1;
constexpr int large_body_level = 1;  // a load waits for it
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
  return XXH3_64bits_withSeed(bytes.data() + checked_from, bytes.size() - checked_from, get<std::uint64_t>(bytes.data()));
}

bool sane(std::int64_t time_ms) noexcept { return time_ms >= 0 && time_ms <= time_ms_max; }

}  // namespace

std::string expiry_mark(std::int64_t expired_at_ms) {
  std::string out(16, '\0');
  put<std::int64_t>(out.data(), expired_at_ms);
  put<std::uint64_t>(&out[8], XXH3_64bits(out.data(), 8));
  return out;
}

std::uint64_t hash_tags(std::span<const std::string> names) {
  std::string all;
  for (const auto& name : names) all.append(name).push_back('\0');
  return names.empty() ? 0 : XXH3_64bits(all.data(), all.size());
}

namespace {

bool is_bomb(std::size_t size, std::size_t compressed) noexcept { return size > any_ratio_below && size / compressed >= compression_ratio_max; }

// Empty when it would save less than a quarter: each read pays for it.
std::string compressed(std::string_view body) {
  std::string out(ZSTD_compressBound(body.size()), '\0');
  const auto size = ZSTD_compress(out.data(), out.size(), body.data(), body.size(), body.size() < small_body ? small_body_level : large_body_level);
  if (ZSTD_isError(size) != 0 || size > body.size() / 4 * 3 || is_bomb(body.size(), size)) return {};
  out.resize(size);
  return out;
}

}  // namespace

std::string encode_record(const record& value, std::uint64_t compress_above) {
  const std::array<std::string_view, 5> texts{value.etag, value.content_type, value.content_encoding, value.origin_etag,
                                              value.last_modified};
  std::size_t body_offset = fixed_size + value.tag_versions.size();
  for (const auto& text : texts) {
    assert(text.size() <= record_text_max);
    body_offset += text.size();
  }
  std::string small;
  if (compress_above > 0 && value.body.size() >= compress_above) small = compressed(value.body);
  const auto body = small.empty() ? value.body : std::string_view(small);
  std::string out;
  out.reserve(body_offset + body.size());
  out.resize(fixed_size);
  std::memcpy(out.data(), record_magic.data(), record_magic.size());
  put<std::uint16_t>(&out[4], static_cast<std::uint16_t>((value.negative ? flag_negative : 0) | (small.empty() ? 0 : flag_compressed)));
  put<std::uint16_t>(&out[6], static_cast<std::uint16_t>(body_offset));
  out.replace(expiry_mark_offset, 16, expiry_mark(value.expired_at_ms));
  put<std::int64_t>(&out[32], value.created_ms);
  put<std::int64_t>(&out[40], value.fresh_ms);
  put<std::int64_t>(&out[48], value.stale_while_revalidate_ms);
  put<std::int64_t>(&out[56], value.stale_if_error_ms);
  put<std::uint32_t>(&out[64], value.load_time_us);
  put<std::uint32_t>(&out[68], static_cast<std::uint32_t>(body.size()));
  put<std::uint32_t>(&out[72], static_cast<std::uint32_t>(value.body.size()));
  put<std::uint16_t>(&out[86], static_cast<std::uint16_t>(value.tag_versions.size() / tag_version_bytes));
  put<std::uint64_t>(&out[88], value.tags_hash);
  out.append(value.tag_versions);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    put<std::uint16_t>(&out[76 + 2 * i], static_cast<std::uint16_t>(texts[i].size()));
    out.append(texts[i]);
  }
  out.append(body);
  put<std::uint64_t>(&out[8], checksum(out));
  return out;
}

namespace {

// False when the lengths do not fit together.
bool read_fields(std::string_view bytes, record& value) noexcept {
  const char* p = bytes.data();
  const auto flags = get<std::uint16_t>(p + 4);
  value.negative = (flags & flag_negative) != 0;
  value.compressed = (flags & flag_compressed) != 0;
  value.expired_at_ms = get<std::int64_t>(p + 16);
  value.created_ms = get<std::int64_t>(p + 32);
  value.fresh_ms = get<std::int64_t>(p + 40);
  value.stale_while_revalidate_ms = get<std::int64_t>(p + 48);
  value.stale_if_error_ms = get<std::int64_t>(p + 56);
  value.load_time_us = get<std::uint32_t>(p + 64);
  value.body_size = get<std::uint32_t>(p + 72);
  value.tags_hash = get<std::uint64_t>(p + 88);
  std::size_t offset = fixed_size;
  const std::size_t tags = get<std::uint16_t>(p + 86);
  if (tags > record_tags_max || tags * tag_version_bytes > bytes.size() - offset) return false;
  value.tag_versions = bytes.substr(offset, tags * tag_version_bytes);
  offset += value.tag_versions.size();
  const char* length = p + 76;
  for (std::string_view* text : {&value.etag, &value.content_type, &value.content_encoding, &value.origin_etag,
                                 &value.last_modified}) {
    const std::size_t size = get<std::uint16_t>(length);
    if (size > bytes.size() - offset) return false;
    *text = bytes.substr(offset, size);
    offset += size;
    length += 2;
  }
  if (get<std::uint16_t>(p + 6) != offset || get<std::uint32_t>(p + 68) != bytes.size() - offset) return false;
  value.body = bytes.substr(offset);
  return value.compressed || value.body_size == value.body.size();
}

}  // namespace

std::optional<record> decode_record(std::string_view bytes) noexcept {
  if (bytes.size() < fixed_size || bytes.substr(0, record_magic.size()) != record_magic) return std::nullopt;
  const char* p = bytes.data();
  const auto flags = get<std::uint16_t>(p + 4);
  if ((flags & ~(flag_negative | flag_compressed)) != 0 || get<std::uint64_t>(p + 8) != checksum(bytes)) return std::nullopt;
  if (get<std::uint64_t>(p + 24) != XXH3_64bits(p + 16, 8)) return std::nullopt;
  record value;
  value.checksum = get<std::uint64_t>(p + 8);
  if (!read_fields(bytes, value)) return std::nullopt;
  for (const auto time : {value.expired_at_ms, value.created_ms, value.fresh_ms, value.stale_while_revalidate_ms, value.stale_if_error_ms})
    if (!sane(time)) return std::nullopt;
  return value;
}

bool append_inflated(std::string& out, const record& value, std::uint64_t body_max) {
  const std::uint64_t size = value.body_size;
  if (size > body_max || value.body.empty() || is_bomb(size, value.body.size())) return false;
  // Made once per thread, when they are first needed; the context's work space is some 100 KiB.
  thread_local const auto hot = std::make_unique<hot_bodies>();
  thread_local const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (const auto body = hot->find(value.checksum, value.body); !body.empty() && body.size() == size) {
    out.append(body);
    return true;
  }
  if (ZSTD_getFrameContentSize(value.body.data(), value.body.size()) != size) return false;
  // With room to write beyond its end, zstd copies in large steps up to it; without, the last match goes byte by byte.
  constexpr std::size_t slack = 64;
  const auto before = out.size();
  out.resize(before + size + slack);
  const bool whole = ZSTD_decompressDCtx(context.get(), out.data() + before, size + slack, value.body.data(), value.body.size()) == size;
  out.resize(whole ? before + size : before);
  if (whole) hot->offer(value.checksum, value.body, std::string_view(out).substr(before));
  return whole;
}

std::string make_etag(std::string_view content_type, std::string_view body) {
  made_etag room;
  const std::uint64_t hash =
      XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits(content_type.data(), content_type.size()));
  return std::string(write_made_etag(hash, room));
}

std::optional<std::uint64_t> parse_made_etag(std::string_view etag) noexcept {
  made_etag again;
  if (etag.size() != again.size()) return std::nullopt;
  std::uint64_t bits = 0;
  if (std::from_chars(etag.data() + 1, etag.data() + etag.size() - 1, bits, 16).ec != std::errc()) return std::nullopt;
  if (write_made_etag(bits, again) != etag) return std::nullopt;
  return bits;
}

namespace {

// Eight lower-case hex digits, the first one lowest in memory.
std::uint64_t hex_digits(std::uint32_t number) noexcept {
  constexpr std::uint64_t every_byte = 0x0101010101010101;
  std::uint64_t x = number;
  x = (x | x << 16) & 0x0000ffff0000ffff;
  x = (x | x << 8) & 0x00ff00ff00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;  // a digit's value in each byte
  const auto letters = (x + 6 * every_byte) >> 4 & every_byte;
  return __builtin_bswap64(x + '0' * every_byte + ('a' - '0' - 10) * letters);
}

}  // namespace

std::string_view write_made_etag(std::uint64_t bits, made_etag& to) noexcept {
  to.front() = to.back() = '"';
  put(to.data() + 1, hex_digits(static_cast<std::uint32_t>(bits >> 32)));
  put(to.data() + 9, hex_digits(static_cast<std::uint32_t>(bits)));
  return {to.data(), to.size()};
}

}  // namespace asidecar::proto
