#include "proto/http_date.hpp"

#include <time.h>

namespace asidecar::proto {

std::string format_http_date(std::chrono::sys_seconds when) {
  const time_t seconds = when.time_since_epoch().count();
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  const std::size_t n = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, n};
}

std::optional<std::chrono::sys_seconds> parse_http_date(std::string_view text) {
  const std::string copy(text);
  for (const char* format : {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    tm parts{};
    const char* end = strptime(copy.c_str(), format, &parts);
    if (end != nullptr && *end == '\0') return std::chrono::sys_seconds(std::chrono::seconds(timegm(&parts)));
  }
  return std::nullopt;
}

}  // namespace asidecar::proto
