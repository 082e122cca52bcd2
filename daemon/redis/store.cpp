#include "daemon/redis/store.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <deque>

#include "daemon/core/glob.hpp"
#include "daemon/engine/compose.hpp"
#include "proto/backplane_message.hpp"
#include "proto/record.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::redis {
namespace {

using engine::value_ptr;
using engine::l2_store;

// Each script names its keys in KEYS, so that it runs on Cluster: value and lock share a slot. Whoever waits for a lock listens
// on the channel named like it. Publishing may be forbidden by an ACL; that must not undo the rest, hence pcall.
// Fill: only while the lock is still the caller's. KEYS: lock, value. ARGV: token, value, ttl in ms.
constexpr std::string_view fill_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "redis.call('SET',KEYS[2],ARGV[2],'PX',ARGV[3]) redis.call('DEL',KEYS[1]) redis.pcall('PUBLISH',KEYS[1],'') return 1";
// Release: compare and delete.
constexpr std::string_view release_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "redis.call('DEL',KEYS[1]) redis.pcall('PUBLISH',KEYS[1],'') return 1";
constexpr std::string_view renew_script = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 0";

// Marks a record stale in place (see proto::expiry_mark), and deletes its lock. KEYS: lock, value. ARGV: magic, offset, mark.
// Answers whether there was a record, and whether there was a lock.
constexpr std::string_view expire_script =
    "local held=redis.call('DEL',KEYS[1]) local done=0 "
    "if redis.call('TYPE',KEYS[2]).ok=='string' and redis.call('GETRANGE',KEYS[2],0,#ARGV[1]-1)==ARGV[1] then "
    "redis.call('SETRANGE',KEYS[2],ARGV[2],ARGV[3]) done=1 end "
    "if held==1 then redis.pcall('PUBLISH',KEYS[1],'') end return done";
// A tag's version is a random token in two halves: values whose first half differs are gone, those whose second does are stale.
constexpr std::string_view expire_tag_script =
    "local v=redis.call('GET',KEYS[1]) if not v or #v~=32 then return 0 end "
    "redis.call('SET',KEYS[1],string.sub(v,1,16)..ARGV[1],'KEEPTTL') return 1";

constexpr std::size_t keys_per_command = 500;
// How long an unused tag's version is kept until a value with it is stored; the value then prolongs it.
constexpr std::string_view tag_idle_ms = "3600000";

// Commands that share one write.
class batch {
 public:
  explicit batch(connection& c) : connection_(c) {}
  void send(const std::vector<std::string>& words) {
    const std::vector<std::string_view> views(words.begin(), words.end());
    connection_.send(calls_.emplace_back(), views);
  }
  template <class... Words>
  void add(const Words&... words) {
    connection_.send_words(calls_.emplace_back(), words...);
  }
  task<reply> next() { return calls_.at(taken_++).wait(); }
  // Takes all replies; false when one is missing. An ACL that forbids to publish is no reason to fail: who may not publish may not
  // subscribe either, and then trusts no copies.
  task<bool> all_answered() {
    bool answered = true;
    while (taken_ < calls_.size()) {
      const auto r = co_await next();
      answered = answered && r;
    }
    co_return answered;
  }

 private:
  connection& connection_;
  std::deque<connection::call> calls_;  // stay in place
  std::size_t taken_ = 0;
};

class store final : public l2_store {
 public:
  store(runtime::worker& w, std::shared_ptr<connection> c, std::shared_ptr<backplane> from, const config::store_settings& s)
      : worker_(w), connection_(std::move(c)), backplane_(std::move(from)), prefix_(s.prefix), raw_(s.format == config::value_format::raw),
        lock_life_(s.lock_ttl), lock_ttl_(std::to_string(s.lock_ttl.count())), kind_(s.backplane), orphans_(std::make_shared<orphans>()) {
    connection_->when_up([weak = std::weak_ptr(orphans_), &w, c = std::weak_ptr(connection_)] {
      const auto left = weak.lock();
      const auto to = c.lock();
      if (left && to && !left->locks.empty()) w.tasks.spawn(release_orphans(w, to, left));
    });
  }

  bool keeps_metadata() const noexcept override { return !raw_; }

