#include "daemon/redis/fill_locks.hpp"

#include "daemon/redis/batch.hpp"
#include "daemon/redis/lease.hpp"

namespace asidecar::redis {
namespace {

// Compare and delete, and wake those who wait, on the channel named like the lock. Publishing may be forbidden by an ACL; that
// must not undo the rest, hence pcall. KEYS: lock. ARGV: token.
constexpr std::string_view release_script =
    "if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end "
    "redis.call('DEL',KEYS[1]) redis.pcall('PUBLISH',KEYS[1],'') return 1";
constexpr std::size_t orphans_max = 10'000;

}  // namespace

fill_locks::fill_locks(runtime::worker& w, std::shared_ptr<connection> c, std::chrono::milliseconds ttl)
    : worker_(w), connection_(std::move(c)), ttl_(ttl), orphans_(std::make_shared<orphans>()) {
  connection_->when_up([weak = std::weak_ptr(orphans_), &w, back = std::weak_ptr(connection_)](std::string_view) {
    const auto left = weak.lock();
    const auto to = back.lock();
    if (left && to && !left->empty()) w.tasks.spawn(release_orphans(w, to, left));
  });
}

task<bool> fill_locks::renew(std::string name, std::string_view token) {
  lease held(connection_, std::move(name));
  const auto done = co_await held.renew(token, ttl_);
  co_return done == engine::answer::yes;
}

task<bool> fill_locks::release(std::string name, std::string_view token) {
  const auto done = co_await connection_->run(script_words(release_script, words_of(name), words_of(token)));
  if (!done) keep_orphan(std::move(name), token);
  co_return done && !done->is_error() && done->integer == 1;
}

void fill_locks::keep_orphan(std::string name, std::string_view token) {
  if (orphans_->size() >= orphans_max) orphans_->pop_front();
  orphans_->push_back({std::move(name), std::string(token), worker_.time->now() + ttl_});
}

task<void> fill_locks::release_orphans(runtime::worker& w, std::shared_ptr<connection> to, std::shared_ptr<orphans> left) {
  while (!left->empty() && to->up()) {
    auto lock = std::move(left->front());
    left->pop_front();
    if (lock.until <= w.time->now()) continue;
    const auto words = script_words(release_script, words_of(lock.name), words_of(lock.token));
    const auto done = co_await to->run(words);
    if (!done) left->push_back(std::move(lock));
  }
}

}  // namespace asidecar::redis
