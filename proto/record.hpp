// The record: how a value and its metadata lie in Redis under `format: record`. Any thread. Pure, but for append_inflated(), which keeps
// hot bodies per thread (hot_bodies.hpp).
//
// Layout, little endian, version 2:
//    0  u8[4]  magic "ASC" and the version
//    4  u16    flags (1 = negative, 2 = body compressed with zstd)
//    6  u16    offset of the body
//    8  u64    XXH3-64 of everything from byte 32 on, seeded with bytes 0..7
//   16  u8[16] expiry mark: see expiry_mark(); the one part that is rewritten in place
//   32  i64    created, ms since the Unix epoch
//   40  i64    fresh_for, ms            (relative to created)
//   48  i64    stale_while_revalidate, ms (relative to the end of freshness)
//   56  i64    stale_if_error, ms         (relative to the end of freshness)
//   64  u32    load time Δ, µs
//   68  u32    size of the stored body
//   72  u32    size of the body
//   76  u16[5] lengths of: etag, content type, content encoding, origin etag, last-modified
//   86  u16    number of tags
//   88  u64    XXH3-64 of the tags' names, each ended by a NUL
//   96  u8[32] version of each tag, then those five strings, then the body
// Every byte is covered by a checksum, so a damaged, truncated or foreign value never decodes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace asidecar::proto {

struct record {
  bool negative = false;
  bool compressed = false;        // `body` is as stored; see append_inflated
  std::int64_t expired_at_ms = 0;  // marked stale then, ms since the Unix epoch; 0: not
  std::int64_t created_ms = 0;
  std::int64_t fresh_ms = 0;
  std::int64_t stale_while_revalidate_ms = 0;
  std::int64_t stale_if_error_ms = 0;
  std::uint32_t load_time_us = 0;
  std::uint32_t body_size = 0;     // after decompression; set by decode
  std::string_view etag;
  std::string_view content_type;
  std::string_view content_encoding;
  std::string_view origin_etag;    // validators for a conditional load
  std::string_view last_modified;
  std::uint64_t tags_hash = 0;     // of the names, see hash_tags
  std::string_view tag_versions;   // tag_version_bytes each
  std::string_view body;
  std::uint64_t checksum = 0;      // set by decode; encode_record() makes its own
};

// Longest metadata string a record can hold; encode_record drops nothing, so callers check.
inline constexpr std::size_t record_text_max = 4096;
inline constexpr std::size_t tag_version_bytes = 32;
inline constexpr std::size_t record_tags_max = 16;
// A body of more than `any_ratio_below` bytes that shrinks more than `compression_ratio_max` times is kept as it is, and one that claims to
// have is refused: no decompression bombs.
inline constexpr std::size_t any_ratio_below = std::size_t(1) << 20;
inline constexpr std::size_t compression_ratio_max = 250;

// `compress_above`: bodies from this size on are compressed when that saves something; 0: never. `value.body` is plain.
std::string encode_record(const record& value, std::uint64_t compress_above = 0);

// Views into `bytes`, which must outlive the result. nullopt for anything that fails a check.
std::optional<record> decode_record(std::string_view bytes) noexcept;

// Appends the decompressed body of what decode_record() made; `value.compressed` is true. False, and nothing appended, when the frame is
// damaged, or larger than body_max or than its size allows: checked before anything is decompressed.
bool append_inflated(std::string& out, const record& value, std::uint64_t body_max);

// The 16 bytes that, written over bytes 16..31 of a record, mark it stale since then. 0: not marked.
std::string expiry_mark(std::int64_t expired_at_ms);
inline constexpr std::size_t expiry_mark_offset = 16;
inline constexpr std::string_view record_magic("ASC\x02", 4);

std::uint64_t hash_tags(std::span<const std::string> names);

// A strong validator for a body that came without one: 64 bits of XXH3 over content type and body, quoted.
std::string make_etag(std::string_view content_type, std::string_view body);
// Its 64 bits alone, for those who keep many; nullopt for an ETag of another form.
using made_etag = std::array<char, 18>;
std::optional<std::uint64_t> parse_made_etag(std::string_view etag) noexcept;
std::string_view write_made_etag(std::uint64_t bits, made_etag& to) noexcept;

}  // namespace asidecar::proto
