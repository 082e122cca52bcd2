#include "tests/sim/model_redis.hpp"

#include "daemon/core/glob.hpp"
#include "daemon/engine/compose.hpp"
#include "proto/record.hpp"

namespace asidecar::sim {
namespace {

using engine::l2_store;
using engine::value_ptr;

}  // namespace

std::string* expiring_keys::find(const std::string& name) {
  const auto at = keys_.find(name);
  if (at == keys_.end()) return nullptr;
  if (at->second.until > world_->now()) return &at->second.bytes;
  keys_.erase(at);
  return nullptr;
}

bool expiring_keys::erase(const std::string& name) {
  const bool there = find(name) != nullptr;
  keys_.erase(name);
  return there;
}

std::vector<std::string> expiring_keys::names() const {
  std::vector<std::string> out;
  for (const auto& [name, v] : keys_) out.push_back(name);
  return out;
}

bool expiring_keys::set_nx(const std::string& name, std::string_view token, milliseconds ttl) {
  if (find(name) != nullptr) return false;
  set(name, std::string(token), ttl);
  return true;
}

bool expiring_keys::holds(const std::string& name, std::string_view token) {
  const auto* now = find(name);
  return now != nullptr && *now == token;
}

bool expiring_keys::renew(const std::string& name, std::string_view token, milliseconds ttl) {
  if (!holds(name, token)) return false;
  set(name, std::string(token), ttl);
  return true;
}

void model_redis::restart() {
  values_ = disk_[0];
  locks_ = disk_[1];
  tags_ = disk_[2];
  leases_ = disk_[3];
  ++life_;
}

std::string model_redis::get(const std::string& key) {
  const auto* v = values_.find(key);
  return v == nullptr ? std::string() : *v;
}

void model_redis::set(const std::string& key, std::string bytes, milliseconds ttl) {
  values_.set(key, std::move(bytes), ttl);
  changed(key);
}

bool model_redis::remove(const std::string& key) {
  if (!values_.erase(key)) return false;
  changed(key);
  return true;
}

bool model_redis::fill(const std::string& key, std::string_view token, std::string bytes, milliseconds ttl) {
  if (!locks_.holds(key, token)) return false;
  set(key, std::move(bytes), ttl);
  locks_.erase(key);
  return true;
}

std::vector<std::string> model_redis::names() const {
  auto out = values_.names();
  for (auto& name : locks_.names()) out.push_back(std::move(name));
  return out;
}

void model_redis::changed(const std::string& key) {
  for (auto* l : listeners_) deliver(*l, [key](engine::shared_state& s) { s.changed_in_store(key); });
}

void model_redis::publish(listener* from, std::function<void(engine::shared_state&)> news) {
  for (auto* l : listeners_)
    if (l != from) deliver(*l, news);
}

namespace {

task<void> arrive(model_redis::listener& l, steady_time when, std::uint64_t connection, std::function<void(engine::shared_state&)> news) {
  const auto bell = l.home->time->make_alarm();
  co_await bell->wait_until(when);
  if (l.up && l.connection == connection) news(*l.shared);
}

}  // namespace

// In order, as on any connection.
void model_redis::deliver(listener& l, std::function<void(engine::shared_state&)> news) {
  if (!l.up) return;
  l.last_delivery = std::max(l.last_delivery, world_.now() + world_.between(0, 15));
  l.home->tasks.spawn(arrive(l, l.last_delivery, l.connection, std::move(news)));
}

namespace {

class polled_watch final : public engine::lock_watch {
 public:
  explicit polled_watch(runtime::worker& w) : bell_(w.time->make_alarm()) {}
  bool live() const noexcept override { return false; }
  task<void> wait_until(steady_time when) override { co_await bell_->wait_until(when); }

 private:
  std::unique_ptr<runtime::alarm> bell_;
};

class model_store final : public l2_store {
 public:
  model_store(model_redis& redis, std::shared_ptr<model_connection> c, runtime::worker& home, model_redis::listener& ears, milliseconds lock_ttl)
      : redis_(redis), connection_(std::move(c)), home_(home), ears_(ears), lock_ttl_(lock_ttl) {}

  bool keeps_metadata() const noexcept override { return true; }
  bool up() const noexcept override { return connection_->up(); }

  task<read_outcome> read(item what) override {
    const std::string key(what.key);
    const bool there = co_await connection_->go();
    if (!there) co_return read_outcome{};
    auto bytes = redis_.get(key);
    co_await connection_->step();
    auto now = versions_now(what);
    const bool back = co_await connection_->come_back();
    if (!back) co_return read_outcome{};
    co_return read_outcome{true, checked(std::move(bytes), what, now)};
  }

  task<std::vector<read_outcome>> read_many(std::vector<item> what) override {
    std::vector<read_outcome> out;
    for (const auto& i : what) out.push_back(co_await read(i));
    co_return out;
  }

  task<lock_outcome> lock(item what, std::string_view token) override {
    const std::string key(what.key);
    const bool there = co_await connection_->go();
    if (!there) co_return lock_outcome{};
    const bool won = redis_.locks().set_nx(key, token, lock_ttl_);
    co_await connection_->step();
    auto bytes = redis_.get(key);
    co_await connection_->step();
    give_versions(what);
    auto now = versions_now(what);
    const bool back = co_await connection_->come_back();
    if (!back) co_return lock_outcome{};
    lock_outcome out{won ? lock_state::won : lock_state::busy, checked(std::move(bytes), what, now), now};
    co_return out;
  }

  task<std::optional<std::string>> tag_versions(item what) override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    give_versions(what);
    auto now = versions_now(what);
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return now;
  }

