// Giving fill locks back. A connection that ends takes the answer with it, and perhaps leaves the lock; nobody else could load
// until its ttl is over. Such locks are kept in mind, and released once the connection is back. One thread only.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/redis/connection.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::redis {

class fill_locks {
 public:
  fill_locks(runtime::worker& w, std::shared_ptr<connection> c, std::chrono::milliseconds ttl);

  task<bool> renew(std::string name, std::string_view token);    // false: lost, or Redis is away
  task<bool> release(std::string name, std::string_view token);  // true: until now it was the token's
  // It may still be ours.
  void keep_orphan(std::string name, std::string_view token);

 private:
  struct orphan {
    std::string name;
    std::string token;
    runtime::steady_time until;
  };
  using orphans = std::deque<orphan>;
  static task<void> release_orphans(runtime::worker& w, std::shared_ptr<connection> to, std::shared_ptr<orphans> left);

  runtime::worker& worker_;
  std::shared_ptr<connection> connection_;
  const std::chrono::milliseconds ttl_;
  std::shared_ptr<orphans> orphans_;
};

}  // namespace asidecar::redis
