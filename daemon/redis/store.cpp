#include "daemon/redis/store.hpp"

#include <algorithm>

#include "daemon/engine/compose.hpp"
#include "daemon/redis/announcer.hpp"
#include "daemon/redis/batch.hpp"
#include "daemon/redis/fill_locks.hpp"
#include "daemon/redis/invalidation.hpp"
#include "daemon/redis/tag_versions.hpp"
#include "proto/record.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::redis {
namespace {

using engine::value_ptr;
using engine::l2_store;

// Stores a value only while the lock is still the caller's, and gives the lock back (as fill_locks does). Value and lock share a
// Cluster slot. KEYS: lock, value. ARGV: token, value, ttl in ms.
constexpr std::string_view fill_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "redis.call('SET',KEYS[2],ARGV[2],'PX',ARGV[3]) redis.call('DEL',KEYS[1]) redis.pcall('PUBLISH',KEYS[1],'') return 1";

class get_in_place final : public l2_store::pending_read, public connection::call {
 public:
  explicit get_in_place(l2_store::record_reader& to) : to_(to) {}

 protected:
  void arrived(reply r) override {
    const bool up = r && (r->type == proto::resp_value::kind::bulk || r->is_nil());
    to_.on_record(up, up ? std::string_view(r->text) : std::string_view());
  }
  void arrived_in_place(std::string_view text) override { to_.on_record(true, text); }

 private:
  l2_store::record_reader& to_;
};

class store final : public l2_store {
 public:
  store(runtime::worker& w, std::shared_ptr<connection> c, std::shared_ptr<backplane> from, const config::store_settings& s)
      : worker_(w), connection_(std::move(c)), backplane_(std::move(from)), prefix_(s.prefix), raw_(s.format == config::value_format::raw),
        lock_ttl_(std::to_string(s.lock_ttl.count())), announcer_(s, backplane_->sender()), tags_(w, s.prefix), locks_(w, connection_, s.lock_ttl),
        invalidation_(connection_, announcer_, tags_, s) {}

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
    if (!what.tags.empty()) b.send(tags_.query(what.tags));
    auto got = co_await take_value(b, what);
    if (got.found && !what.tags.empty()) {
      const auto tags = co_await b.next();
      tags_.check(got, what, tags ? tags->elements : std::vector<proto::resp_value>());
    }
    co_return got;
  }

  bool reads_in_place() const noexcept override { return !raw_ && connection_->takes_calls(); }
  std::unique_ptr<pending_read> read_in_place(std::string_view key, record_reader& to) override {
    auto get = std::make_unique<get_in_place>(to);
    connection_->send_words(*get, "GET", name_of(key));
    return get;
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
        tags_.check(one, what[n], versions);
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
    tags_.ask(b, what);
    const auto won = co_await b.next();
    auto got = co_await take_value(b, what);
    auto versions = co_await tags_.take(b, what);
    if (!won || won->is_error() || !got.up) {
      if (!won || won->is_ok()) locks_.keep_orphan(proto::lock_name(name_of(what.key)), token);
      co_return lock_outcome{};
    }
    if (got.found && !what.tags.empty()) tags_.check(got, what, versions.value_or(std::string()));
    co_return lock_outcome{won->is_ok() ? lock_state::won : lock_state::busy, got.found, versions};
  }

  task<std::optional<std::string>> tag_versions(item what) override {
    batch b(*connection_);
    tags_.ask(b, what);
    co_return co_await tags_.take(b, what);
  }

  task<bool> renew(std::string_view key, std::string_view token) override {
    return locks_.renew(proto::lock_name(name_of(key)), token);
  }

  task<bool> release(std::string_view key, std::string_view token) override {
    return locks_.release(proto::lock_name(name_of(key)), token);
  }

  std::unique_ptr<engine::lock_watch> watch_lock(std::string_view key) override {
    return backplane_->watch(worker_, proto::lock_name(name_of(key)));
  }

