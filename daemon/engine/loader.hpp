// The port to an origin: a load in, a value or an error out. One object per worker thread and route; used on that thread only.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/engine/value.hpp"
#include "daemon/runtime/clock.hpp"
#include "daemon/runtime/task.hpp"

namespace asidecar::engine {

using runtime::steady_time;
using runtime::task;

struct load_request {
  std::vector<std::string> params;  // what the key captured, in the order of the route's key template
  std::vector<std::pair<std::string, std::string>> headers;  // forwarded request headers (HTTP origins)
  value_ptr current;     // what is stored now, for conditional revalidation; may be null
  steady_time deadline;  // hard limit; past it the loader answers load_error::timeout
};

struct loaded {
  enum class outcome : std::uint8_t { value, no_record, not_modified };  // not_modified: `current` is good for another while
  outcome what = outcome::value;
  std::string body;
  std::string content_type;
  std::string content_encoding;
  std::string etag;           // the origin's validators, empty when it gave none
  std::string last_modified;
  // What the origin's Cache-Control said, when the route obeys it. Unset: the route's policy decides.
  bool storable = true;
  std::optional<std::chrono::milliseconds> fresh_for;
  std::optional<std::chrono::milliseconds> stale_while_revalidate;
  std::optional<std::chrono::milliseconds> stale_if_error;
  std::chrono::seconds age{0};  // how old the answer already was
};

struct load_error {
  enum class kind : std::uint8_t {
    failed,      // 502: the origin answered with an error, garbage or not at all
    timeout,     // 504: the deadline came first
    open,        // 503: its circuit breaker is open
    overloaded,  // 503: its queue is full
    bad_key,     // 400: the origin cannot take a value of this key (wrong type, out of range)
  };
  // How far the call got: what is known of the origin, and of what a write has done to it.
  enum class progress : std::uint8_t {
    not_asked,   // our own refusal
    not_sent,    // the origin never saw it, or can do nothing for now: nothing has changed
    unanswered,  // it may have been done, or may still be
    ended,       // the origin has ended with it, and may have done it
    refused,     // the origin said no: nothing has changed
  };
  kind what = kind::failed;
  std::string detail;  // for the log only: may quote the origin
  std::chrono::seconds retry_after{1};
  bool origins_fault = true;  // counts for its circuit breaker, and is worth a retry; false: only this key's load is bad
  progress got = progress::unanswered;
  bool may_pass = false;  // of a write: the origin failed over it, and may do better another time

  static load_error failed(std::string detail) { return {kind::failed, std::move(detail)}; }
  static load_error refused(std::string detail) { return {kind::failed, std::move(detail), std::chrono::seconds(1), false, progress::refused}; }
  static load_error timed_out(std::string detail) { return {kind::timeout, std::move(detail)}; }
  static load_error not_asked(std::string detail) { return {kind::bad_key, std::move(detail), std::chrono::seconds(1), false, progress::not_asked}; }
  static load_error bad_key(std::string detail) { return {kind::bad_key, std::move(detail), std::chrono::seconds(1), false, progress::refused}; }
};

using load_outcome = std::variant<loaded, load_error>;

class loader {
 public:
  virtual ~loader() = default;
  virtual task<load_outcome> load(load_request request) = 0;
};

// Counters of one origin, shared by all threads.
struct origin_stats {
  enum class breaker_state : std::uint8_t { closed, half_open, open };
  std::atomic<std::uint64_t> loads{0};     // calls made
  std::atomic<std::uint64_t> errors{0};    // of them failed or timed out
  std::atomic<std::uint64_t> refused{0};   // not made: breaker open or queue full
  std::atomic<std::uint64_t> in_flight{0};
  std::atomic<std::uint64_t> queued{0};
  std::atomic<breaker_state> breaker{breaker_state::closed};
  std::atomic<bool> up{true};              // the last call succeeded
};

}  // namespace asidecar::engine
