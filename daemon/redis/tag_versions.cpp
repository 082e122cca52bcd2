#include "daemon/redis/tag_versions.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "proto/record.hpp"
#include "proto/redis_keys.hpp"

namespace asidecar::redis {
namespace {

// KEYS: version. ARGV: its new second half.
constexpr std::string_view expire_script =
    "local v=redis.call('GET',KEYS[1]) if not v or #v~=32 then return 0 end "
    "redis.call('SET',KEYS[1],string.sub(v,1,16)..ARGV[1],'KEEPTTL') return 1";

// How long an unused tag's version is kept until a value with it is stored; the value then prolongs it.
constexpr std::string_view idle_ms = "3600000";
constexpr std::size_t mark_time_digits = 12;

}  // namespace

// The second half of a version that was marked stale: the time in ms, and something that makes it unlike any other.
std::string tag_versions::stale_mark() const {
  char digits[mark_time_digits + 1];
  std::snprintf(digits, sizeof digits, "%012llx", static_cast<unsigned long long>(worker_.time->wall_now().time_since_epoch().count()));
  return std::string(digits, mark_time_digits) + worker_.random->token().substr(0, proto::tag_version_bytes / 2 - mark_time_digits);
}

std::vector<std::string> tag_versions::query(std::span<const std::string> tags) const {
  std::vector<std::string> words{"MGET"};
  for (const auto& tag : tags) words.push_back(proto::tag_name(prefix_, tag));
  return words;
}

void tag_versions::ask(batch& b, const item& what) const {
  if (what.tags.empty()) return;
  for (const auto& tag : what.tags) b.add("SET", proto::tag_name(prefix_, tag), worker_.random->token(), "NX", "PX", idle_ms);
  b.send(query(what.tags));
}

task<std::optional<std::string>> tag_versions::take(batch& b, item what) const {
  std::string out;
  if (what.tags.empty()) co_return out;
  for (std::size_t i = 0; i < what.tags.size(); ++i) co_await b.next();
  const auto got = co_await b.next();
  if (!got || got->elements.size() != what.tags.size()) co_return std::nullopt;
  for (const auto& version : got->elements) {
    if (version.text.size() != proto::tag_version_bytes) co_return std::nullopt;
    out.append(version.text);
  }
  co_return out;
}

void tag_versions::check(read_outcome& got, const item& what, const std::vector<proto::resp_value>& versions) const {
  std::string now;
  for (const auto& v : versions) {
    if (v.type != proto::resp_value::kind::bulk || v.text.size() != proto::tag_version_bytes) break;
    now.append(v.text);
  }
  check(got, what, now);
}

void tag_versions::check(read_outcome& got, const item& what, const std::string& now) const {
  const auto& held = got.found->content();
  constexpr std::size_t half = proto::tag_version_bytes / 2;
  bool purged = held.tags_hash != proto::hash_tags(what.tags) || held.tag_versions.size() != now.size();
  bool expired = false;
  std::int64_t expired_at = worker_.time->wall_now().time_since_epoch().count();
  for (std::size_t at = 0; !purged && at < now.size(); at += proto::tag_version_bytes) {
    purged = held.tag_versions.substr(at, half) != now.substr(at, half);
    const auto mark = std::string_view(now).substr(at + half, half);
    if (held.tag_versions.substr(at + half, half) == mark) continue;
    expired = true;
    // When it was marked, see stale_mark().
    if (std::int64_t when = 0; std::from_chars(mark.data(), mark.data() + mark_time_digits, when, 16).ec == std::errc{}) expired_at = std::min(expired_at, when);
  }
  if (purged) {
    got.found = nullptr;
  } else if (expired && got.found->life().freshness_left(worker_.time->wall_now()) > core::milliseconds(0)) {
    auto marked = held;
    marked.expired_at_ms = std::max<std::int64_t>(1, expired_at);
    got.found = engine::value::encode(marked);
  }
}

void tag_versions::prolong(batch& b, const item& what, const std::string& ttl_ms) const {
  for (const auto& tag : what.tags) b.add("PEXPIRE", proto::tag_name(prefix_, tag), ttl_ms, "GT");
}

void tag_versions::invalidate(batch& b, const std::string& tag, engine::l2_store::mode how) const {
  const auto name = proto::tag_name(prefix_, tag);
  if (how == engine::l2_store::mode::purge) b.add("UNLINK", name);
  else b.send(script_words(expire_script, words_of(name), words_of(stale_mark())));
}

}  // namespace asidecar::redis