  task<core::fill_outcome> fill(item what, std::string_view token, value_ptr value, core::wall_time now) override {
    if (raw_ && value->life().negative) {  // a raw body has no way to say "no such record"
      co_await release(what.key, token);
      co_return core::fill_outcome::not_stored;
    }
    const auto name = name_of(what.key);
    const auto ttl = ttl_of(*value, now);
    batch b(*connection_);
    tags_.prolong(b, what, ttl);
    b.send(script_words(fill_script, words_of(proto::lock_name(name), name), words_of(token, wire_form(*value, what), ttl)));
    if (!what.tags.empty()) b.send(tags_.query(what.tags));
    if (announcer_.tells_of_fills()) announcer_.add(b, announcer::kind::changed, what.key);
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
    announcer_.add(b, announcer::kind::key, key);
    const auto locked = co_await b.next();
    const auto removed = co_await b.next();
    co_await b.all_answered();
    const bool done = locked && locked->is_ok() && removed && !removed->is_error();
    if (!done) locks_.keep_orphan(proto::lock_name(name), token);
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
    tags_.prolong(b, what, ttl);
    b.add("DEL", lock_name);
    b.add("SET", name, wire_form(*value, what), "PX", ttl);
    for (std::size_t i = 0; i < what.tags.size(); ++i) co_await b.next();
    const auto unlocked = co_await b.next();
    const auto stored = co_await b.next();
    const bool done = unlocked && !unlocked->is_error() && stored && stored->is_ok();
    batch news(*connection_);
    if (unlocked && unlocked->integer > 0) news.add("PUBLISH", lock_name, "");
    announcer_.add(news, announcer::kind::key, what.key);
    const bool told = co_await news.all_answered();
    co_return done && told;
  }

  task<count> invalidate(std::vector<std::string> keys, mode how, core::wall_time now) override { return invalidation_.keys(std::move(keys), how, now); }
  task<count> invalidate_matching(std::string glob, mode how, core::wall_time now) override { return invalidation_.matching(std::move(glob), how, now); }
  task<count> invalidate_tags(std::vector<std::string> tags, mode how) override { return invalidation_.tags(std::move(tags), how); }

 private:
  std::string name_of(std::string_view key) const { return std::string(prefix_).append(key); }
  std::string ttl_of(const engine::value& v, core::wall_time now) const {
    const auto keep = raw_ ? v.life().freshness_left(now) : engine::keep_for(v.content(), now);
    return std::to_string(std::max<std::int64_t>(1, keep.count()));
  }
  std::string wire_form(const engine::value& v, const item& what) const {
    if (raw_) return std::string(v.body());
    if (what.compress_above == 0 || v.body().size() < what.compress_above) return v.encoded();
    return proto::encode_record(v.content(), what.compress_above);
  }

  // Reading one value takes two commands when it is a raw body.
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
    out.found = raw_ ? from_raw(got.text, what, ttl) : engine::value::decode(std::move(got.text));
    return out;
  }

  // A raw body knows only what is left of its life. Without a TTL it lives on, and what is read of it is fresh for a while.
  value_ptr from_raw(std::string_view body, const item& what, const reply& ttl) const {
    if (!ttl || ttl->integer == -2) return nullptr;
    proto::record r;
    const auto etag = proto::make_etag(what.content_type, body);
    r.body = body;
    r.etag = etag;
    r.content_type = what.content_type;
    r.created_ms = worker_.time->wall_now().time_since_epoch().count();
    r.fresh_ms = ttl->integer < 0 ? what.fresh_for.count() : ttl->integer;
    return engine::value::encode(r);
  }

  runtime::worker& worker_;
  std::shared_ptr<connection> connection_;
  std::shared_ptr<backplane> backplane_;
  const std::string prefix_;
  const bool raw_;
  const std::string lock_ttl_;
  const announcer announcer_;
  const redis::tag_versions tags_;
  fill_locks locks_;
  invalidation invalidation_;
};

}  // namespace

std::unique_ptr<l2_store> make_store(runtime::worker& w, std::shared_ptr<connection> connection, std::shared_ptr<backplane> from,
                                     const config::store_settings& settings) {
  return std::make_unique<store>(w, std::move(connection), std::move(from), settings);
}

}  // namespace asidecar::redis
