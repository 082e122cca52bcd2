#include "config/mapping_reader.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "config/expansion.hpp"
#include "config/units.hpp"
#include "proto/text.hpp"

namespace asidecar::config {

namespace {

// "token:abc" without the space is a key to YAML; what follows the colon may be a secret.
std::string_view before_colon(std::string_view key) {
  return key.substr(0, key.find(':'));
}

}  // namespace

std::string_view kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  return node.IsScalar() ? "a single value" : "nothing";
}

mapping_reader::mapping_reader(findings& found, const YAML::Node& node, std::string path)
    : found_(found), path_(std::move(path)) {
  for (const auto& pair : node) add(pair.first, pair.second);
}

void mapping_reader::finish() {
  for (const auto& e : entries_) {
    if (e.known) continue;
    const auto name = before_colon(e.name);
    const bool glued = name.size() != e.name.size();
    found_.error(e.mark,
                 "unknown key " + quoted(name) +
                     (glued ? "; a space is missing after its ':'" : spelling_hint(name, described_)));
    // The option that was meant is not "missing" as well.
    if (const auto meant = near_miss(name, described_); !meant.empty()) found_.set_broken(path_of(meant));
  }
  for (const auto& name : missing_) {
    if (found_.broken(path_of(name))) continue;
    found_.error_at(path_, (path_.empty() ? "" : path_ + ": ") + "missing '" + name + "'");
    found_.set_broken(path_of(name));
  }
}

void mapping_reader::flag(const option& o, bool& value) {
  const auto s = take_scalar(o, "true or false");
  if (!s) return;
  if (s->text != "true" && s->text != "false") return unexpected(*s);
  value = s->text == "true";
}

