// One declaration per option. `describe` (options.cpp) walks the settings and calls the visitor once per option; loading,
// printing, the reference page and the JSON schema are visitors.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"

namespace asidecar::config {

// Says what is wrong with a value; nullopt when it is fine.
using text_check = std::optional<std::string> (*)(std::string_view value);

struct option {
  std::string_view name;
  std::string_view help;  // one sentence, for the reference page and the schema
  bool required = false;
};

class option_visitor {
 public:
  virtual ~option_visitor() = default;

  virtual void flag(const option& o, bool& value) = 0;
  virtual void integer(const option& o, std::uint32_t& value, std::uint32_t min, std::uint32_t max) = 0;
  virtual void integer_or_auto(const option& o, std::uint32_t& value, std::uint32_t max) = 0;  // 0 is auto
  virtual void number(const option& o, double& value, double min, double below) = 0;           // [min, below)
  virtual void duration(const option& o, milliseconds& value, milliseconds min, milliseconds max) = 0;
  virtual void size(const option& o, std::uint64_t& value, std::uint64_t max) = 0;
  virtual void text(const option& o, std::string& value, text_check check) = 0;
  virtual void secret(const option& o, std::string& value) = 0;                      // file:PATH accepted, never shown
  virtual void url(const option& o, std::string& value, text_check check) = 0;      // the same; shown without its password
  virtual void texts(const option& o, std::vector<std::string>& value, text_check check) = 0;
  virtual void choice_index(const option& o, std::size_t& value, std::span<const std::string_view> names) = 0;

  // Nested mappings. `describe_inside` is called at most once, with a visitor for the inside.
  using body = std::function<void(option_visitor&)>;
  virtual void section(const option& o, const body& describe_inside) = 0;
  // May be absent: `create` is called before describe_inside when it is there, or for documentation.
  virtual void optional_section(const option& o, bool present, const std::function<void()>& create, const body& describe_inside) = 0;

  // Lists of mappings, and mappings by name. resize(n) makes room; inside(visitor, i) describes element i.
  struct elements {
    std::size_t count;
    std::function<void(std::size_t)> resize;
    std::function<void(option_visitor&, std::size_t)> inside;
    std::function<void(std::size_t, std::string)> set_name = {};  // mappings by name only
    std::function<std::string(std::size_t)> name = {};
  };
  virtual void list(const option& o, const elements& items) = 0;
  virtual void map(const option& o, const elements& items) = 0;

  template <class Enum>
  void choice(const option& o, Enum& value, std::initializer_list<std::string_view> names) {
    auto index = static_cast<std::size_t>(value);
    choice_index(o, index, std::span(names.begin(), names.size()));
    value = static_cast<Enum>(index);
  }
};

// Every option of the configuration, in the order of the reference page.
void describe(option_visitor& v, settings& s);

}  // namespace asidecar::config
