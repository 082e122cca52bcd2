// What a route allows the cache to do: the `defaults` block of the configuration, as overridden by a route.
#pragma once

#include <chrono>
#include <cstdint>

namespace asidecar::core {

struct policy {
  std::chrono::milliseconds ttl = std::chrono::hours(1);
  double ttl_jitter = 0;
  std::chrono::milliseconds negative_ttl{0};
  std::chrono::milliseconds stale_while_revalidate{0};
  std::chrono::milliseconds stale_if_error{0};
  double early_refresh_beta = 1.0;
  std::chrono::milliseconds soft_timeout{0};
  std::chrono::milliseconds timeout = std::chrono::seconds(5);
  std::uint64_t max_value = std::uint64_t(1) << 20;
  std::uint64_t compress_above = 4096;
  std::uint32_t batch = 64;

  bool operator==(const policy&) const = default;
};

}  // namespace asidecar::core