  task<read_outcome> read(item what) override {
    if (!raw_ && what.tags.empty()) {  // the most frequent call of all
      connection::call value;
      connection_->send_words(value, "GET", name_of(what.key));
      auto got = co_await value.wait();
      if (!got) co_return read_outcome{};
      co_return outcome(std::move(*got), {}, what);
    }
    batch b(*connection_);
    ask_value(b, what);
    if (!what.tags.empty()) b.send(tags_query(what.tags));
    auto got = co_await take_value(b, what);
    if (got.found && !what.tags.empty()) {
      const auto tags = co_await b.next();
      check_tags(got, what, tags ? tags->elements : std::vector<proto::resp_value>());
    }
    co_return got;
  }

  task<std::vector<read_outcome>> read_many(std::vector<item> what) override {
    std::vector<read_outcome> out;
    if (raw_) {
      batch b(*connection_);
      for (const auto& i : what) ask_value(b, i);
      for (const auto& i : what) out.push_back(co_await take_value(b, i));
      co_return out;
    }
    std::vector<std::string> words{"MGET"};
    for (const auto& i : what) words.push_back(name_of(i.key));
    for (const auto& i : what)
      for (const auto& tag : i.tags) words.push_back(proto::tag_name(prefix_, tag));
    auto got = co_await connection_->run(std::move(words));
    const bool up = got && got->type == proto::resp_value::kind::array;
    std::size_t tag = what.size();
    for (std::size_t n = 0; n < what.size(); ++n) {
      read_outcome one{up, nullptr};
      if (up && n < got->elements.size()) one = outcome(std::move(got->elements[n]), {}, what[n]);
      if (one.found && !what[n].tags.empty()) {
        std::vector<proto::resp_value> versions;
        for (std::size_t i = 0; i < what[n].tags.size() && tag + i < got->elements.size(); ++i) versions.push_back(got->elements[tag + i]);
        check_tags(one, what[n], versions);
      }
      tag += what[n].tags.size();
      out.push_back(std::move(one));
    }
    co_return out;
  }

  task<lock_outcome> lock(item what, std::string_view token) override {
    batch b(*connection_);
    b.add("SET", proto::lock_name(name_of(what.key)), token, "NX", "PX", lock_ttl_);
    ask_value(b, what);
    ask_versions(b, what);
    const auto won = co_await b.next();
    auto got = co_await take_value(b, what);
    auto versions = co_await take_versions(b, what);
    if (!won || won->is_error() || !got.up) {
      if (!won || won->is_ok()) keep_orphan(what.key, token);
      co_return lock_outcome{};
    }
    lock_outcome out{won->is_ok() ? lock_state::won : lock_state::busy, got.found, versions};
    if (out.current && !what.tags.empty()) {
      check_versions(got, what, versions.value_or(std::string()));
      out.current = got.found;
    }
    co_return out;
  }

  task<std::optional<std::string>> tag_versions(item what) override {
    batch b(*connection_);
    ask_versions(b, what);
    co_return co_await take_versions(b, what);
  }

  task<bool> renew(std::string_view key, std::string_view token) override {
    co_return succeeded(co_await script(renew_script, words_of(proto::lock_name(name_of(key))), words_of(token, lock_ttl_)));
  }

  task<bool> release(std::string_view key, std::string_view token) override {
    const auto done = co_await script(release_script, words_of(proto::lock_name(name_of(key))), words_of(token));
    if (!done) keep_orphan(key, token);
    co_return succeeded(done);
  }

  std::unique_ptr<engine::lock_watch> watch_lock(std::string_view key) override {
    return backplane_->watch(worker_, proto::lock_name(name_of(key)));
  }

  task<core::fill_outcome> fill(item what, std::string_view token, value_ptr value, core::wall_time now) override {
    if (raw_ && value->life().negative) {  // a plain body has no way to say "no such record"
      co_await release(what.key, token);
      co_return core::fill_outcome::not_stored;
    }
    const auto name = name_of(what.key);
    const auto ttl = ttl_of(*value, now);
    batch b(*connection_);
    prolong_tags(b, what, ttl);
    b.send(script_words(fill_script, words_of(proto::lock_name(name), name), words_of(token, wire_form(*value, what), ttl)));
    if (!what.tags.empty()) b.send(tags_query(what.tags));
    if (kind_ == config::backplane_kind::pubsub) publish(b, proto::backplane_message::kind::changed, what.key);
    for (std::size_t i = 0; i < what.tags.size(); ++i) co_await b.next();
    const auto done = co_await b.next();
    bool current = true;
    if (!what.tags.empty()) {
      const auto tags = co_await b.next();
      std::string versions;
      for (const auto& v : tags ? tags->elements : std::vector<proto::resp_value>()) versions.append(v.text);
      current = versions == value->content().tag_versions;
    }
    co_await b.all_answered();
    if (!done || done->is_error()) co_return core::fill_outcome::down;
    if (done->integer != 1) co_return core::fill_outcome::lock_lost;
    co_return current ? core::fill_outcome::stored : core::fill_outcome::tag_moved;
  }

