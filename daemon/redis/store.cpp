#include "daemon/redis/store.hpp"

#include <algorithm>
#include <deque>

#include "daemon/core/glob.hpp"
#include "daemon/engine/compose.hpp"
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

constexpr std::size_t keys_per_command = 500;

class store final : public l2_store {
 public:
  store(runtime::worker& w, std::shared_ptr<connection> c, std::shared_ptr<backplane> from, const config::store_settings& s)
      : worker_(w), connection_(std::move(c)), backplane_(std::move(from)), prefix_(s.prefix), raw_(s.format == config::value_format::raw),
        lock_ttl_(std::to_string(s.lock_ttl.count())) {}

  bool keeps_metadata() const noexcept override { return !raw_; }

  task<read_outcome> read(item what) override {
    const auto name = name_of(what.key);
    connection::call value;
    connection::call ttl;
    connection_->send_words(value, "GET", name);
    if (raw_) connection_->send_words(ttl, "PTTL", name);
    auto got = co_await value.wait();
    reply left;
    if (raw_) left = co_await ttl.wait();
    co_return outcome(std::move(got), left, what);
  }

  task<lock_outcome> lock(item what, std::string_view token) override {
    const auto name = name_of(what.key);
    const auto lock_name = proto::lock_name(name);
    connection::call taken;
    connection::call value;
    connection::call ttl;
    connection_->send_words(taken, "SET", lock_name, token, "NX", "PX", lock_ttl_);
    connection_->send_words(value, "GET", name);
    if (raw_) connection_->send_words(ttl, "PTTL", name);
    const auto won = co_await taken.wait();
    auto got = co_await value.wait();
    reply left;
    if (raw_) left = co_await ttl.wait();
    if (!won || won->is_error() || !got) co_return lock_outcome{};
    lock_outcome out{won->is_ok() ? lock_state::won : lock_state::busy, outcome(std::move(got), left, what).found};
    co_return out;
  }

  task<bool> renew(std::string_view key, std::string_view token) override {
    co_return succeeded(co_await script(renew_script, words_of(proto::lock_name(name_of(key))), words_of(token, lock_ttl_)));
  }

  task<void> release(std::string_view key, std::string_view token) override {
    co_await script(release_script, words_of(proto::lock_name(name_of(key))), words_of(token));
  }

  std::unique_ptr<engine::lock_watch> watch_lock(std::string_view key) override {
    return backplane_->watch(worker_, proto::lock_name(name_of(key)));
  }

  task<core::fill_outcome> fill(std::string_view key, std::string_view token, value_ptr value, core::wall_time now) override {
    const auto name = name_of(key);
    if (raw_ && value->life().negative) {  // a plain body has no way to say "no such record"
      co_await release(key, token);
      co_return core::fill_outcome::not_stored;
    }
    const auto done = co_await script(fill_script, words_of(proto::lock_name(name), name), words_of(token, wire_form(*value), ttl_of(*value, now)));
    if (!done || done->is_error()) co_return core::fill_outcome::down;
    co_return done->integer == 1 ? core::fill_outcome::stored : core::fill_outcome::not_stored;
  }

  task<bool> put(std::string_view key, value_ptr value, core::wall_time now) override {
    const auto name = name_of(key);
    const auto lock_name = proto::lock_name(name);
    const auto bytes = wire_form(*value);
    const auto ttl = ttl_of(*value, now);
    connection::call unlocked;
    connection::call stored;
    connection_->send_words(unlocked, "DEL", lock_name);
    connection_->send_words(stored, "SET", name, bytes, "PX", ttl);
    const auto first = co_await unlocked.wait();
    const auto second = co_await stored.wait();
    if (first && first->integer > 0) co_await wake(words_of(lock_name));
    co_return first && !first->is_error() && second && second->is_ok();
  }

  task<std::optional<std::uint64_t>> remove(const std::vector<std::string>& keys) override {
    std::uint64_t removed = 0;
    for (std::size_t from = 0; from < keys.size(); from += keys_per_command) {
      std::vector<std::string> names;
      for (std::size_t i = from; i < std::min(keys.size(), from + keys_per_command); ++i) names.push_back(name_of(keys[i]));
      const auto n = co_await remove_names(names);
      if (!n) co_return std::nullopt;
      removed += *n;
    }
    co_return removed;
  }

  // Locks of matching keys that hold no value yet go too: their loads began before.
  task<std::optional<std::uint64_t>> remove_matching(std::string_view glob) override {
    const auto matches = [&](std::string_view name) { return name.starts_with(prefix_) && core::glob_match(glob, name.substr(prefix_.size())); };
    const auto lock_matches = [&](std::string_view lock) {
      const auto names = proto::names_of_lock(lock);
      return std::any_of(names.begin(), names.end(), matches);
    };
    // Internal names are never values, whatever the prefix and pattern are.
    const auto is_value = [](std::string_view name) { return !proto::names_internal(name); };
    const auto locks = co_await unlink_scanned(std::string(proto::all_locks), lock_matches, true);
    if (!locks) co_return std::nullopt;
    co_return co_await unlink_scanned(proto::glob_escape(prefix_).append(glob), is_value, false);
  }

