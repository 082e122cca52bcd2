// Invalidation in Redis: by key, by pattern, by tag; purged, or marked stale. Fill locks are deleted too, so that no load under way
// stores what it has read before. All is announced to the other instances. See l2_store for what the numbers mean. One thread only.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/engine/l2_store.hpp"
#include "daemon/redis/announcer.hpp"
#include "daemon/redis/connection.hpp"
#include "daemon/redis/tag_versions.hpp"

namespace asidecar::redis {

class invalidation {
 public:
  using count = engine::l2_store::count;
  using mode = engine::l2_store::mode;
  // `announcer` and `tags` outlive it.
  invalidation(std::shared_ptr<connection> c, const announcer& a, const tag_versions& tags, const config::store_settings& s)
      : connection_(std::move(c)), announcer_(a), tags_(tags), prefix_(s.prefix), raw_(s.format == config::value_format::raw) {}

  task<count> keys(std::vector<std::string> all, mode how, core::wall_time now);
  task<count> matching(std::string glob, mode how, core::wall_time now);
  task<count> tags(std::vector<std::string> all, mode how);

 private:
  task<count> some_tags(std::span<const std::string> all, mode how);
  task<count> purge(std::vector<std::string> names);
  task<count> expire(std::vector<std::string> names, core::wall_time now);
  task<count> unlink_locks(std::vector<std::string> names);
  task<void> wake(std::vector<std::string> lock_names);
  enum class scanned : std::uint8_t { locks, purge, expire };
  task<count> for_scanned(std::string match, std::function<bool(std::string_view)> wanted, scanned what, core::wall_time now);

  std::shared_ptr<connection> connection_;
  const announcer& announcer_;
  const tag_versions& tags_;
  const std::string prefix_;
  const bool raw_;
};

}  // namespace asidecar::redis
