#include "daemon/core/http_template.hpp"

#include <algorithm>

#include "proto/text.hpp"

namespace asidecar::core {
namespace {

constexpr auto npos = std::string_view::npos;

bool has_dot_segment(std::string_view target) {
  target = target.substr(0, target.find('?'));
  while (!target.empty()) {
    const auto end = std::min(target.find('/'), target.size());
    const auto decoded = proto::percent_decode(target.substr(0, end));
    if (decoded && (*decoded == "." || *decoded == "..")) return true;
    target.remove_prefix(std::min(end + 1, target.size()));
  }
  return false;
}

}  // namespace

boost::variant2::variant<http_template, template_error> http_template::parse(std::string_view text) {
  http_template out;
  const auto space = text.find(' ');
  out.method_ = text.substr(0, space);
  const bool known = out.method_ == "GET" || out.method_ == "PUT" || out.method_ == "POST" || out.method_ == "PATCH" || out.method_ == "DELETE";
  if (space == npos || !known) return template_error{0, "expected a method and a path, such as 'GET /products/{sku}'"};
  std::size_t i = space + 1;
  if (i >= text.size() || text[i] != '/' || text.substr(i).starts_with("//"))
    return template_error{i, "the path must begin with one '/'; host and port belong to the origin"};
  std::string literal;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (c <= ' ' || c >= 0x7F || c == '#' || c == '}' || c == '"' || c == '\\')
      return template_error{i, "a character that cannot stand in a request target; percent-encode it"};
    if (c != '{') {
      literal.push_back(c);
      continue;
    }
    const auto close = text.find('}', i);
    const auto name = text.substr(i + 1, close == npos ? 0 : close - i - 1);
    if (close == npos || !is_placeholder_name(name)) return template_error{i, "'{' does not begin a placeholder such as {id}"};
    auto found = std::find(out.params_.begin(), out.params_.end(), name);
    if (found == out.params_.end()) found = out.params_.insert(found, std::string(name));
    out.pieces_.push_back({std::move(literal), static_cast<std::size_t>(found - out.params_.begin())});
    literal.clear();
    i = close;
  }
  out.pieces_.push_back({std::move(literal), npos});
  std::string shape;
  for (const auto& p : out.pieces_) shape.append(p.text).append(p.param == npos ? "" : "x");
  if (has_dot_segment(shape)) return template_error{space + 1, "'.' and '..' segments are not allowed in the path"};
  return out;
}

std::optional<std::string> http_template::target(const std::vector<std::string_view>& values) const {
  std::string out;
  for (const auto& p : pieces_) {
    out.append(p.text);
    if (p.param != npos) out.append(proto::percent_encode(values[p.param]));
  }
  if (has_dot_segment(out)) return std::nullopt;
  return out;
}

}  // namespace asidecar::core
