// Durations and sizes as the configuration writes them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace asidecar::config {

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);  // 250ms 2s 5m 1h 7d, and 0
std::string print_duration(std::chrono::milliseconds value);                     // in the largest unit that divides it

std::optional<std::uint64_t> parse_size(std::string_view text);  // 512 4KiB 64MiB 2GiB
std::string print_size(std::uint64_t value);

}  // namespace asidecar::config
