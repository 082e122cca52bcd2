// What instances tell each other over publish/subscribe. One message, one thing that has changed:
//   <sender, 16 hex digits> <kind, one letter> <prefix length, 4 hex digits> <prefix> <text>
// Messages about another prefix are somebody else's. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::proto {

inline constexpr std::string_view backplane_channel = "asidecar:invalidate";
// The plain form that other apps know (backplane: pubsub): the payload is the name of the changed value in Redis.
inline constexpr std::string_view plain_channel = "cache:invalidate";
// Where CLIENT TRACKING sends, with REDIRECT: arrays of names, or nil for "everything".
inline constexpr std::string_view tracking_channel = "__redis__:invalidate";

struct backplane_message {
  enum class kind : char {
    key = 'k',      // invalidated
    pattern = 'p',  // all keys that match a glob were
    tag = 't',      // all values with it were
    changed = 'c',  // a key has a new value: what was copied from Redis is old, but nothing was invalidated
  };
  std::uint64_t sender = 0;
  kind what = kind::key;
  std::string_view text;  // without the prefix
};

std::string encode_backplane_message(const backplane_message& m, std::string_view prefix);
// nullopt: not of this form, or about another prefix.
std::optional<backplane_message> decode_backplane_message(std::string_view bytes, std::string_view prefix) noexcept;

}  // namespace asidecar::proto
