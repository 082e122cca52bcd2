// What is wrong with a template of the configuration, and where in its text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace asidecar::core {

struct template_error {
  std::size_t offset;  // bytes from the start of the template
  std::string message;
};

// [A-Za-z_][A-Za-z0-9_]* with dots between such names ("body.name").
constexpr bool is_placeholder_name(std::string_view name) noexcept {
  bool at_start = true;
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    const bool inner = !at_start && ((c >= '0' && c <= '9') || c == '.');
    if (!letter && !inner) return false;
    at_start = c == '.';
  }
  return !at_start;
}

}  // namespace asidecar::core
