// The port to a lease: something that only one process in the fleet does at a time. Whoever knows the token holds it, until its
// ttl is over. One object per worker thread, used on that thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "daemon/runtime/task.hpp"

namespace asidecar::engine {

enum class answer : std::uint8_t { yes, no, unknown };  // unknown: Redis did not answer, it may be so or not; ask again

class lease {
 public:
  virtual ~lease() = default;
  virtual runtime::task<answer> take(std::string_view token, std::chrono::milliseconds ttl) = 0;  // when nobody has it
  virtual runtime::task<answer> renew(std::string_view token, std::chrono::milliseconds ttl) = 0;
  virtual runtime::task<void> release(std::string_view token) = 0;
};

}  // namespace asidecar::engine
