// Redis globs (KEYS, SCAN MATCH): * ? [abc] [^a-z] and \ to escape. Pure; any thread.
#pragma once

#include <string_view>

namespace asidecar::core {

bool glob_match(std::string_view pattern, std::string_view text) noexcept;

}  // namespace asidecar::core
