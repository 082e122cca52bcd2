// Small text rules shared by every protocol: percent-encoding, UTF-8, JSON string escaping, case-insensitive compare.
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::proto {

// Case-insensitive equality of ASCII text (header names, host names).
bool iequals(std::string_view a, std::string_view b) noexcept;

std::string_view trim(std::string_view text) noexcept;  // SP and HTAB at both ends (RFC 9110 OWS)

// Decodes %XX (RFC 3986). nullopt when a '%' is not followed by two hex digits.
std::optional<std::string> percent_decode(std::string_view text);

// Encodes everything but the unreserved characters of RFC 3986, so the result is exactly one path segment
// or one query value. A segment that would be "." or ".." comes out with its dots encoded as well.
std::string percent_encode(std::string_view text);

// Well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
bool valid_utf8(std::string_view text) noexcept;

// Appends `text` as the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD.
void append_json_escaped(std::string& out, std::string_view text);
// The whole string, in its quotes.
std::string json_string(std::string_view text);

// For logs: printable ASCII stays, everything else becomes \xNN; at most `limit` bytes of input are shown.
std::string escape_for_log(std::string_view text, std::size_t limit = 128);

std::string base64(std::string_view bytes);  // RFC 4648, with padding

// A whole decimal number without sign, spaces or overflow.
std::optional<std::uint64_t> parse_decimal(std::string_view text) noexcept;

}  // namespace asidecar::proto
