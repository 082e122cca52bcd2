// The record: how a value and its metadata lie in Redis under `format: record`. Pure; any thread.
//
// Layout, little endian, version 1:
//    0  u8[4]  magic "ASC" and the version
//    4  u16    flags (1 = negative)
//    6  u16    offset of the body
//    8  u64    XXH3-64 of everything after this field, seeded with bytes 0..7
//   16  i64    created, ms since the Unix epoch
//   24  i64    fresh_for, ms            (relative to created)
//   32  i64    stale_while_revalidate, ms (relative to the end of freshness)
//   40  i64    stale_if_error, ms         (relative to the end of freshness)
//   48  u32    load time Δ, µs
//   52  u32    body size
//   56  u16[5] lengths of: etag, content type, content encoding, origin etag, last-modified
//   66  those five strings, then the body
// Every byte is covered by the checksum, so a damaged, truncated or foreign value never decodes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::proto {

struct record {
  bool negative = false;
  std::int64_t created_ms = 0;
  std::int64_t fresh_ms = 0;
  std::int64_t stale_while_revalidate_ms = 0;
  std::int64_t stale_if_error_ms = 0;
  std::uint32_t load_time_us = 0;
  std::string_view etag;
  std::string_view content_type;
  std::string_view content_encoding;
  std::string_view origin_etag;    // validators for a conditional load
  std::string_view last_modified;
  std::string_view body;
};

// Longest metadata string a record can hold; encode_record drops nothing, so callers check.
inline constexpr std::size_t record_text_max = 4096;

std::string encode_record(const record& value);

// Views into `bytes`, which must outlive the result. nullopt for anything that fails a check.
std::optional<record> decode_record(std::string_view bytes) noexcept;

// A strong validator for a body that came without one: 64 bits of XXH3 over content type and body, quoted.
std::string make_etag(std::string_view content_type, std::string_view body);

}  // namespace asidecar::proto