  bool up() const noexcept override { return connection_->up(); }

  task<bool> seize(std::string_view key, std::string_view token) override {
    const auto name = name_of(key);
    batch b(*connection_);
    b.add("SET", proto::lock_name(name), token, "PX", lock_ttl_);
    b.add("UNLINK", name);
    publish(b, proto::backplane_message::kind::key, key);
    const auto locked = co_await b.next();
    const auto removed = co_await b.next();
    co_await b.all_answered();
    const bool done = locked && locked->is_ok() && removed && !removed->is_error();
    if (!done) keep_orphan(key, token);
    co_return done;
  }

  task<inspection> inspect(std::string_view key) override {
    const auto name = name_of(key);
    batch b(*connection_);
    b.add("PTTL", name);
    b.add("PTTL", proto::lock_name(name));
    b.add("STRLEN", name);
    const auto value = co_await b.next();
    const auto lock = co_await b.next();
    const auto size = co_await b.next();
    inspection out;
    const auto left = [](const reply& r) { return r && !r->is_error() && r->integer >= 0 ? std::optional<std::int64_t>(r->integer) : std::nullopt; };
    out.value_ttl_ms = left(value);
    out.lock_ttl_ms = left(lock);
    if (size && !size->is_error()) out.bytes = static_cast<std::uint64_t>(size->integer);
    co_return out;
  }

  task<bool> put(item what, value_ptr value, core::wall_time now) override {
    const auto name = name_of(what.key);
    const auto lock_name = proto::lock_name(name);
    const auto ttl = ttl_of(*value, now);
    batch b(*connection_);
    prolong_tags(b, what, ttl);
    b.add("DEL", lock_name);
    b.add("SET", name, wire_form(*value, what), "PX", ttl);
    for (std::size_t i = 0; i < what.tags.size(); ++i) co_await b.next();
    const auto unlocked = co_await b.next();
    const auto stored = co_await b.next();
    const bool done = unlocked && !unlocked->is_error() && stored && stored->is_ok();
    batch news(*connection_);
    if (unlocked && unlocked->integer > 0) news.add("PUBLISH", lock_name, "");
    publish(news, proto::backplane_message::kind::key, what.key);
    const bool told = co_await news.all_answered();
    co_return done && told;
  }

  task<count> invalidate(std::vector<std::string> keys, mode how, core::wall_time now) override {
    std::uint64_t total = 0;
    for (std::size_t from = 0; from < keys.size(); from += keys_per_command) {
      const std::vector<std::string> some(keys.begin() + static_cast<std::ptrdiff_t>(from),
                                          keys.begin() + static_cast<std::ptrdiff_t>(std::min(keys.size(), from + keys_per_command)));
      std::vector<std::string> names;
      for (const auto& key : some) names.push_back(name_of(key));
      count n;
      if (how == mode::purge) n = co_await purge(std::move(names));
      else n = co_await expire(std::move(names), now);
      if (!n) co_return std::nullopt;
      batch news(*connection_);
      for (const auto& key : some) publish(news, proto::backplane_message::kind::key, key);
      const bool told = co_await news.all_answered();
      if (!told) co_return std::nullopt;  // other instances may go on with what they have
      total += *n;
    }
    co_return total;
  }

  // Locks of matching keys that hold no value yet go too: their loads began before.
  task<count> invalidate_matching(std::string glob, mode how, core::wall_time now) override {
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
    publish(news, proto::backplane_message::kind::pattern, glob);
    const bool told = co_await news.all_answered();
    if (!told) co_return std::nullopt;
    co_return values;
  }

  task<count> invalidate_tags(std::vector<std::string> tags, mode how) override {
    batch b(*connection_);
    for (const auto& tag : tags) {
      const auto name = proto::tag_name(prefix_, tag);
      if (how == mode::purge) b.add("UNLINK", name);
      else b.send(script_words(expire_tag_script, words_of(name), words_of(stale_mark())));
      publish(b, proto::backplane_message::kind::tag, tag);
    }
    std::uint64_t total = 0;
    bool good = true;
    for (std::size_t i = 0; i < tags.size(); ++i) {
      const auto done = co_await b.next();
      good = good && done && !done->is_error();
      if (good) total += static_cast<std::uint64_t>(done->integer);
      for (std::size_t told = 0; told < messages_each(); ++told) {
        const auto heard = co_await b.next();
        good = good && heard;
      }
    }
    if (!good) co_return std::nullopt;
    co_return total;
  }

