#include "daemon/core/key_template.hpp"

#include <algorithm>
#include <charconv>

namespace asidecar::core {
namespace {

constexpr bool in_name(char c) noexcept { return c != ':' && c != '/'; }

constexpr bool is_hex(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool is_integer(std::string_view text) noexcept {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

bool is_uuid(std::string_view text) noexcept {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !is_hex(text[i])) return false;
  }
  return true;
}

std::optional<param_type> type_named(std::string_view name) noexcept {
  if (name.empty()) return param_type::name;
  if (name == "int") return param_type::integer;
  if (name == "uuid") return param_type::uuid;
  if (name == "rest") return param_type::rest;
  return std::nullopt;
}

}  // namespace

boost::variant2::variant<key_template, template_error> key_template::parse(std::string_view text) {
  key_template out;
  std::string literal;
  const auto flush = [&] {
    if (!literal.empty()) out.segments_.push_back({std::move(literal), 0});
    literal.clear();
  };
  if (text.empty()) return template_error{0, "a key template must not be empty"};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < text.size() && text[i + 1] == c) {
      literal.push_back(c);
      ++i;
      continue;
    }
    if (c == '}') return template_error{i, "'}' without '{' (write '}}' for a literal brace)"};
    if (c != '{') {
      literal.push_back(c);
      continue;
    }
    const auto close = text.find('}', i);
    if (close == std::string_view::npos) return template_error{i, "'{' without '}' (write '{{' for a literal brace)"};
    const auto inside = text.substr(i + 1, close - i - 1);
    const auto colon = inside.find(':');
    const auto name = inside.substr(0, colon);
    const auto type = type_named(colon == std::string_view::npos ? std::string_view() : inside.substr(colon + 1));
    if (!is_placeholder_name(name) || name.find('.') != std::string_view::npos)
      return template_error{i, "'{" + std::string(inside) + "}' is not a placeholder; expected {name}, {name:int}, {name:uuid} or {name:rest}"};
    if (!type || (colon != std::string_view::npos && colon + 1 == inside.size()))
      return template_error{i, "unknown placeholder type in '{" + std::string(inside) + "}'; expected int, uuid or rest"};
    if (out.param_index(name)) return template_error{i, "placeholder '" + std::string(name) + "' is used twice"};
    if (*type == param_type::rest && close + 1 != text.size())
      return template_error{i, "a {name:rest} placeholder must stand at the end of the key template"};
    flush();
    if (!out.segments_.empty() && out.segments_.back().literal.empty())
      return template_error{i, "two placeholders need some text between them"};
    if (out.params_.size() == placeholders_max)
      return template_error{i, "a key template has at most " + std::to_string(placeholders_max) + " placeholders"};
    out.segments_.push_back({{}, out.params_.size()});
    out.params_.push_back({std::string(name), *type});
    i = close;
  }
  flush();
  return out;
}

std::optional<std::size_t> key_template::param_index(std::string_view name) const noexcept {
  const auto found = std::find_if(params_.begin(), params_.end(), [&](const auto& p) { return p.name == name; });
  if (found == params_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - params_.begin());
}

// No backtracking, so a match is linear in the key. Where the text after a placeholder cannot occur inside its value (the
// usual ':' or '/'), the value is the whole run. Where it can ("{slug}.json"), the value ends at the first occurrence, or, if
// that text closes the template, at the end of the key.
bool key_template::match_from(std::size_t index, std::string_view rest, captures& out) const {
  if (index == segments_.size()) return rest.empty();
  const auto& here = segments_[index];
  if (!here.literal.empty()) {
    return rest.starts_with(here.literal) && match_from(index + 1, rest.substr(here.literal.size()), out);
  }
  if (params_[here.param].type == param_type::rest) {
    out.values[here.param] = rest;
    return true;
  }
  const auto run = static_cast<std::size_t>(std::find_if_not(rest.begin(), rest.end(), in_name) - rest.begin());
  if (index + 1 == segments_.size()) {
    out.values[here.param] = rest;
    return run == rest.size() && run > 0;
  }
  const std::string& after = segments_[index + 1].literal;
  if (!in_name(after.front())) {
    out.values[here.param] = rest.substr(0, run);
    return run > 0 && match_from(index + 1, rest.substr(run), out);
  }
  const bool closes = index + 2 == segments_.size();
  const auto at = closes ? rest.size() - std::min(after.size(), rest.size()) : rest.find(after, 1);
  if (at == std::string_view::npos || at == 0 || at > run) return false;
  out.values[here.param] = rest.substr(0, at);
  return match_from(index + 1, rest.substr(at), out);
}

