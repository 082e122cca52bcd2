#include "daemon/engine/flight.hpp"

#include <boost/asio/post.hpp>

namespace asidecar::engine {

struct flight::waiter {
  runtime::worker* home;
  runtime::alarm* bell = nullptr;  // null once nobody waits any more; touched on home's thread only
  flight_result_ptr result;
};

task<flight_result_ptr> flight::wait(runtime::worker& w, steady_time give_up) {
  waiting_.fetch_add(1);
  const auto bell = w.time->make_alarm();
  const auto me = std::make_shared<waiter>();
  me->home = &w;
  me->bell = bell.get();
  {
    const std::lock_guard hold(mutex_);
    if (result_) me->result = result_;
    else waiters_.push_back(me);
  }
  // No co_await inside a condition: GCC 12 evaluates it whatever stands before the &&.
  while (!me->result) {
    const bool over = co_await bell->wait_until(give_up);
    if (over) break;
  }
  me->bell = nullptr;
  waiting_.fetch_sub(1);
  co_return me->result;
}

void flight::finish(flight_result result) {
  std::vector<std::shared_ptr<waiter>> woken;
  const auto shared = std::make_shared<const flight_result>(std::move(result));
  {
    const std::lock_guard hold(mutex_);
    result_ = shared;
    woken.swap(waiters_);
  }
  for (auto& w : woken) {
    asio::post(w->home->executor(), [w, shared] {
      w->result = shared;
      if (w->bell != nullptr) w->bell->ring();
    });
  }
}

flight_table::joined flight_table::join(std::string_view key, const std::vector<std::string>& tags, const fences& fence) {
  auto& s = shard_of(key);
  const auto stamp = fence.take(key, tags);
  const std::lock_guard hold(s.mutex);
  auto& slot = s.flights[std::string(key)];
  const bool starter = !slot || slot->overtaken();
  if (starter) slot = std::make_shared<flight>(std::string(key), tags, stamp);
  return {slot, starter};
}

void flight_table::overtake(std::string_view key) {
  auto& s = shard_of(key);
  const std::lock_guard hold(s.mutex);
  if (const auto found = s.flights.find(std::string(key)); found != s.flights.end()) found->second->overtake();
}

void flight_table::leave(const flight_ptr& done) {
  auto& s = shard_of(done->key());
  const std::lock_guard hold(s.mutex);
  const auto found = s.flights.find(done->key());
  if (found != s.flights.end() && found->second == done) s.flights.erase(found);
}

bool flight_table::under_way(std::string_view key) {
  auto& s = shard_of(key);
  const std::lock_guard hold(s.mutex);
  return s.flights.count(std::string(key)) > 0;
}

std::size_t flight_table::size() const {
  std::size_t total = 0;
  for (const auto& s : shards_) {
    const std::lock_guard hold(s.mutex);
    total += s.flights.size();
  }
  return total;
}

}  // namespace asidecar::engine
