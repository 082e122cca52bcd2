#include "config/units.hpp"

#include <array>

#include "proto/text.hpp"

namespace asidecar::config {
namespace {

struct unit {
  std::string_view name;
  std::uint64_t factor;
};

// Largest first, so that printing takes the largest that divides the value.
constexpr std::array<unit, 5> time_units{{{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<unit, 4> size_units{{{"GiB", 1ULL << 30}, {"MiB", 1ULL << 20}, {"KiB", 1ULL << 10}, {"", 1}}};
constexpr std::uint64_t value_max = 1ULL << 52;

template <class Units>
std::optional<std::uint64_t> parse(std::string_view text, const Units& units) {
  const auto digits = text.substr(0, text.find_first_not_of("0123456789"));
  const auto number = proto::parse_decimal(digits);
  if (!number) return std::nullopt;
  for (const auto& u : units)
    if (text.substr(digits.size()) == u.name && *number <= value_max / u.factor) return *number * u.factor;
  return std::nullopt;
}

template <class Units>
std::string print(std::uint64_t value, const Units& units) {
  for (const auto& u : units)
    if (value % u.factor == 0 && value >= u.factor) return std::to_string(value / u.factor).append(u.name);
  return "0";
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (text == "0") return std::chrono::milliseconds(0);
  const auto value = parse(text, time_units);
  if (!value) return std::nullopt;
  return std::chrono::milliseconds(*value);
}

std::string print_duration(std::chrono::milliseconds value) {
  return value.count() == 0 ? "0s" : print(static_cast<std::uint64_t>(value.count()), time_units);
}

std::optional<std::uint64_t> parse_size(std::string_view text) { return parse(text, size_units); }

std::string print_size(std::uint64_t value) { return print(value, size_units); }

}  // namespace asidecar::config
