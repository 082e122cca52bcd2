// Cache-Control of requests and responses (RFC 9111, section 5.2; RFC 5861 for the stale-* extensions). Pure; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace asidecar::proto {

using std::chrono::seconds;

// What a request asks of the cache. Arguments that are not delta-seconds leave their directive unset, as RFC 9111
// section 4.2.1 allows for invalid freshness information.
struct request_directives {
  bool no_cache = false;
  bool no_store = false;
  bool only_if_cached = false;
  bool max_stale_any = false;  // max-stale without an argument
  std::optional<seconds> max_age;
  std::optional<seconds> max_stale;
  std::optional<seconds> min_fresh;

  bool wants_new_load() const noexcept { return no_cache || no_store; }
  bool none() const noexcept {
    return !no_cache && !no_store && !only_if_cached && !max_stale_any && !max_age && !max_stale && !min_fresh;
  }
};

// What an origin's response allows a shared cache.
struct response_directives {
  bool no_store = false;
  bool no_cache = false;
  bool is_private = false;
  bool must_revalidate = false;  // also proxy-revalidate
  std::optional<seconds> s_maxage;
  std::optional<seconds> max_age;
  std::optional<seconds> stale_while_revalidate;
  std::optional<seconds> stale_if_error;
};

// Each call adds one field line to `out`; fields may be repeated.
void parse_cache_control(std::string_view value, request_directives& out);
void parse_cache_control(std::string_view value, response_directives& out);

}  // namespace asidecar::proto
