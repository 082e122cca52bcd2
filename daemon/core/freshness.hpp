// How long a value may be used, and for what. All decisions about freshness are here (RFC 9111 section 4.2, RFC 5861).
// Pure: the time and the random draw are arguments. Any thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "proto/cache_control.hpp"

namespace asidecar::core {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Wall-clock time: it is compared across instances, which share values through Redis.
using wall_time = std::chrono::sys_time<milliseconds>;

// Stored with every value.
struct lifetime {
  wall_time created{};                        // when the origin answered, less the Age it sent
  milliseconds fresh_for{0};                  // from `created`
  milliseconds stale_while_revalidate{0};     // from the end of freshness
  milliseconds stale_if_error{0};             // from the end of freshness
  microseconds load_time{0};                  // Δ of XFetch: what the load that made it took
  bool negative = false;                      // remembers that there is no such record

  wall_time fresh_until() const noexcept { return created + fresh_for; }
  wall_time dead_at() const noexcept;  // no use of any kind from here on
  seconds age(wall_time now) const noexcept;                 // never negative
  milliseconds freshness_left(wall_time now) const noexcept { return fresh_until() - now; }  // negative when stale
};

enum class verdict : std::uint8_t {
  unusable,       // must not answer this request unless a load fails (see usable_on_error)
  fresh,          // answer with it
  refresh_early,  // answer with it, and refresh it behind (XFetch)
  revalidate,     // stale, but may answer while it is refreshed behind
  stale_allowed,  // stale; the request's max-stale accepts it
};

// May `value` answer a request with these directives at `now`?
// `u` is uniform in (0,1]; `beta` <= 0 turns early refresh off.
verdict judge(const lifetime& value, const proto::request_directives& directives, wall_time now, double beta, double u) noexcept;

// stale-if-error: may `value` stand in for a load that failed?
bool usable_on_error(const lifetime& value, wall_time now) noexcept;

// XFetch: refresh when now - Δ·β·ln(u) >= expiry (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache
// Stampede Prevention, VLDB 2015).
bool refresh_early(const lifetime& value, wall_time now, double beta, double u) noexcept;

// Before this a value is fresh, and no draw of refresh_early() says yes. `u` has 53 bits, so -ln(u) is below 36.8. Never, for a negative one.
wall_time calm_until(const lifetime& value, double beta) noexcept;

// `ttl` shortened by up to the share `jitter` in [0,1); `u` is uniform in (0,1].
milliseconds jittered(milliseconds ttl, double jitter, double u) noexcept;

}  // namespace asidecar::core
