#include "proto/cache_control.hpp"

#include <algorithm>

#include "proto/text.hpp"

namespace asidecar::proto {
namespace {

// RFC 9111 section 1.2.2: a cache may treat anything larger as 2^31 seconds.
constexpr std::uint64_t delta_seconds_max = 1ULL << 31;

std::optional<seconds> delta_seconds(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  const auto value = parse_decimal(text);
  return seconds(value ? std::min(*value, delta_seconds_max) : delta_seconds_max);
}

void set_first(std::optional<seconds>& to, std::optional<seconds> value) {
  if (!to) to = value;
}

// Calls sink(name, argument) for each directive; quoted arguments come without their quotes.
template <class Sink>
void for_each_directive(std::string_view value, Sink sink) {
  while (!value.empty()) {
    std::size_t end = 0;
    for (bool quoted = false; end < value.size() && (quoted || value[end] != ','); ++end) {
      if (value[end] == '"') quoted = !quoted;
      if (quoted && value[end] == '\\') ++end;
    }
    end = std::min(end, value.size());
    const std::string_view item = trim(value.substr(0, end));
    value.remove_prefix(std::min(end + 1, value.size()));
    const std::size_t equals = item.find('=');
    std::string_view argument = equals == std::string_view::npos ? std::string_view() : trim(item.substr(equals + 1));
    if (argument.size() >= 2 && argument.front() == '"' && argument.back() == '"')
      argument = argument.substr(1, argument.size() - 2);
    if (!item.empty()) sink(trim(item.substr(0, equals)), argument);
  }
}

}  // namespace

// Of a directive that is given twice, the first counts (RFC 9111, section 4.2.1).
void parse_cache_control(std::string_view value, request_directives& out) {
  for_each_directive(value, [&](std::string_view name, std::string_view argument) {
    if (iequals(name, "no-cache")) out.no_cache = true;
    else if (iequals(name, "no-store")) out.no_store = true;
    else if (iequals(name, "only-if-cached")) out.only_if_cached = true;
    else if (iequals(name, "max-age")) set_first(out.max_age, delta_seconds(argument));
    else if (iequals(name, "min-fresh")) set_first(out.min_fresh, delta_seconds(argument));
    else if (iequals(name, "max-stale") && argument.empty()) out.max_stale_any = true;
    else if (iequals(name, "max-stale")) set_first(out.max_stale, delta_seconds(argument));
  });
}

void parse_cache_control(std::string_view value, response_directives& out) {
  for_each_directive(value, [&](std::string_view name, std::string_view argument) {
    if (iequals(name, "no-store")) out.no_store = true;
    else if (iequals(name, "no-cache")) out.no_cache = true;
    else if (iequals(name, "private")) out.is_private = true;
    else if (iequals(name, "must-revalidate") || iequals(name, "proxy-revalidate")) out.must_revalidate = true;
    else if (iequals(name, "s-maxage")) set_first(out.s_maxage, delta_seconds(argument).value_or(seconds(0)));
    else if (iequals(name, "max-age")) set_first(out.max_age, delta_seconds(argument).value_or(seconds(0)));
    else if (iequals(name, "stale-while-revalidate")) set_first(out.stale_while_revalidate, delta_seconds(argument));
    else if (iequals(name, "stale-if-error")) set_first(out.stale_if_error, delta_seconds(argument));
  });
}

}  // namespace asidecar::proto
