#include "daemon/core/tag_template.hpp"

namespace asidecar::core {

boost::variant2::variant<tag_template, template_error> tag_template::parse(std::string_view text) {
  tag_template out;
  std::string literal;
  if (text.empty()) return template_error{0, "a tag must not be empty"};
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{' && text[i] != '}') {
      literal.push_back(text[i]);
      continue;
    }
    const auto close = text.find('}', i);
    const auto name = text.substr(i + 1, close == std::string_view::npos ? 0 : close - i - 1);
    if (text[i] == '}' || close == std::string_view::npos || !is_placeholder_name(name))
      return template_error{i, "a brace that is not part of a placeholder such as {id}"};
    out.literals_.push_back(std::move(literal));
    literal.clear();
    out.params_.emplace_back(name);
    i = close;
  }
  out.literals_.push_back(std::move(literal));
  return out;
}

std::string tag_template::format(const std::vector<std::string_view>& values) const {
  std::string out = literals_.front();
  for (std::size_t i = 0; i < params_.size(); ++i) out.append(values.at(i)).append(literals_[i + 1]);
  return out;
}

}  // namespace asidecar::core