 private:
  std::string name_of(std::string_view key) const { return std::string(prefix_).append(key); }
  std::string ttl_of(const engine::value& v, core::wall_time now) const {
    const auto keep = raw_ ? v.life().freshness_left(now) : engine::keep_for(v, now);
    return std::to_string(std::max<std::int64_t>(1, keep.count()));
  }
  std::string wire_form(const engine::value& v, const item& what) const {
    if (raw_) return std::string(v.body());
    if (what.compress_above == 0 || v.body().size() < what.compress_above) return v.bytes();
    return proto::encode_record(v.content(), what.compress_above);
  }
  static bool succeeded(const reply& r) { return r && !r->is_error() && r->integer == 1; }

  // Reading one value takes two commands when it is a plain body.
  void ask_value(batch& b, const item& what) const {
    const auto name = name_of(what.key);
    b.add("GET", name);
    if (raw_) b.add("PTTL", name);
  }
  task<read_outcome> take_value(batch& b, item what) const {
    auto got = co_await b.next();
    reply ttl;
    if (raw_) ttl = co_await b.next();
    if (!got) co_return read_outcome{};
    co_return outcome(std::move(*got), ttl, what);
  }

  read_outcome outcome(proto::resp_value got, const reply& ttl, const item& what) const {
    read_outcome out{true, nullptr};
    // Another type at that name (WRONGTYPE) is a foreign value: a miss.
    if (got.type != proto::resp_value::kind::bulk) return out;
    out.found = raw_ ? from_raw(got.text, what.content_type, ttl) : engine::value::decode(std::move(got.text));
    return out;
  }

  // A plain body knows only what is left of its life; an absent TTL means that its writer set none.
  value_ptr from_raw(std::string_view body, std::string_view content_type, const reply& ttl) const {
    constexpr std::int64_t forever_ms = std::int64_t(365) * 24 * 3600 * 1000;
    if (!ttl || ttl->integer == -2) return nullptr;
    proto::record r;
    const auto etag = proto::make_etag(content_type, body);
    r.body = body;
    r.etag = etag;
    r.content_type = content_type;
    r.created_ms = worker_.time->wall_now().time_since_epoch().count();
    r.fresh_ms = ttl->integer < 0 ? forever_ms : ttl->integer;
    return engine::value::encode(r);
  }

  // --- tags

  static constexpr std::size_t mark_time_digits = 12;
  // The second half of a version that was marked stale: the time in ms, and something that makes it unlike any other.
  std::string stale_mark() const {
    char digits[mark_time_digits + 1];
    std::snprintf(digits, sizeof digits, "%012llx", static_cast<unsigned long long>(worker_.time->wall_now().time_since_epoch().count()));
    return std::string(digits, mark_time_digits) + worker_.random->token().substr(0, proto::tag_version_bytes / 2 - mark_time_digits);
  }

  std::vector<std::string> tags_query(std::span<const std::string> tags) const {
    std::vector<std::string> words{"MGET"};
    for (const auto& tag : tags) words.push_back(proto::tag_name(prefix_, tag));
    return words;
  }

  // Gives each tag without a version a new one, then reads them: a tag that was purged, evicted or flushed never again has a
  // version that some value was stored with.
  void ask_versions(batch& b, const item& what) {
    if (what.tags.empty()) return;
    for (const auto& tag : what.tags) b.add("SET", proto::tag_name(prefix_, tag), worker_.random->token(), "NX", "PX", tag_idle_ms);
    b.send(tags_query(what.tags));
  }

