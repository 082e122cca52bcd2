#include <charconv>

#include "config/addresses.hpp"
#include "config/config.hpp"
#include "config/option.hpp"
#include "config/units.hpp"
#include "proto/text.hpp"

namespace asidecar::config {
namespace {

// Texts are written as JSON strings, which are YAML double-quoted scalars: whatever the text is, it is read back as text.
// Writes one mapping. `lead` stands before its first line: the indent, or "- " after it for an element of a
// list.
class printer final : public option_visitor {
 public:
  printer(std::string& out, std::string lead, std::string indent)
      : out_(out), lead_(std::move(lead)), indent_(std::move(indent)) {}

  void flag(const option& o, bool& value) override { line(o.name, value ? "true" : "false"); }
  void integer(const option& o, std::uint32_t& value, std::uint32_t, std::uint32_t) override {
    line(o.name, std::to_string(value));
  }
  void integer_or_auto(const option& o, std::uint32_t& value, std::uint32_t) override {
    line(o.name, value == 0 ? "auto" : std::to_string(value));
  }
  void number(const option& o, double& value, double, double) override {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    line(o.name, std::string(digits, end));
  }
  void duration(const option& o, milliseconds& value, milliseconds, milliseconds) override {
    line(o.name, print_duration(value));
  }
  void size(const option& o, std::uint64_t& value, std::uint64_t) override {
    line(o.name, print_size(value));
  }

  void text(const option& o, std::string& value, text_check) override {
    // Empty is the same as absent for every text but this one, whose default is not empty.
    if (!value.empty() || o.name == "prefix") line(o.name, proto::json_string(value));
  }
  void secret(const option& o, std::string& value) override {
    if (!value.empty()) line(o.name, proto::json_string("***"));
  }
  void url(const option& o, std::string& value, text_check) override {
    if (!value.empty()) line(o.name, proto::json_string(redact_url(value)));
  }

  void texts(const option& o, std::vector<std::string>& value, text_check) override {
    std::string items;
    for (const auto& item : value) items.append(items.empty() ? "" : ", ").append(proto::json_string(item));
    line(o.name, '[' + items + ']');
  }

  void choice_index(const option& o, std::size_t& value, std::span<const std::string_view> names) override {
    // A YAML 1.1 reader takes a bare "off" for false.
    line(o.name, names[value] == "off" ? "\"off\"" : std::string(names[value]));
  }

  void section(const option& o, const body& describe_inside) override {
    open(o.name);
    printer inside(out_, indent_ + "  ", indent_ + "  ");
    describe_inside(inside);
  }

  void optional_section(const option& o, bool present, const std::function<void()>&,
                        const body& inside) override {
    if (present) section(o, inside);
  }

  void list(const option& o, const elements& items) override {
    if (items.count == 0) return line(o.name, "[]");
    open(o.name);
    for (std::size_t i = 0; i < items.count; ++i) {
      printer inside(out_, indent_ + "  - ", indent_ + "    ");
      items.inside(inside, i);
    }
  }

  void map(const option& o, const elements& items) override {
    if (items.count == 0) return line(o.name, "{}");
    open(o.name);
    for (std::size_t i = 0; i < items.count; ++i) {
      out_.append(indent_).append("  ").append(proto::json_string(items.name(i))).append(":\n");
      printer inside(out_, indent_ + "    ", indent_ + "    ");
      items.inside(inside, i);
    }
  }

 private:
  void begin(std::string_view name) {
    out_.append(lead_).append(name).append(":");
    lead_ = indent_;
  }
  void open(std::string_view name) {
    begin(name);
    out_.push_back('\n');
  }
  void line(std::string_view name, std::string_view value) {
    begin(name);
    out_.append(" ").append(value).append("\n");
  }

  std::string& out_;
  std::string lead_;
  std::string indent_;
};

}  // namespace

std::string print_effective(const settings& s) {
  std::string out;
  settings copy = s;  // visitors may write
  printer top(out, "", "");
  describe(top, copy);
  return out;
}

}  // namespace asidecar::config
