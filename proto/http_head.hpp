// The head of an HTTP/1.x request, and the framing gate: everything about where a message ends is decided here, from the raw
// bytes, before anything else looks at them. Stricter than RFC 9112 wherever leniency enables request smuggling: CRLF only,
// one Host, no obs-fold, no repeated Content-Length, Transfer-Encoding only "chunked", only in HTTP/1.1, never beside
// Content-Length. Pure; any thread; allocates nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "proto/cache_control.hpp"
#include "proto/text.hpp"

namespace asidecar::proto {

enum class http_method : std::uint8_t { get, head, put, post, delete_, options, patch, trace, connect };

inline constexpr std::size_t head_bytes_max = std::size_t(16) * 1024;
inline constexpr std::size_t target_bytes_max = std::size_t(8) * 1024;
inline constexpr std::size_t fields_max = 100;

// Views point into the bytes given to parse_request_head.
struct request_head {
  http_method method = http_method::get;
  std::string_view target;     // origin-form: begins with '/'
  std::string_view authority;  // of an absolute-form target, else of Host; empty only in HTTP/1.0
  std::string_view host;       // the Host field
  bool http_1_1 = true;
  bool keep_alive = true;
  bool chunked = false;
  bool expect_continue = false;
  bool unknown_expectation = false;
  std::optional<std::uint64_t> content_length;
  request_directives directives;  // all Cache-Control lines together
  // Empty when absent. Each of these may stand at most once.
  std::string_view authorization;
  std::string_view origin;
  std::string_view sec_fetch_site;
  std::string_view content_type;
  bool has_if_none_match = false;  // read with for_each_field: it may be repeated
  std::string_view fields;         // all field lines, each with its CRLF
  std::size_t size = 0;            // bytes of the head, with the empty line
};

enum class head_state : std::uint8_t {
  complete,
  incomplete,       // more bytes are needed
  bad,              // 400
  target_too_long,  // 414
  too_large,        // 431
};

struct head_result {
  head_state state;
  std::string_view reason;  // for `bad`: what was wrong, static text
};

// Parses one head at the start of `bytes`. `scanned` carries how far an earlier, incomplete call has looked; start with 0.
head_result parse_request_head(std::string_view bytes, request_head& out, std::size_t& scanned);

// host[:port] split; the brackets of an IPv6 literal stay. False when `authority` is not of that form.
bool split_authority(std::string_view authority, std::string_view& host, std::string_view& port) noexcept;

// One "name: value CRLF" line off the front of `fields`, which must have been parsed before.
bool next_field(std::string_view& fields, std::string_view& name, std::string_view& value) noexcept;

// Calls sink(value) for each field line called `name`.
template <class Sink>
void for_each_field(std::string_view fields, std::string_view name, Sink sink) {
  std::string_view field_name;
  std::string_view value;
  while (next_field(fields, field_name, value))
    if (iequals(field_name, name)) sink(value);
}

}  // namespace asidecar::proto
