// A lease: something only one process in the fleet does at a time. Held by whoever knows the token, until its ttl. One thread only.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class lease {
 public:
  lease(std::shared_ptr<connection> c, std::string name) : connection_(std::move(c)), name_(std::move(name)) {}

  const std::string& name() const noexcept { return name_; }
  // nullopt: Redis did not answer.
  task<std::optional<bool>> take(std::string_view token, std::chrono::milliseconds ttl);
  task<std::optional<bool>> renew(std::string_view token, std::chrono::milliseconds ttl);
  task<void> release(std::string_view token);

 private:
  std::shared_ptr<connection> connection_;
  std::string name_;
};

}  // namespace asidecar::redis
