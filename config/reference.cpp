// The reference page and the JSON schema, from one walk over the declarations: the walk collects entries, two
// functions write them down.
#include <algorithm>
#include <charconv>
#include <set>

#include "config/config.hpp"
#include "config/option.hpp"
#include "config/units.hpp"
#include "proto/text.hpp"

namespace asidecar::config {
namespace {

std::string code(std::string_view text) {
  return '`' + std::string(text) + '`';
}

enum class nesting : std::uint8_t { none, section, list, map };

struct entry {
  std::string name;
  std::string help;
  bool required = false;
  std::string type;           // for the page
  std::string schema;         // members of the schema object, for a single value
  std::string default_value;  // as JSON; empty: none
  nesting inside = nesting::none;
  std::vector<entry> entries;
  bool inherited = false;  // a route's policy: the default is what the `defaults` section says
};

// Every single value may also be written as ${ENV}.
std::string or_environment(const std::string& schema) {
  return R"("anyOf": [)" + schema + R"(, {"$ref": "#/$defs/environment"}])";
}

class collector final : public option_visitor {
 public:
  explicit collector(std::vector<entry>& out) : out_(out) {}

  void flag(const option& o, bool& value) override {
    add(o, "`true` or `false`", or_environment(R"({"type": "boolean"})"), value ? "true" : "false");
  }
  void integer(const option& o, std::uint32_t& value, std::uint32_t min, std::uint32_t max) override {
    add(o, "integer, " + std::to_string(min) + " to " + std::to_string(max),
        or_environment(integer_schema(min, max)), std::to_string(value));
  }
  void integer_or_auto(const option& o, std::uint32_t& value, std::uint32_t max) override {
    add(o, "`auto`, or integer, 1 to " + std::to_string(max),
        or_environment(R"({"const": "auto"}, )" + integer_schema(1, max)),
        value == 0 ? proto::json_string("auto") : std::to_string(value));
  }
  void number(const option& o, double& value, double min, double below) override {
    add(o, "number, " + shortest(min) + " to less than " + shortest(below),
        or_environment(R"({"type": "number", "minimum": )" + shortest(min) + R"(, "exclusiveMaximum": )" +
                       shortest(below) + '}'),
        shortest(value));
  }
  void duration(const option& o, milliseconds& value, milliseconds min, milliseconds max) override {
    add(o, "duration, " + print_duration(min) + " to " + print_duration(max), R"("$ref": "#/$defs/duration")",
        proto::json_string(print_duration(value)));
  }
  void size(const option& o, std::uint64_t& value, std::uint64_t max) override {
    add(o, "size, at most " + print_size(max), R"("$ref": "#/$defs/size")", proto::json_string(print_size(value)));
  }
  void text(const option& o, std::string& value, text_check) override {
    add(o, "text", R"("type": "string")", value.empty() ? "" : proto::json_string(value));
  }
  void secret(const option& o, std::string&) override {
    add(o, "secret, or `file:PATH`", R"("type": "string", "minLength": 1)", "");
  }
  void url(const option& o, std::string& value, text_check) override {
    add(o, "URL, or `file:PATH`", R"("type": "string", "minLength": 1)", value.empty() ? "" : proto::json_string(value));
  }
  void texts(const option& o, std::vector<std::string>& value, text_check) override {
    std::string items;
    for (const auto& item : value) items.append(items.empty() ? "" : ", ").append(proto::json_string(item));
    add(o, "text or list of texts",
        R"("anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": ["string", "null"]}])",
        '[' + items + ']');
  }
  void choice_index(const option& o, std::size_t& value, std::span<const std::string_view> names) override {
    std::string type;
    std::string allowed;
    for (const auto name : names) {
      type.append(type.empty() ? "" : ", ").append(code(name));
      allowed.append(allowed.empty() ? "" : ", ").append(proto::json_string(name));
    }
    add(o, "one of " + type, or_environment(R"({"enum": [)" + allowed + "]}"), proto::json_string(names[value]));
  }

  void section(const option& o, const body& describe_inside) override {
    nested(o, nesting::section, "mapping", describe_inside);
  }
  void optional_section(const option& o, bool present, const std::function<void()>& create,
                        const body& inside) override {
    if (!present) create();
    nested(o, nesting::section, "mapping, may be absent", inside);
  }
  void list(const option& o, const elements& items) override {
    nested(o, nesting::list, "list of mappings", [&](option_visitor& in) { items.inside(in, 0); });
  }
  void map(const option& o, const elements& items) override {
    nested(o, nesting::map, "mappings by name", [&](option_visitor& in) { items.inside(in, 0); });
  }

 private:
  static std::string shortest(double value) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  }
  static std::string integer_schema(std::uint32_t min, std::uint32_t max) {
    return R"({"type": "integer", "minimum": )" + std::to_string(min) + R"(, "maximum": )" +
           std::to_string(max) + '}';
  }

  void add(const option& o, std::string type, std::string schema, std::string default_value) {
    out_.push_back({std::string(o.name),
                    std::string(o.help),
                    o.required,
                    std::move(type),
                    std::move(schema),
                    o.required ? "" : std::move(default_value),
                    nesting::none,
                    {}});
  }
  void nested(const option& o, nesting inside, std::string type, const body& describe_inside) {
    entry e{std::string(o.name), std::string(o.help), o.required, std::move(type), {}, {}, inside, {}, false};
    collector children(e.entries);
    describe_inside(children);
    out_.push_back(std::move(e));
  }