  task<std::optional<std::string>> take_versions(batch& b, item what) const {
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

  void check_tags(read_outcome& got, const item& what, const std::vector<proto::resp_value>& versions) const {
    std::string now;
    for (const auto& v : versions) {
      if (v.type != proto::resp_value::kind::bulk || v.text.size() != proto::tag_version_bytes) break;
      now.append(v.text);
    }
    check_versions(got, what, now);
  }

  // Drops, or marks stale, a value whose tags have moved on since it was loaded.
  void check_versions(read_outcome& got, const item& what, const std::string& now) const {
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
      // When it was marked, see invalidate_tags.
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

  // A tag's version lives at least as long as the values that carry it. GT: never shorter than it was (Redis 7; an older one
  // refuses, and such a tag's values become misses when its version runs out).
  void prolong_tags(batch& b, const item& what, const std::string& ttl) const {
    for (const auto& tag : what.tags) b.add("PEXPIRE", proto::tag_name(prefix_, tag), ttl, "GT");
  }

  // --- news to the other instances

  void publish(batch& b, proto::backplane_message::kind what, std::string_view text) const {
    if (kind_ == config::backplane_kind::off) return;
    b.add("PUBLISH", proto::backplane_channel, proto::encode_backplane_message({backplane_->sender(), what, text}, prefix_));
    if (messages_each() == 2) b.add("PUBLISH", proto::plain_channel, name_of(text));
  }
  std::size_t messages_each() const noexcept {
    switch (kind_) {
      case config::backplane_kind::off: return 0;
      case config::backplane_kind::tracking: return 1;
      case config::backplane_kind::pubsub: return 2;
    }
    return 0;
  }

  // --- commands

  static std::vector<std::string> script_words(std::string_view text, std::vector<std::string> keys, std::vector<std::string> arguments) {
    std::vector<std::string> words{"EVAL", std::string(text), std::to_string(keys.size())};
    std::move(keys.begin(), keys.end(), std::back_inserter(words));
    std::move(arguments.begin(), arguments.end(), std::back_inserter(words));
    return words;
  }
  task<reply> script(std::string_view text, std::vector<std::string> keys, std::vector<std::string> arguments) {
    return connection_->run(script_words(text, std::move(keys), std::move(arguments)));
  }

  task<count> purge(std::vector<std::string> names) {
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

  // A plain body has no room for a mark: it is purged.
  task<count> expire(std::vector<std::string> names, core::wall_time now) {
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

  // Those who wait for these locks need not wait longer: they were deleted.
  task<void> wake(std::vector<std::string> lock_names) {
    batch b(*connection_);
    for (const auto& name : lock_names) b.add("PUBLISH", name, "");
    co_await b.all_answered();
  }

  enum class scanned : std::uint8_t { locks, purge, expire };
  // Does to what SCAN finds and `wanted` accepts as `what` says. Returns to how many.
  template <class Wanted>
  task<count> for_scanned(std::string match, Wanted wanted, scanned what, core::wall_time now) {
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

  task<count> unlink_locks(std::vector<std::string> names) {
    std::vector<std::string> words{"UNLINK"};
    words.insert(words.end(), names.begin(), names.end());
    const auto done = co_await connection_->run(std::move(words));
    if (!done || done->is_error()) co_return std::nullopt;
    co_await wake(std::move(names));
    co_return static_cast<std::uint64_t>(done->integer);
  }

  // --- locks that may still be ours

  // A connection that ends takes the answer with it, and perhaps leaves the lock; nobody else could load until its ttl is over.
  struct orphans {
    struct lock {
      std::string name;
      std::string token;
      runtime::steady_time until;
    };
    static constexpr std::size_t most = 10'000;
    std::deque<lock> locks;
  };

  void keep_orphan(std::string_view key, std::string_view token) {
    if (orphans_->locks.size() >= orphans::most) orphans_->locks.pop_front();
    orphans_->locks.push_back({proto::lock_name(name_of(key)), std::string(token), worker_.time->now() + lock_life_});
  }

  static task<void> release_orphans(runtime::worker& w, std::shared_ptr<connection> to, std::shared_ptr<orphans> left) {
    while (!left->locks.empty() && to->up()) {
      auto lock = std::move(left->locks.front());
      left->locks.pop_front();
      if (lock.until <= w.time->now()) continue;
      const auto words = script_words(release_script, words_of(lock.name), words_of(lock.token));
      const auto done = co_await to->run(words);
      if (!done) left->locks.push_back(std::move(lock));
    }
  }

  runtime::worker& worker_;
  std::shared_ptr<connection> connection_;
  std::shared_ptr<backplane> backplane_;
  const std::string prefix_;
  const bool raw_;
  const core::milliseconds lock_life_;
  const std::string lock_ttl_;
  const config::backplane_kind kind_;
  std::shared_ptr<orphans> orphans_;
};

}  // namespace

std::unique_ptr<l2_store> make_store(runtime::worker& w, std::shared_ptr<connection> connection, std::shared_ptr<backplane> from,
                                     const config::store_settings& settings) {
  return std::make_unique<store>(w, std::move(connection), std::move(from), settings);
}

}  // namespace asidecar::redis