void mapping_reader::integer(const option& o, std::uint32_t& value, std::uint32_t min, std::uint32_t max) {
  const auto s = take_scalar(o, "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  if (s) read_integer(*s, value, min, max);
}

void mapping_reader::integer_or_auto(const option& o, std::uint32_t& value, std::uint32_t max) {
  const auto s = take_scalar(o, "auto or a whole number from 1 to " + std::to_string(max));
  if (!s) return;
  if (s->text == "auto")
    value = 0;
  else
    read_integer(*s, value, 1, max);
}

void mapping_reader::number(const option& o, double& value, double min, double below) {
  std::ostringstream expected;
  expected << "a number from " << min << " to less than " << below;
  const auto s = take_scalar(o, expected.str());
  if (!s) return;
  double parsed = 0;
  const char* const end = s->text.data() + s->text.size();
  const auto [stop, error] = std::from_chars(s->text.data(), end, parsed);
  const bool in_range = parsed >= min && parsed < below;  // false for NaN
  if (error != std::errc{} || stop != end || !in_range) return unexpected(*s);
  value = parsed;
}

void mapping_reader::duration(const option& o, milliseconds& value, milliseconds min, milliseconds max) {
  auto s = take_scalar(o, "a duration such as 250ms, 2s, 5m, 1h or 7d");
  if (!s) return;
  const auto parsed = parse_duration(s->text);
  if (parsed && (*parsed < min || *parsed > max))
    s->expected = "a duration from " + print_duration(min) + " to " + print_duration(max);
  if (!parsed || *parsed < min || *parsed > max) return unexpected(*s);
  value = *parsed;
}

void mapping_reader::size(const option& o, std::uint64_t& value, std::uint64_t max) {
  auto s = take_scalar(o, "a size such as 512, 4KiB, 64MiB or 2GiB");
  if (!s) return;
  const auto parsed = parse_size(s->text);
  if (parsed && *parsed > max) s->expected = "a size of at most " + print_size(max);
  if (!parsed || *parsed > max) return unexpected(*s);
  value = *parsed;
}

void mapping_reader::text(const option& o, std::string& value, text_check check) {
  auto s = take_scalar(o, "text");
  if (s && passes(*s, check)) value = std::move(s->text);
}

void mapping_reader::secret(const option& o, std::string& value) {
  url(o, value, [](std::string_view) -> std::optional<std::string> { return std::nullopt; });
}

void mapping_reader::url(const option& o, std::string& value, text_check check) {
  auto s = take_scalar(o, "text or file:PATH");
  if (!s) return;
  auto resolved = resolve_secret(std::move(s->text));
  if (!resolved.problem.empty()) return fail(*s, resolved.problem);
  s->text = std::move(resolved.value);
  if (passes(*s, check)) value = std::move(s->text);
}

void mapping_reader::texts(const option& o, std::vector<std::string>& value, text_check check) {
  const entry* const e = take(o);
  if (e == nullptr) return;
  const auto path = path_of(o.name);
  value.clear();
  // A broken item keeps its place, so that the others are found at theirs.
  const auto add_item = [&](const YAML::Node& node, scalar s) {
    auto item = read_scalar(node, std::move(s));
    value.push_back(item && passes(*item, check) ? std::move(item->text) : std::string());
  };
  if (e->value.IsNull()) return;
  if (!e->value.IsSequence())
    return add_item(e->value, {path, e->place(), std::string(o.name), "text or a list of texts", {}, {}});
  for (std::size_t i = 0; i < e->value.size(); ++i) {
    const YAML::Node item = e->value[i];
    found_.place(element_path(path, i), item.Mark());
    add_item(item, {element_path(path, i), item.Mark(), std::string(o.name), "text", {}, {}});
  }
}

void mapping_reader::choice_index(const option& o, std::size_t& value,
                                  std::span<const std::string_view> names) {
  std::string expected;
  for (const auto name : names) expected.append(expected.empty() ? "" : ", ").append(name);
  const auto s = take_scalar(o, "one of " + expected);
  if (!s) return;
  const auto match = std::find(names.begin(), names.end(), s->text);
  if (match == names.end()) return unexpected(*s, spelling_hint(s->text, {names.begin(), names.end()}));
  value = static_cast<std::size_t>(match - names.begin());
}

void mapping_reader::section(const option& o, const body& describe_inside) {
  if (const entry* const e = take(o)) read_mapping(e->value, path_of(o.name), o.name, describe_inside);
}

void mapping_reader::optional_section(const option& o, bool, const std::function<void()>& create,
                                      const body& describe_inside) {
  const entry* const e = take(o);
  if (e == nullptr) return;
  create();
  read_mapping(e->value, path_of(o.name), o.name, describe_inside);
}

void mapping_reader::list(const option& o, const elements& items) {
  const entry* const e = take(o);
  if (e == nullptr || e->value.IsNull()) return;
  const auto path = path_of(o.name);
  if (!e->value.IsSequence()) return wrong_kind(e->value, path, o.name, "a list");
  items.resize(e->value.size());
  for (std::size_t i = 0; i < e->value.size(); ++i) {
    const auto item_path = element_path(path, i);
    found_.place(item_path, e->value[i].Mark());
    read_mapping(e->value[i], item_path, item_path, [&](option_visitor& in) { items.inside(in, i); });
  }
}

void mapping_reader::map(const option& o, const elements& items) {
  const entry* const e = take(o);
  if (e == nullptr || e->value.IsNull()) return;
  const auto path = path_of(o.name);
  if (!e->value.IsMap()) return wrong_kind(e->value, path, o.name, "a mapping");
  const mapping_reader named(found_, e->value, path);
  items.resize(named.entries_.size());
  for (std::size_t i = 0; i < named.entries_.size(); ++i) {
    const auto& item = named.entries_[i];
    const auto item_path = element_path(path, i);
    items.set_name(i, item.name);
    found_.place(item_path, item.mark);
    read_mapping(item.value, item_path, item.name, [&](option_visitor& in) { items.inside(in, i); });
  }
}

void mapping_reader::add(const YAML::Node& key, const YAML::Node& value) {
  if (!key.IsScalar())
    return found_.error(key.Mark(), "expected a name as the key, found " + std::string(kind_of(key)));
  const auto [at, is_new] = index_.try_emplace(key.Scalar(), entries_.size());
  if (is_new) return entries_.push_back({key.Scalar(), key.Mark(), value});
  const auto line = std::to_string(entries_[at->second].mark.line + 1);
  found_.error(key.Mark(),
               "duplicate key " + quoted(before_colon(key.Scalar())) + "; it is already at line " + line);
}

std::string mapping_reader::path_of(std::string_view name) const {
  return (path_.empty() ? "" : path_ + '.').append(name);
}

const mapping_reader::entry* mapping_reader::take(const option& o) {
  described_.emplace_back(o.name);
  const auto at = index_.find(std::string(o.name));
  if (at == index_.end()) {
    if (o.required) missing_.emplace_back(o.name);
    return nullptr;
  }
  entry& found = entries_[at->second];
  found.known = true;
  found_.place(path_of(o.name), found.place());
  return &found;
}

std::optional<mapping_reader::scalar> mapping_reader::take_scalar(const option& o, std::string expected) {
  const entry* const e = take(o);
  if (e == nullptr) return std::nullopt;
  return read_scalar(e->value,
                     {path_of(o.name), e->place(), std::string(o.name), std::move(expected), {}, {}});
}

std::optional<mapping_reader::scalar> mapping_reader::read_scalar(const YAML::Node& node, scalar s) {
  if (!node.IsScalar()) {
    fail(s, "expected " + s.expected + ", found " + std::string(kind_of(node)));
    return std::nullopt;
  }
  s.raw = node.Scalar();
  auto expanded = expand_environment(s.raw);
  s.text = std::move(expanded.value);
  if (expanded.problem.empty() && (!proto::valid_utf8(s.text) || s.text.find('\0') != std::string::npos))
    expanded.problem = "expected " + s.expected + ", in UTF-8 and without NUL";
  if (expanded.problem.empty()) return s;
  fail(s, expanded.problem);
  return std::nullopt;
}

void mapping_reader::read_integer(const scalar& s, std::uint32_t& value, std::uint32_t min,
                                  std::uint32_t max) {
  const auto parsed = proto::parse_decimal(s.text);
  if (!parsed || *parsed < min || *parsed > max) return unexpected(s);
  value = static_cast<std::uint32_t>(*parsed);
}

bool mapping_reader::passes(const scalar& s, text_check check) {
  const auto problem = check(s.text);
  if (problem) fail(s, *problem);
  return !problem;
}

void mapping_reader::read_mapping(const YAML::Node& node, const std::string& path, std::string_view name,
                                  const body& inside) {
  if (!node.IsMap() && !node.IsNull()) return wrong_kind(node, path, name, "a mapping");
  mapping_reader in(found_, node, path);
  inside(in);
  in.finish();
}

void mapping_reader::wrong_kind(const YAML::Node& node, const std::string& path, std::string_view name,
                                std::string_view expected) {
  found_.set_broken(path);
  found_.error(node.Mark(), std::string(name) + ": expected " + std::string(expected) + ", found " +
                                std::string(kind_of(node)));
}

void mapping_reader::fail(const scalar& s, const std::string& problem) {
  found_.set_broken(s.path);
  found_.error(s.mark, s.name + ": " + problem);
}

void mapping_reader::unexpected(const scalar& s, const std::string& hint) {
  fail(s, "expected " + s.expected + ", found " + quoted(s.raw) + hint);
}

}  // namespace asidecar::config
