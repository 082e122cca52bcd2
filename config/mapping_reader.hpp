// Reads one YAML mapping into the options it is shown, and adds an error for each that does not fit: nothing
// here stops at the first. Messages quote values as the file has them, before ${ENV} is expanded, and secrets
// not at all.
#pragma once

#include <yaml-cpp/yaml.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/findings.hpp"
#include "config/option.hpp"

namespace asidecar::config {

std::string_view kind_of(const YAML::Node& node);  // "a mapping", "a list", …

class mapping_reader final : public option_visitor {
 public:
  mapping_reader(findings& found, const YAML::Node& node, std::string path);

  // After the description: what is in the file but not described.
  void finish();

  void flag(const option& o, bool& value) override;
  void integer(const option& o, std::uint32_t& value, std::uint32_t min, std::uint32_t max) override;
  void integer_or_auto(const option& o, std::uint32_t& value, std::uint32_t max) override;
  void number(const option& o, double& value, double min, double below) override;
  void duration(const option& o, milliseconds& value, milliseconds min, milliseconds max) override;
  void size(const option& o, std::uint64_t& value, std::uint64_t max) override;
  void text(const option& o, std::string& value, text_check check) override;
  void secret(const option& o, std::string& value) override;
  void url(const option& o, std::string& value, text_check check) override;
  void texts(const option& o, std::vector<std::string>& value, text_check check) override;
  void choice_index(const option& o, std::size_t& value, std::span<const std::string_view> names) override;
  void section(const option& o, const body& describe_inside) override;
  void optional_section(const option& o, bool, const std::function<void()>& create,
                        const body& describe_inside) override;
  void list(const option& o, const elements& items) override;
  void map(const option& o, const elements& items) override;

 private:
  struct entry {
    std::string name;
    YAML::Mark mark;  // of the key
    YAML::Node value;
    bool known = false;

    // yaml-cpp places an absent value at the token after it, which may be lines below.
    YAML::Mark place() const { return value.IsNull() ? mark : value.Mark(); }
  };

  struct scalar {
    std::string path;
    YAML::Mark mark;
    std::string name;
    std::string expected;
    std::string raw;
    std::string text;  // expanded
  };

  void add(const YAML::Node& key, const YAML::Node& value);
  std::string path_of(std::string_view name) const;
  const entry* take(const option& o);
  std::optional<scalar> take_scalar(const option& o, std::string expected);
  std::optional<scalar> read_scalar(const YAML::Node& node, scalar s);
  void read_integer(const scalar& s, std::uint32_t& value, std::uint32_t min, std::uint32_t max);
  bool passes(const scalar& s, text_check check);
  void read_mapping(const YAML::Node& node, const std::string& path, std::string_view name,
                    const body& inside);
  void wrong_kind(const YAML::Node& node, const std::string& path, std::string_view name,
                  std::string_view expected);
  void fail(const scalar& s, const std::string& problem);
  void unexpected(const scalar& s, const std::string& hint = {});

  findings& found_;
  std::string path_;
  std::vector<entry> entries_;
  std::map<std::string, std::size_t> index_;  // of entries_, by name
  std::vector<std::string> described_;
  std::vector<std::string> missing_;
};

}  // namespace asidecar::config
