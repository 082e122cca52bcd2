// What a key must be, whatever route it takes, and how forwarded headers become part of it: behind a NUL, which no key of a
// client can hold.
#pragma once

#include <string>
#include <string_view>

#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::http {

inline constexpr std::string_view keys_path = "/v1/keys/";
inline constexpr std::string_view records_path = "/v1/records/";
using proto::key_bytes_max;

// What is wrong with a decoded key, or null.
inline const char* wrong_with_key(std::string_view key) noexcept {
  if (key.empty()) return "the key is empty";
  if (key.size() > key_bytes_max) return "the key is longer than 1 KiB";
  if (key.find('\0') != std::string_view::npos) return "the key holds a NUL byte";
  if (!proto::valid_utf8(key)) return "the key is not valid UTF-8";
  return nullptr;
}

inline void append_variant(std::string& key, std::string_view header, std::string_view value) {
  key.append(1, '\0').append(header).append("=").append(value);
}

}  // namespace asidecar::http
