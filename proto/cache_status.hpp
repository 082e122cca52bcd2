// The Cache-Status response field (RFC 9211): how this answer came about. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::proto {

enum class forward_reason : std::uint8_t {
  none,      // not forwarded: a hit
  uri_miss,  // nothing was stored
  stale,     // what was stored had to be validated or replaced
  request,   // the request's Cache-Control asked for it
  bypass,    // the cache could not be used
};

struct cache_status {
  forward_reason forward = forward_reason::none;
  bool stored = false;
  bool collapsed = false;
  std::optional<std::int64_t> ttl;  // seconds of freshness left; negative when stale
  std::string_view detail;          // a token: L1, L2, redis-down, ...
};

void append_cache_status(std::string& out, const cache_status& status);  // the field's value, without name and CRLF

}  // namespace asidecar::proto