bool key_template::value_fits(const captures& values, std::size_t& bad_param) const {
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const auto text = values.values[i];
    const bool fits = params_[i].type == param_type::integer ? is_integer(text)
                      : params_[i].type == param_type::uuid  ? is_uuid(text)
                                                             : true;
    if (!fits) {
      bad_param = i;
      return false;
    }
  }
  return true;
}

key_template::match_result key_template::match(std::string_view key, captures& out, std::size_t& bad_param) const {
  out.size = params_.size();
  if (!match_from(0, key, out)) return match_result::no;
  return value_fits(out, bad_param) ? match_result::yes : match_result::bad_value;
}

bool key_template::covers(const key_template& later) const {
  // `later` as a string of symbols: its literal characters, and one symbol per placeholder.
  struct symbol {
    char literal;
    std::optional<param_type> param;
  };
  std::vector<symbol> symbols;
  for (const auto& s : later.segments_) {
    if (s.literal.empty()) symbols.push_back({0, later.params_[s.param].type});
    for (const char c : s.literal) symbols.push_back({c, std::nullopt});
  }
  const auto absorbs = [](param_type type, const symbol& s) {
    switch (type) {
      case param_type::rest: return true;
      case param_type::name: return s.param ? *s.param != param_type::rest : in_name(s.literal);
      case param_type::integer: return s.param == param_type::integer;
      case param_type::uuid: return s.param == param_type::uuid;
    }
    return false;
  };
  // reach[i]: the symbols up to i are consumed by the segments so far.
  std::vector<bool> reach(symbols.size() + 1, false);
  reach[0] = true;
  for (const auto& s : segments_) {
    std::vector<bool> next(symbols.size() + 1, false);
    for (std::size_t i = 0; i <= symbols.size(); ++i) {
      if (!reach[i]) continue;
      if (!s.literal.empty()) {
        std::size_t k = 0;
        while (k < s.literal.size() && i + k < symbols.size() && !symbols[i + k].param && symbols[i + k].literal == s.literal[k]) ++k;
        if (k == s.literal.size()) next[i + k] = true;
        continue;
      }
      const auto type = params_[s.param].type;
      const bool single = type == param_type::integer || type == param_type::uuid;
      if (type == param_type::rest) next[i] = true;
      for (std::size_t k = i; k < symbols.size() && absorbs(type, symbols[k]); ++k) {
        next[k + 1] = true;
        if (single) break;
      }
    }
    reach = std::move(next);
  }
  return reach[symbols.size()];
}

std::string key_template::format(const std::vector<std::string>& values) const {
  std::string out;
  for (const auto& s : segments_) out.append(s.literal.empty() ? values.at(s.param) : s.literal);
  return out;
}

std::optional<std::string> key_template::respelled(const captures& values) const {
  bool differs = false;
  std::string out;
  for (const auto& s : segments_) {
    const auto from = out.size();
    out.append(s.literal.empty() ? values.values[s.param] : s.literal);
    if (!s.literal.empty()) continue;
    const auto type = params_[s.param].type;
    if (type == param_type::uuid) {
      for (auto i = from; i < out.size(); ++i)
        if (out[i] >= 'A' && out[i] <= 'F') out[i] = static_cast<char>(out[i] + ('a' - 'A'));
    } else if (type == param_type::integer) {
      std::int64_t number = 0;
      std::from_chars(values.values[s.param].data(), values.values[s.param].data() + values.values[s.param].size(), number);
      out.replace(from, out.npos, std::to_string(number));
    }
    differs = differs || std::string_view(out).substr(from) != values.values[s.param];
  }
  if (!differs) return std::nullopt;
  return out;
}

}  // namespace asidecar::core
