#include "tests/sim/model_redis.hpp"

#include "daemon/core/glob.hpp"
#include "daemon/engine/compose.hpp"
#include "proto/record.hpp"

namespace asidecar::sim {
namespace {

using engine::l2_store;
using engine::value_ptr;
constexpr milliseconds store_timeout{100};

}  // namespace

bool model_redis::set_nx_lock(const std::string& key, std::string_view token, milliseconds ttl) {
  if (find(locks_, key) != nullptr) return false;
  set_lock(key, token, ttl);
  return true;
}

void model_redis::set_lock(const std::string& key, std::string_view token, milliseconds ttl) { locks_[key] = {std::string(token), world_.now() + ttl}; }

bool model_redis::renew_lock(const std::string& key, std::string_view token, milliseconds ttl) {
  auto* l = find(locks_, key);
  if (l == nullptr || l->bytes != token) return false;
  l->until = world_.now() + ttl;
  return true;
}

bool model_redis::release_lock(const std::string& key, std::string_view token) {
  auto* l = find(locks_, key);
  if (l == nullptr || l->bytes != token) return false;
  return delete_lock(key);
}

bool model_redis::delete_lock(const std::string& key) { return locks_.erase(key) > 0; }

std::string model_redis::get(const std::string& key) {
  const auto* v = find(values_, key);
  return v == nullptr ? std::string() : v->bytes;
}

void model_redis::set(const std::string& key, std::string bytes, milliseconds ttl) {
  values_[key] = {std::move(bytes), world_.now() + ttl};
  changed(key);
}

bool model_redis::remove(const std::string& key) {
  if (find(values_, key) == nullptr) return false;
  values_.erase(key);
  changed(key);
  return true;
}

bool model_redis::fill(const std::string& key, std::string_view token, std::string bytes, milliseconds ttl) {
  auto* l = find(locks_, key);
  if (l == nullptr || l->bytes != token) return false;
  set(key, std::move(bytes), ttl);
  if (l != nullptr) locks_.erase(key);
  return true;
}

std::vector<std::string> model_redis::names() const {
  std::vector<std::string> out;
  for (const auto& [name, v] : values_) out.push_back(name);
  for (const auto& [name, v] : locks_) out.push_back(name);
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
  model_store(world& w, model_redis& redis, runtime::worker& home, model_redis::listener& ears, const faults& f, milliseconds lock_ttl)
      : world_(w), redis_(redis), home_(home), ears_(ears), faults_(f), lock_ttl_(lock_ttl) {}

  bool keeps_metadata() const noexcept override { return true; }
  bool up() const noexcept override { return world_.now() >= down_until_; }

  task<read_outcome> read(item what) override {
    const std::string key(what.key);
    const bool there = co_await go();
    if (!there) co_return read_outcome{};
    auto bytes = redis_.get(key);
    co_await step();
    auto now = versions_now(what);
    const bool back = co_await come_back();
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
    const bool there = co_await go();
    if (!there) co_return lock_outcome{};
    const bool won = redis_.set_nx_lock(key, token, lock_ttl_);
    co_await step();
    auto bytes = redis_.get(key);
    co_await step();
    give_versions(what);
    auto now = versions_now(what);
    const bool back = co_await come_back();
    if (!back) co_return lock_outcome{};
    lock_outcome out{won ? lock_state::won : lock_state::busy, checked(std::move(bytes), what, now), now};
    co_return out;
  }

  task<std::optional<std::string>> tag_versions(item what) override {
    const bool there = co_await go();
    if (!there) co_return std::nullopt;
    give_versions(what);
    auto now = versions_now(what);
    const bool back = co_await come_back();
    if (!back) co_return std::nullopt;
    co_return now;
  }

  task<bool> renew(std::string_view key, std::string_view token) override {
    const bool there = co_await go();
    if (!there) co_return false;
    const bool held = redis_.renew_lock(std::string(key), token, lock_ttl_);
    const bool back = co_await come_back();
    co_return held && back;
  }

  task<bool> release(std::string_view key, std::string_view token) override {
    const bool there = co_await go();
    if (!there) co_return false;
    const bool held = redis_.release_lock(std::string(key), token);
    const bool back = co_await come_back();
    co_return held && back;
  }

  std::unique_ptr<engine::lock_watch> watch_lock(std::string_view) override { return std::make_unique<polled_watch>(home_); }

  task<core::fill_outcome> fill(item what, std::string_view token, value_ptr value, core::wall_time now) override {
    const std::string key(what.key);
    const bool there = co_await go();
    if (!there) co_return core::fill_outcome::down;
    const bool stored = redis_.fill(key, token, value->bytes(), std::max(milliseconds(1), engine::keep_for(*value, now)));
    const bool moved = !what.tags.empty() && versions_now(what) != value->content().tag_versions;
    const bool back = co_await come_back();
    if (!back) co_return core::fill_outcome::down;
    if (stored && moved) co_return core::fill_outcome::tag_moved;
    co_return stored ? core::fill_outcome::stored : core::fill_outcome::lock_lost;
  }

  task<inspection> inspect(std::string_view) override { co_return inspection{}; }

  task<bool> seize(std::string_view k, std::string_view token) override {
    const std::string key(k);
    const bool there = co_await go();
    if (!there) co_return false;
    redis_.set_lock(key, token, lock_ttl_);
    co_await step();
    redis_.remove(key);
    redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    const bool back = co_await come_back();
    co_return back;
  }

  task<bool> put(item what, value_ptr value, core::wall_time now) override {
    const std::string key(what.key);
    const bool there = co_await go();
    if (!there) co_return false;
    redis_.delete_lock(key);
    co_await step();
    redis_.set(key, value->bytes(), std::max(milliseconds(1), engine::keep_for(*value, now)));
    redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    const bool back = co_await come_back();
    co_return back;
  }

  task<count> invalidate(std::vector<std::string> keys, mode how, core::wall_time now) override {
    const bool there = co_await go();
    if (!there) co_return std::nullopt;
    std::uint64_t n = 0;
    for (const auto& key : keys) {
      redis_.delete_lock(key);
      co_await step();
      n += remove_or_mark(key, how, now) ? 1 : 0;
      redis_.publish(&ears_, [key](engine::shared_state& s) { s.forget({&key, 1}); });
    }
    const bool back = co_await come_back();
    if (!back) co_return std::nullopt;
    co_return n;
  }

  task<count> invalidate_matching(std::string glob, mode how, core::wall_time now) override {
    const bool there = co_await go();
    if (!there) co_return std::nullopt;
    std::uint64_t n = 0;
    for (const auto& name : redis_.names())
      if (core::glob_match(glob, name)) redis_.delete_lock(name);
    co_await step();
    for (const auto& name : redis_.names()) {
      if (!core::glob_match(glob, name)) continue;
      redis_.delete_lock(name);
      n += remove_or_mark(name, how, now) ? 1 : 0;
    }
    redis_.publish(&ears_, [glob](engine::shared_state& s) { s.forget_matching(glob); });
    const bool back = co_await come_back();
    if (!back) co_return std::nullopt;
    co_return n;
  }

  task<count> invalidate_tags(std::vector<std::string> tags, mode how) override {
    const bool there = co_await go();
    if (!there) co_return std::nullopt;
    for (const auto& tag : tags) {
      if (how == mode::purge) redis_.tags().erase(tag);
      else if (auto* v = redis_.find(redis_.tags(), tag)) v->bytes.replace(16, 16, home_.random->token().substr(0, 16));
      redis_.publish(&ears_, [tag](engine::shared_state& s) { s.forget_tag(tag); });
    }
    const bool back = co_await come_back();
    if (!back) co_return std::nullopt;
    co_return tags.size();
  }

 private:
  // To Redis: false when the command did not arrive.
  task<bool> go() {
    if (!up()) co_return false;
    sent_ = world_.now();
    const bool lost = world_.chance(faults_.request_lost);
    co_await sleep(world_.chance(faults_.slow) ? world_.between(50, 150) : world_.between(0, 3));
    if (lost) co_await give_up();
    co_return !lost && up();
  }
  task<bool> come_back() {
    const bool lost = world_.chance(faults_.reply_lost);
    co_await sleep(world_.between(0, 3));
    if (lost) co_await give_up();
    co_return !lost && up();
  }
  task<void> step() { co_await sleep(world_.between(0, 1)); }
  // A reply that is late means that the connection is given up, for all.
  task<void> give_up() {
    co_await sleep(store_timeout);
    down_until_ = world_.now() + world_.between(20, 400);
  }
  task<void> sleep(milliseconds t) {
    if (t <= milliseconds(0)) co_return;
    const auto bell = home_.time->make_alarm();
    co_await bell->wait_until(world_.now() + t);
  }

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
      if (redis_.find(redis_.tags(), tag) == nullptr) redis_.tags()[tag] = {home_.random->token(), world_.now() + std::chrono::hours(1)};
  }
  std::string versions_now(const item& what) {
    std::string out;
    for (const auto& tag : what.tags)
      if (const auto* v = redis_.find(redis_.tags(), tag)) out.append(v->bytes);
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

  world& world_;
  model_redis& redis_;
  runtime::worker& home_;
  model_redis::listener& ears_;
  const faults& faults_;
  const milliseconds lock_ttl_;
  steady_time sent_{};
  steady_time down_until_{};
};

}  // namespace

std::unique_ptr<l2_store> make_model_store(world& w, model_redis& redis, runtime::worker& home, model_redis::listener& ears, const faults& f, milliseconds lock_ttl) {
  return std::make_unique<model_store>(w, redis, home, ears, f, lock_ttl);
}

}  // namespace asidecar::sim
