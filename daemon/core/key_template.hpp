// Key templates of routes: "user:{id:int}", "page:{path:rest}". A template matches the whole key or not at all.
//   {name}       [^:/]+
//   {name:int}   a decimal number of 64 bits, with sign
//   {name:uuid}  8-4-4-4-12 hex digits
//   {name:rest}  anything, also empty; only at the end
// "{{" and "}}" stand for literal braces. Immutable after parse: any thread.
#pragma once

#include <array>
#include <boost/variant2/variant.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/template_error.hpp"

namespace asidecar::core {

inline constexpr std::size_t placeholders_max = 16;

enum class param_type : std::uint8_t { name, integer, uuid, rest };

struct key_param {
  std::string name;
  param_type type;
};

// What each placeholder of a template captured; views into the key.
struct captures {
  std::array<std::string_view, placeholders_max> values{};
  std::size_t size = 0;
};

class key_template {
 public:
  static boost::variant2::variant<key_template, template_error> parse(std::string_view text);

  enum class match_result : std::uint8_t {
    no,
    yes,
    bad_value,  // the form fits, but a typed placeholder's text is not of its type
  };

  // On bad_value, `bad_param` is the placeholder's index.
  match_result match(std::string_view key, captures& out, std::size_t& bad_param) const;

  // True when every key that `later` matches is matched by this one. Sound; may miss exotic cases.
  bool covers(const key_template& later) const;

  // The key made of these values, one per placeholder in order.
  std::string format(const std::vector<std::string>& values) const;

  // The one spelling of the key that captured these values: integers without needless zeros or sign, UUIDs in lower case.
  // Unset when the key is spelled so already. Thus "user:7" and "user:007" are one cached value.
  std::optional<std::string> respelled(const captures& values) const;

  const std::vector<key_param>& params() const noexcept { return params_; }
  std::optional<std::size_t> param_index(std::string_view name) const noexcept;

 private:
  struct segment {
    std::string literal;  // empty: a placeholder
    std::size_t param = 0;
  };

  bool match_from(std::size_t index, std::string_view rest, captures& out) const;
  bool value_fits(const captures& values, std::size_t& bad_param) const;

  std::vector<segment> segments_;
  std::vector<key_param> params_;
};

}  // namespace asidecar::core