 private:
  std::string name_of(std::string_view key) const { return std::string(prefix_).append(key); }
  std::string ttl_of(const engine::value& v, core::wall_time now) const {
    const auto keep = raw_ ? v.life().freshness_left(now) : engine::keep_for(v, now);
    return std::to_string(std::max<std::int64_t>(1, keep.count()));
  }
  std::string wire_form(const engine::value& v) const { return raw_ ? std::string(v.body()) : v.bytes(); }
  static bool succeeded(const reply& r) { return r && !r->is_error() && r->integer == 1; }

  read_outcome outcome(reply got, const reply& ttl, const item& what) const {
    if (!got) return {};
    read_outcome out{true, nullptr};
    // Another type at that name (WRONGTYPE) is a foreign value: a miss.
    if (got->type != proto::resp_value::kind::bulk) return out;
    out.found = raw_ ? from_raw(got->text, what.content_type, ttl) : engine::value::decode(std::move(got->text));
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

  task<reply> script(std::string_view text, std::vector<std::string> keys, std::vector<std::string> arguments) {
    std::vector<std::string> words{"EVAL", std::string(text), std::to_string(keys.size())};
    std::move(keys.begin(), keys.end(), std::back_inserter(words));
    std::move(arguments.begin(), arguments.end(), std::back_inserter(words));
    return connection_->run(std::move(words));
  }

  task<std::optional<std::uint64_t>> remove_names(const std::vector<std::string>& names) {
    std::vector<std::string> locks{"UNLINK"};
    std::vector<std::string> values{"UNLINK"};
    for (const auto& name : names) {
      locks.push_back(proto::lock_name(name));
      values.push_back(name);
    }
    // Locks first: between the two a fill finds no lock, and after both no value is left.
    const std::vector<std::string_view> lock_words(locks.begin(), locks.end());
    const std::vector<std::string_view> value_words(values.begin(), values.end());
    connection::call unlocked;
    connection::call removed;
    connection_->send(unlocked, lock_words);
    connection_->send(removed, value_words);
    const auto first = co_await unlocked.wait();
    const auto second = co_await removed.wait();
    if (!first || first->is_error() || !second || second->is_error()) co_return std::nullopt;
    locks.erase(locks.begin());
    if (first->integer > 0) co_await wake(std::move(locks));
    co_return static_cast<std::uint64_t>(second->integer);
  }

  // Those who wait for these locks need not wait longer: they were deleted.
  task<void> wake(std::vector<std::string> lock_names) {
    std::deque<connection::call> calls(lock_names.size());
    for (std::size_t i = 0; i < calls.size(); ++i) connection_->send_words(calls[i], "PUBLISH", lock_names[i], "");
    for (auto& c : calls) co_await c.wait();
  }

  // Unlinks what SCAN finds and `wanted` accepts; as locks, it wakes who waits for them. Returns how many there were.
  template <class Wanted>
  task<std::optional<std::uint64_t>> unlink_scanned(std::string match, Wanted wanted, bool as_locks) {
    std::uint64_t removed = 0;
    std::string cursor = "0";
    do {
      const auto page = co_await connection_->run(words_of("SCAN", cursor, "MATCH", match, "COUNT", std::to_string(keys_per_command)));
      const bool good = page && page->type == proto::resp_value::kind::array && page->elements.size() == 2;
      if (!good) co_return std::nullopt;
      cursor = page->elements[0].text;
      std::vector<std::string> words{"UNLINK"};
      for (const auto& found : page->elements[1].elements)
        if (wanted(found.text)) words.push_back(found.text);
      if (words.size() == 1) continue;
      const std::vector<std::string_view> views(words.begin(), words.end());
      connection::call unlinked;
      connection_->send(unlinked, views);
      const auto done = co_await unlinked.wait();
      if (!done || done->is_error()) co_return std::nullopt;
      words.erase(words.begin());
      if (as_locks) co_await wake(std::move(words));
      removed += static_cast<std::uint64_t>(done->integer);
    } while (cursor != "0");
    co_return removed;
  }

  runtime::worker& worker_;
  std::shared_ptr<connection> connection_;
  std::shared_ptr<backplane> backplane_;
  const std::string prefix_;
  const bool raw_;
  const std::string lock_ttl_;
};

}  // namespace

std::unique_ptr<l2_store> make_store(runtime::worker& w, std::shared_ptr<connection> connection, std::shared_ptr<backplane> from,
                                     const config::store_settings& settings) {
  return std::make_unique<store>(w, std::move(connection), std::move(from), settings);
}

}  // namespace asidecar::redis