  std::vector<entry>& out_;
};

void mark_inherited(std::vector<entry>& top) {
  std::set<std::string> policy;
  for (const auto& e : top)
    if (e.name == "defaults")
      for (const auto& p : e.entries) policy.insert(p.name);
  for (auto& e : top) {
    if (e.name != "routes") continue;
    for (auto& o : e.entries) o.inherited = policy.contains(o.name);
  }
}

std::vector<entry> collect() {
  settings sample;
  sample.origins.resize(1);  // an element of each, so that its defaults can be seen
  sample.routes.resize(1);
  sample.warm.resize(1);
  std::vector<entry> out;
  collector top(out);
  describe(top, sample);
  mark_inherited(out);
  return out;
}

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|')
      out.append("\\|");
    else if (c == '<')
      out.append("&lt;");
    else
      out.push_back(c);
  }
  return out;
}

std::string default_cell(const entry& e) {
  if (e.required) return "required";
  if (e.inherited) return "as in `defaults`";
  if (e.default_value.empty()) return "";
  const bool text = e.default_value.front() == '"';
  return code(text ? std::string_view(e.default_value).substr(1, e.default_value.size() - 2)
                   : e.default_value);
}

std::string path_inside(const std::string& path, const entry& e) {
  const auto name = (path.empty() ? "" : path + '.') + e.name;
  return e.inside == nesting::list ? name + "[]" : e.inside == nesting::map ? name + ".NAME" : name;
}

void write_table(std::string& out, const std::vector<entry>& entries, const std::string& path) {
  out.append("| option | type | default | meaning |\n|---|---|---|---|\n");
  for (const auto& e : entries)
    out.append("| " + code(e.name) + " | " + cell(e.type) + " | " + cell(default_cell(e)) + " | " +
               cell(e.help) + " |\n");
  for (const auto& e : entries) {
    if (e.inside == nesting::none) continue;
    const auto inside = path_inside(path, e);
    out.append("\n## " + code(inside) + "\n\n" + cell(e.help) + "\n\n");
    write_table(out, e.entries, inside);
  }
}

void write_object(std::string& out, const std::vector<entry>& entries, const std::string& indent);

void write_schema(std::string& out, const entry& e, const std::string& indent) {
  out.append(indent + proto::json_string(e.name) + ": {\"description\": " + proto::json_string(e.help));
  if (!e.schema.empty()) out.append(", " + e.schema);
  if (!e.default_value.empty() && !e.inherited) out.append(", \"default\": " + e.default_value);
  if (e.inside == nesting::section) {
    // Without its required members an empty section is an error, so null is only for those without.
    const bool needs =
        std::any_of(e.entries.begin(), e.entries.end(), [](const auto& c) { return c.required; });
    out.append(needs ? ", \"type\": \"object\"" : R"(, "type": ["object", "null"])");
    write_object(out, e.entries, indent);
  } else if (e.inside != nesting::none) {
    const bool list = e.inside == nesting::list;
    out.append(list ? R"(, "type": ["array", "null"], "items": {"type": "object")"
                    : R"(, "type": ["object", "null"], "additionalProperties": {"type": "object")");
    write_object(out, e.entries, indent);
    out.push_back('}');
  }
  out.push_back('}');
}

void write_object(std::string& out, const std::vector<entry>& entries, const std::string& indent) {
  std::string required;
  out.append(", \"additionalProperties\": false, \"properties\": {\n");
  for (const auto& e : entries) {
    write_schema(out, e, indent + "  ");
    out.append(&e == &entries.back() ? "\n" : ",\n");
    if (e.required) required.append(required.empty() ? "" : ", ").append(proto::json_string(e.name));
  }
  out.append(indent + '}');
  if (!required.empty()) out.append(", \"required\": [" + required + ']');
}

constexpr std::string_view page_head = R"(# Configuration

Made from the declarations in `config/options.cpp` by `asidecar`'s own code; do not edit.

A file in YAML. Durations: `250ms`, `2s`, `5m`, `1h`, `7d`. Sizes: `512`, `4KiB`, `64MiB`, `2GiB`. `${NAME}` and
`${NAME:-default}` in a value are replaced from the environment. Where a secret or a URL stands, `file:PATH` takes the
content of that file. Unknown and duplicate keys are errors. `asidecar check -c FILE` lists every error with its line and
column; `asidecar config -c FILE` prints what is in effect.

)";

constexpr std::string_view schema_head = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Configuration of asidecar",
  "$defs": {
    "environment": {"type": "string", "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}"},
    "duration": {"anyOf": [{"const": 0}, {"type": "string", "pattern": "^(0|[0-9]+(ms|s|m|h|d))$"}, {"$ref": "#/$defs/environment"}]},
    "size": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)?$"}, {"$ref": "#/$defs/environment"}]}
  },
  "type": "object")";

}  // namespace

std::string reference_markdown() {
  std::string out(page_head);
  write_table(out, collect(), "");
  return out;
}

std::string json_schema() {
  std::string out(schema_head);
  write_object(out, collect(), "  ");
  return out + "\n}\n";
}

}  // namespace asidecar::config
