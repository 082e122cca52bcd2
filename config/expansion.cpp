#include "config/expansion.hpp"

#include <cstdlib>
#include <fstream>

#include "config/findings.hpp"

namespace asidecar::config {
namespace {

constexpr std::size_t secret_max_bytes = std::size_t(64) << 10;

expansion expand_variable(std::string_view inside) {
  constexpr std::string_view digits = "0123456789";
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const auto fallback = inside.find(":-");
  const std::string name(inside.substr(0, fallback));
  if (name.empty() || name.find_first_not_of(allowed) != std::string::npos ||
      digits.find(name[0]) != digits.npos)
    return {{}, "'${' does not begin ${NAME} or ${NAME:-default}"};
  const char* const found = std::getenv(name.c_str());
  if (fallback != std::string_view::npos && (found == nullptr || *found == '\0'))
    return {std::string(inside.substr(fallback + 2)), {}};
  if (found == nullptr)
    return {{}, "the environment variable " + quoted(name) + " is not set and has no default"};
  return {found, {}};
}

}  // namespace

expansion expand_environment(std::string_view raw) {
  expansion out;
  for (;;) {
    const auto open = raw.find("${");
    out.value.append(raw.substr(0, open));
    if (open == std::string_view::npos) return out;
    if (open > 0 && raw[open - 1] == '$') {  // "$${" stands for "${"
      out.value.append("{");
      raw.remove_prefix(open + 2);
      continue;
    }
    const auto close = raw.find('}', open);
    if (close == std::string_view::npos) return {{}, "'${' without '}'"};
    const auto inside = raw.substr(open + 2, close - open - 2);
    if (inside.find("${") != std::string_view::npos) return {{}, "a default may not hold another '${'"};
    auto part = expand_variable(inside);
    if (!part.problem.empty()) return part;
    out.value.append(part.value);
    raw.remove_prefix(close + 1);
  }
}

expansion resolve_secret(std::string text) {
  if (text.empty()) return {{}, "must not be empty; leave the option out instead"};
  if (!text.starts_with("file:")) return {std::move(text), {}};
  const std::string path = text.substr(5);
  auto content = read_start(path, secret_max_bytes);
  if (!content) return {{}, "cannot read the file " + quoted(path)};
  if (content->size() > secret_max_bytes) return {{}, "the file " + quoted(path) + " is larger than 64KiB"};
  while (content->ends_with('\n') || content->ends_with('\r')) content->pop_back();
  if (content->empty()) return {{}, "the file " + quoted(path) + " is empty"};
  return {std::move(*content), {}};
}

std::optional<std::string> read_start(const std::string& path, std::size_t limit) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string out(limit + 1, '\0');
  in.read(out.data(), static_cast<std::streamsize>(out.size()));
  if (in.bad()) return std::nullopt;  // a directory, for one
  out.resize(static_cast<std::size_t>(in.gcount()));
  return out;
}

}  // namespace asidecar::config
