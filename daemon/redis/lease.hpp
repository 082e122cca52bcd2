// A lease as a Redis key with a ttl, whose value is the token. One thread only.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/engine/lease.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class lease final : public engine::lease {
 public:
  lease(std::shared_ptr<connection> c, std::string name) : connection_(std::move(c)), name_(std::move(name)) {}

  const std::string& name() const noexcept { return name_; }
  task<engine::answer> take(std::string_view token, std::chrono::milliseconds ttl) override;
  task<engine::answer> renew(std::string_view token, std::chrono::milliseconds ttl) override;
  task<void> release(std::string_view token) override;

 private:
  std::shared_ptr<connection> connection_;
  std::string name_;
};

// What a script says that answers 1 or 0.
engine::answer answer_of(const reply& r) noexcept;

}  // namespace asidecar::redis
