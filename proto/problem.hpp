// Errors as application/problem+json (RFC 9457). Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace asidecar::proto {

// One row per error the API answers; `type` is urn:asidecar:<slug>.
struct problem_type {
  std::uint16_t status;
  std::string_view slug;
  std::string_view title;
};

namespace problems {
inline constexpr problem_type bad_request{400, "bad-request", "Bad Request"};
inline constexpr problem_type bad_key{400, "bad-key", "Bad Key"};
inline constexpr problem_type unauthorized{401, "unauthorized", "Unauthorized"};
inline constexpr problem_type forbidden{403, "forbidden", "Forbidden"};
inline constexpr problem_type not_found{404, "not-found", "Not Found"};
inline constexpr problem_type no_route{404, "no-route", "No Route"};
inline constexpr problem_type no_record{404, "no-record", "No Record"};
inline constexpr problem_type conflict{409, "conflict", "Conflict"};
inline constexpr problem_type method_not_allowed{405, "method-not-allowed", "Method Not Allowed"};
inline constexpr problem_type timeout{408, "request-timeout", "Request Timeout"};
inline constexpr problem_type length_required{411, "length-required", "Length Required"};
inline constexpr problem_type too_large{413, "too-large", "Content Too Large"};
inline constexpr problem_type uri_too_long{414, "uri-too-long", "URI Too Long"};
inline constexpr problem_type expectation_failed{417, "expectation-failed", "Expectation Failed"};
inline constexpr problem_type headers_too_large{431, "headers-too-large", "Request Header Fields Too Large"};
inline constexpr problem_type internal{500, "internal", "Internal Error"};
inline constexpr problem_type origin_failed{502, "origin-failed", "Origin Failed"};
inline constexpr problem_type overloaded{503, "overloaded", "Overloaded"};
inline constexpr problem_type origin_open{503, "origin-open", "Origin Circuit Open"};
inline constexpr problem_type store_down{503, "store-down", "Store Unavailable"};
inline constexpr problem_type origin_timeout{504, "origin-timeout", "Origin Timeout"};
inline constexpr problem_type not_cached{504, "not-cached", "Not Cached"};
}  // namespace problems

// The document itself. `detail` is for a person and must not hold SQL, credentials or an origin's body.
std::string problem_json(const problem_type& type, std::string_view detail);

}  // namespace asidecar::proto
