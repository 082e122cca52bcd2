#include "daemon/core/glob.hpp"

#include <algorithm>

namespace asidecar::core {
namespace {

// One element of the pattern against one character: how long the element is, and whether it matches.
struct element {
  std::size_t size;
  bool matches;
};

element match_class(std::string_view pattern, char c) noexcept {
  std::size_t i = 1;
  const bool negated = i < pattern.size() && pattern[i] == '^';
  if (negated) ++i;
  bool found = false;
  for (; i < pattern.size() && pattern[i] != ']'; ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
    char low = pattern[i];
    char high = low;
    if (i + 2 < pattern.size() && pattern[i + 1] == '-') {
      high = pattern[i + 2];
      i += 2;
    }
    if (low > high) std::swap(low, high);
    if (c >= low && c <= high) found = true;
  }
  return {std::min(i + 1, pattern.size()), found != negated};
}

element match_one(std::string_view pattern, char c) noexcept {
  switch (pattern.front()) {
    case '?': return {1, true};
    case '[': return match_class(pattern, c);
    case '\\':
      if (pattern.size() > 1) return {2, pattern[1] == c};
      [[fallthrough]];
    default: return {1, pattern.front() == c};
  }
}

}  // namespace

// Linear memory, and at most |pattern| * |text| steps: only the last star needs to be tried again.
bool glob_match(std::string_view pattern, std::string_view text) noexcept {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
      continue;
    }
    if (p < pattern.size()) {
      if (const auto e = match_one(pattern.substr(p), text[t]); e.matches) {
        p += e.size;
        ++t;
        continue;
      }
    }
    if (star == std::string_view::npos) return false;
    p = star + 1;
    t = ++star_text;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace asidecar::core
