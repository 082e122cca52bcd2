#include "daemon/redis/invalidation.hpp"

#include <algorithm>

#include "daemon/core/glob.hpp"
#include "daemon/redis/batch.hpp"
#include "proto/record.hpp"
#include "proto/redis_keys.hpp"

namespace asidecar::redis {
namespace {

// Marks a record stale in place (see proto::expiry_mark), and deletes its lock. KEYS: lock, value. ARGV: magic, offset, mark.
// Answers whether there was a record. Publishing may be forbidden by an ACL, hence pcall.
constexpr std::string_view expire_script =
    "local held=redis.call('DEL',KEYS[1]) local done=0 "
    "if redis.call('TYPE',KEYS[2]).ok=='string' and redis.call('GETRANGE',KEYS[2],0,#ARGV[1]-1)==ARGV[1] then "
    "redis.call('SETRANGE',KEYS[2],ARGV[2],ARGV[3]) done=1 end "
    "if held==1 then redis.pcall('PUBLISH',KEYS[1],'') end return done";

constexpr std::size_t keys_per_command = 500;

}  // namespace

task<invalidation::count> invalidation::keys(std::vector<std::string> all, mode how, core::wall_time now) {
  std::uint64_t total = 0;
  for (std::size_t from = 0; from < all.size(); from += keys_per_command) {
    const std::vector<std::string> some(all.begin() + static_cast<std::ptrdiff_t>(from),
                                        all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), from + keys_per_command)));
    std::vector<std::string> names;
    for (const auto& key : some) names.push_back(std::string(prefix_).append(key));
    count n;
    if (how == mode::purge) n = co_await purge(std::move(names));
    else n = co_await expire(std::move(names), now);
    if (!n) co_return std::nullopt;
    batch news(*connection_);
    for (const auto& key : some) announcer_.add(news, announcer::kind::key, key);
    const bool told = co_await news.all_answered();
    if (!told) co_return std::nullopt;  // other instances may go on with what they have
    total += *n;
  }
  co_return total;
}

// Locks of matching keys that hold no value yet go too: their loads began before.
task<invalidation::count> invalidation::matching(std::string glob, mode how, core::wall_time now) {
  const auto matches = [&](std::string_view name) { return name.starts_with(prefix_) && core::glob_match(glob, name.substr(prefix_.size())); };
  const auto lock_matches = [&](std::string_view lock) {
    const auto names = proto::names_of_lock(lock);
    return std::any_of(names.begin(), names.end(), matches);
  };
  // Internal names are never values, whatever the prefix and pattern are.
  const auto is_value = [](std::string_view name) { return !proto::names_internal(name); };
  const auto locks = co_await for_scanned(std::string(proto::all_locks), lock_matches, scanned::locks, now);
  if (!locks) co_return std::nullopt;
  const auto values = co_await for_scanned(proto::glob_escape(prefix_).append(glob), is_value, how == mode::purge ? scanned::purge : scanned::expire, now);
  if (!values) co_return std::nullopt;
  batch news(*connection_);
  announcer_.add(news, announcer::kind::pattern, glob);
  const bool told = co_await news.all_answered();
  if (!told) co_return std::nullopt;
  co_return values;
}

task<invalidation::count> invalidation::tags(std::vector<std::string> all, mode how) {
  std::uint64_t total = 0;
  for (std::size_t from = 0; from < all.size(); from += keys_per_command) {
    const auto end = std::min(all.size(), from + keys_per_command);
    const auto n = co_await some_tags(std::span(all).subspan(from, end - from), how);
    if (!n) co_return std::nullopt;
    total += *n;
  }
  co_return total;
}

task<invalidation::count> invalidation::some_tags(std::span<const std::string> all, mode how) {
  batch b(*connection_);
  for (const auto& tag : all) {
    tags_.invalidate(b, tag, how);
    announcer_.add(b, announcer::kind::tag, tag);
  }
  std::uint64_t total = 0;
  bool good = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto done = co_await b.next();
    good = good && done && !done->is_error();
    if (good) total += static_cast<std::uint64_t>(done->integer);
    for (std::size_t told = 0; told < announcer_.commands_each(); ++told) {
      const auto heard = co_await b.next();
      good = good && heard;
    }
  }
  if (!good) co_return std::nullopt;
  co_return total;
}

task<invalidation::count> invalidation::purge(std::vector<std::string> names) {
  std::vector<std::string> locks{"UNLINK"};
  std::vector<std::string> values{"UNLINK"};
  for (const auto& name : names) {
    locks.push_back(proto::lock_name(name));
    values.push_back(name);
  }
  // Locks first: between the two a fill finds no lock, and after both no value is left.
  batch b(*connection_);
  b.send(locks);
  b.send(values);
  const auto first = co_await b.next();
  const auto second = co_await b.next();
  if (!first || first->is_error() || !second || second->is_error()) co_return std::nullopt;
  locks.erase(locks.begin());
  if (first->integer > 0) co_await wake(std::move(locks));
  co_return static_cast<std::uint64_t>(second->integer);
}

// A raw body has no room for a mark: it is purged.
task<invalidation::count> invalidation::expire(std::vector<std::string> names, core::wall_time now) {
  if (raw_) co_return co_await purge(std::move(names));
  batch b(*connection_);
  const auto mark = proto::expiry_mark(now.time_since_epoch().count());
  for (const auto& name : names)
    b.send(script_words(expire_script, words_of(proto::lock_name(name), name), words_of(proto::record_magic, std::to_string(proto::expiry_mark_offset), mark)));
  std::uint64_t total = 0;
  bool good = true;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto done = co_await b.next();
    good = good && done && !done->is_error();
    if (good) total += static_cast<std::uint64_t>(done->integer);
  }
  if (!good) co_return std::nullopt;
  co_return total;
}

task<invalidation::count> invalidation::unlink_locks(std::vector<std::string> names) {
  std::vector<std::string> words{"UNLINK"};
  words.insert(words.end(), names.begin(), names.end());
  const auto done = co_await connection_->run(std::move(words));
  if (!done || done->is_error()) co_return std::nullopt;
  co_await wake(std::move(names));
  co_return static_cast<std::uint64_t>(done->integer);
}

// Those who wait for these locks need not wait longer: they were deleted.
task<void> invalidation::wake(std::vector<std::string> lock_names) {
  batch b(*connection_);
  for (const auto& name : lock_names) b.add("PUBLISH", name, "");
  co_await b.all_answered();
}

// Does to what SCAN finds and `wanted` accepts as `what` says. Returns to how many.
task<invalidation::count> invalidation::for_scanned(std::string match, std::function<bool(std::string_view)> wanted, scanned what, core::wall_time now) {
  std::uint64_t total = 0;
  std::string cursor = "0";
  do {
    const auto page = co_await connection_->run(words_of("SCAN", cursor, "MATCH", match, "COUNT", std::to_string(keys_per_command)));
    const bool good = page && page->type == proto::resp_value::kind::array && page->elements.size() == 2;
    if (!good) co_return std::nullopt;
    cursor = page->elements[0].text;
    std::vector<std::string> names;
    for (const auto& found : page->elements[1].elements)
      if (wanted(found.text)) names.push_back(found.text);
    if (names.empty()) continue;
    count done;
    switch (what) {
      case scanned::locks: done = co_await unlink_locks(std::move(names)); break;
      case scanned::purge: done = co_await purge(std::move(names)); break;
      case scanned::expire: done = co_await expire(std::move(names), now); break;
    }
    if (!done) co_return std::nullopt;
    total += *done;
  } while (cursor != "0");
  co_return total;
}

}  // namespace asidecar::redis
