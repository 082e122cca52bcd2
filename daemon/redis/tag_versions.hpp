// Tags: each has a version in Redis, a random token in two halves, and a value carries the versions it was loaded under. Values
// whose first half differs are gone, those whose second does are stale. So a tag is invalidated by one command, however many
// values carry it. One thread only.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/engine/l2_store.hpp"
#include "daemon/redis/batch.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::redis {

class tag_versions {
 public:
  using item = engine::l2_store::item;
  using read_outcome = engine::l2_store::read_outcome;
  tag_versions(runtime::worker& w, std::string prefix) : worker_(w), prefix_(std::move(prefix)) {}

  // Reads them: one command, one reply with as many elements as `tags`.
  std::vector<std::string> query(std::span<const std::string> tags) const;
  // Gives each tag without a version a new one, then reads them: a tag that was purged, evicted or flushed never again has a
  // version that some value was stored with.
  void ask(batch& b, const item& what) const;
  // The replies to ask(); nullopt: unknown.
  task<std::optional<std::string>> take(batch& b, item what) const;

  // Drops, or marks stale, a value whose tags have moved on since it was loaded. `got.found` is not null.
  void check(read_outcome& got, const item& what, const std::vector<proto::resp_value>& versions) const;
  void check(read_outcome& got, const item& what, const std::string& now) const;

  // A tag's version lives at least as long as the values that carry it. GT: never shorter than it was (Redis 7; an older one
  // refuses, and such a tag's values become misses when its version runs out). One command per tag.
  void prolong(batch& b, const item& what, const std::string& ttl_ms) const;

  // One command; its reply says whether the tag was in use.
  void invalidate(batch& b, const std::string& tag, engine::l2_store::mode how) const;

 private:
  std::string stale_mark() const;

  runtime::worker& worker_;
  const std::string prefix_;
};

}  // namespace asidecar::redis