  task<bool> renew(std::string_view key, std::string_view token) override {
    const bool there = co_await connection_->go();
    if (!there) co_return false;
    const bool held = redis_.locks().renew(std::string(key), token, lock_ttl_);
    const bool back = co_await connection_->come_back();
    co_return held && back;
  }

  task<bool> release(std::string_view key, std::string_view token) override {
    const bool there = co_await connection_->go();
    if (!there) co_return false;
    const bool held = redis_.locks().release(std::string(key), token);
    const bool back = co_await connection_->come_back();
    co_return held && back;
  }

  std::unique_ptr<engine::lock_watch> watch_lock(std::string_view) override { return std::make_unique<polled_watch>(home_); }

  task<core::fill_outcome> fill(item what, std::string_view token, value_ptr value, core::wall_time now) override {
    const std::string key(what.key);
    const bool there = co_await connection_->go();
    if (!there) co_return core::fill_outcome::down;
    const bool stored = redis_.fill(key, token, value->encoded(), std::max(milliseconds(1), engine::keep_for(value->content(), now)));
    const bool moved = !what.tags.empty() && versions_now(what) != value->content().tag_versions;
    const bool back = co_await connection_->come_back();
    if (!back) co_return core::fill_outcome::down;
    if (stored && moved) co_return core::fill_outcome::tag_moved;
    co_return stored ? core::fill_outcome::stored : core::fill_outcome::lock_lost;
  }

  task<inspection> inspect(std::string_view) override { co_return inspection{}; }

  task<bool> seize(std::string_view k, std::string_view token) override {
    const std::string key(k);
    const bool there = co_await connection_->go();
    if (!there) co_return false;
    redis_.locks().set(key, std::string(token), lock_ttl_);
    co_await connection_->step();
    redis_.remove(key);
    redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    const bool back = co_await connection_->come_back();
    co_return back;
  }

  task<bool> put(item what, value_ptr value, core::wall_time now) override {
    const std::string key(what.key);
    const bool there = co_await connection_->go();
    if (!there) co_return false;
    redis_.locks().erase(key);
    co_await connection_->step();
    redis_.set(key, value->encoded(), std::max(milliseconds(1), engine::keep_for(value->content(), now)));
    redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    const bool back = co_await connection_->come_back();
    co_return back;
  }

  task<count> invalidate(std::vector<std::string> keys, mode how, core::wall_time now) override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    std::uint64_t n = 0;
    for (const auto& key : keys) {
      redis_.locks().erase(key);
      co_await connection_->step();
      n += remove_or_mark(key, how, now) ? 1 : 0;
      redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    }
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return n;
  }

  task<count> invalidate_matching(std::string glob, mode how, core::wall_time now) override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    std::uint64_t n = 0;
    for (const auto& name : redis_.names())
      if (core::glob_match(glob, name)) redis_.locks().erase(name);
    co_await connection_->step();
    for (const auto& name : redis_.names()) {
      if (!core::glob_match(glob, name)) continue;
      redis_.locks().erase(name);
      n += remove_or_mark(name, how, now) ? 1 : 0;
    }
    redis_.publish(&ears_, [glob](engine::shared_state& s) { s.forget_matching(glob); });
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return n;
  }

  task<count> invalidate_tags(std::vector<std::string> tags, mode how) override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    for (const auto& tag : tags) {
      if (how == mode::purge) redis_.tags().erase(tag);
      else if (auto* v = redis_.tags().find(tag)) v->replace(16, 16, home_.random->token().substr(0, 16));
      redis_.publish(&ears_, [tag](engine::shared_state& s) { s.forget_tag(tag); });
    }
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return tags.size();
  }

 private:
  bool remove_or_mark(const std::string& key, mode how, core::wall_time now) {
    if (how == mode::purge) return redis_.remove(key);
    auto bytes = redis_.get(key);
    if (bytes.empty()) return false;
    bytes.replace(proto::expiry_mark_offset, 16, proto::expiry_mark(now.time_since_epoch().count()));
    redis_.set(key, std::move(bytes), std::chrono::seconds(60));
    return true;
  }

  void give_versions(const item& what) {
    for (const auto& tag : what.tags)
      if (redis_.tags().find(tag) == nullptr) redis_.tags().set(tag, home_.random->token(), std::chrono::hours(1));
  }
  std::string versions_now(const item& what) {
    std::string out;
    for (const auto& tag : what.tags)
      if (const auto* v = redis_.tags().find(tag)) out.append(*v);
    return out;
  }
  value_ptr checked(std::string bytes, const item& what, const std::string& now) const {
    if (bytes.empty()) return nullptr;
    auto v = engine::value::decode(std::move(bytes));
    if (!v || what.tags.empty()) return v;
    const auto& held = v->content();
    if (held.tags_hash != proto::hash_tags(what.tags) || held.tag_versions.size() != now.size()) return nullptr;
    for (std::size_t at = 0; at < now.size(); at += 32) {
      if (held.tag_versions.substr(at, 16) != std::string_view(now).substr(at, 16)) return nullptr;
      if (held.tag_versions.substr(at + 16, 16) == std::string_view(now).substr(at + 16, 16)) continue;
      auto marked = held;
      marked.expired_at_ms = home_.time->wall_now().time_since_epoch().count();
      return engine::value::encode(marked);
    }
    return v;
  }

  model_redis& redis_;
  std::shared_ptr<model_connection> connection_;
  runtime::worker& home_;
  model_redis::listener& ears_;
  const milliseconds lock_ttl_;
};

}  // namespace

std::unique_ptr<l2_store> make_model_store(model_redis& redis, std::shared_ptr<model_connection> c, runtime::worker& home, model_redis::listener& ears,
                                           milliseconds lock_ttl) {
  return std::make_unique<model_store>(redis, std::move(c), home, ears, lock_ttl);
}

}  // namespace asidecar::sim
