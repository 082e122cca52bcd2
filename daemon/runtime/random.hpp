// Randomness as a port. One object per thread.
#pragma once

#include <memory>
#include <string>

namespace asidecar::runtime {

class random_source {
 public:
  virtual ~random_source() = default;
  virtual double unit() = 0;        // uniform in (0,1]
  virtual std::string token() = 0;  // 128 bits nobody can guess, as 32 hex digits
};

std::unique_ptr<random_source> make_system_random();

}  // namespace asidecar::runtime
