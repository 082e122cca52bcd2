// What a value of the file stands for: ${NAME} and ${NAME:-default} from the environment, file:PATH for
// secrets. Reads the environment and files; call at start-up and reload only.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::config {

struct expansion {
  std::string value;
  std::string problem;  // what is wrong; empty: nothing. Never repeats a value.
};

// As in a shell, ":-" also replaces a variable that is set but empty. The result is not expanded again.
expansion expand_environment(std::string_view raw);

// The text itself, or the content of the file that file:PATH names, without the line break at its end.
expansion resolve_secret(std::string text);

// The file's first limit + 1 bytes, so that the caller can tell what is too large. nullopt: unreadable.
std::optional<std::string> read_start(const std::string& path, std::size_t limit);

}  // namespace asidecar::config
