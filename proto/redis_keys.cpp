#include "proto/redis_keys.hpp"

namespace asidecar::proto {

bool names_internal(std::string_view value_name) noexcept { return value_name.starts_with(internal_namespace); }

std::string lock_name(std::string_view value_name) {
  // Redis Cluster hashes what stands between the first '{' and the next '}', if that is not empty.
  std::string_view tag = value_name;
  if (const auto open = value_name.find('{'); open != std::string_view::npos) {
    const auto close = value_name.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) tag = value_name.substr(open + 1, close - open - 1);
  }
  std::string name(internal_namespace);
  name.append("lock:{").append(tag).append("}");
  if (tag.size() != value_name.size()) name.append(value_name);
  return name;
}

std::array<std::string_view, 2> names_of_lock(std::string_view lock) noexcept {
  const auto open = lock.find('{');
  const auto close = lock.find('}', open == std::string_view::npos ? lock.size() : open);
  if (close == std::string_view::npos) return {};
  return {lock.substr(open + 1, lock.size() - open - 2), lock.substr(close + 1)};
}

std::string tag_name(std::string_view prefix, std::string_view tag) {
  return std::string(internal_namespace).append("tag:").append(prefix).append(tag);
}

// One hash tag, so that a script may use them all on Cluster.
std::string journal_name(std::string_view prefix) { return std::string(internal_namespace).append("{writes:").append(prefix).append("}"); }
std::string dead_letters_name(std::string_view prefix) { return journal_name(prefix).append(":dead"); }
std::string journal_lease_name(std::string_view prefix) { return journal_name(prefix).append(":lease"); }
std::string journal_bytes_name(std::string_view prefix) { return journal_name(prefix).append(":bytes"); }

std::string warm_lease_name(std::string_view prefix, std::string_view warm) {
  return std::string(internal_namespace).append("{warm:").append(prefix).append(warm).append("}:lease");
}

std::string glob_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

}  // namespace asidecar::proto
