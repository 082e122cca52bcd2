// HTTP dates (RFC 9110, section 5.6.7). Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::proto {

std::string format_http_date(std::chrono::sys_seconds when);  // IMF-fixdate, always 29 characters

// IMF-fixdate, rfc850-date and asctime-date. nullopt for anything else.
std::optional<std::chrono::sys_seconds> parse_http_date(std::string_view text);

}  // namespace asidecar::proto
