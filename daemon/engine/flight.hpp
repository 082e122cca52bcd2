// A flight: one load of one key in this process, which every request for that key joins (singleflight, request coalescing).
// The table is shared by all threads; a flight runs on the thread that started it and wakes each waiter on the waiter's own.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/engine/fences.hpp"
#include "daemon/engine/loader.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::engine {

struct flight_result {
  value_ptr value;                  // also a negative entry; null when `error` is set
  std::optional<load_error> error;
  bool stored = false;              // kept in L2 or L1
  bool adopted = false;             // not loaded here: another instance had just stored it
  bool store_down = false;
  // An invalidation by another instance may have come since the value was read, unnoticed here: the lock was lost, or the load
  // went on without one, or the value is one that was found in the store. Who came after load_began cannot take it.
  bool doubtful = false;
  steady_time load_began{};
  bool gave_up = false;             // another instance held the fill lock
  bool waited_in_vain = false;      // for all of lock.wait; otherwise nobody had waited here, as for a refresh behind
};
using flight_result_ptr = std::shared_ptr<const flight_result>;

class flight {
 public:
  flight(std::string key, std::vector<std::string> tags, const fences::stamp& stamp)
      : key_(std::move(key)), tags_(std::move(tags)), stamp_(stamp) {}

  const std::string& key() const noexcept { return key_; }
  const std::vector<std::string>& tags() const noexcept { return tags_; }
  const fences::stamp& stamp() const noexcept { return stamp_; }

  // An invalidation came after it had begun: its value is for those who wait already, and is kept nowhere.
  void overtake() noexcept { overtaken_.store(true, std::memory_order_release); }
  bool overtaken() const noexcept { return overtaken_.load(std::memory_order_acquire); }

  // Waits for the end, or until `give_up` (max(): never): null then. Runs on `w`'s thread.
  task<flight_result_ptr> wait(runtime::worker& w, steady_time give_up);
  void finish(flight_result result);
  bool anyone_waits() const noexcept { return waiting_.load() > 0; }

 private:
  struct waiter;
  const std::string key_;
  const std::vector<std::string> tags_;
  const fences::stamp stamp_;
  std::atomic<bool> overtaken_{false};
  std::atomic<std::size_t> waiting_{0};
  std::mutex mutex_;
  flight_result_ptr result_;
  std::vector<std::shared_ptr<waiter>> waiters_;
};
using flight_ptr = std::shared_ptr<flight>;

class flight_table {
 public:
  struct joined {
    flight_ptr flight;
    bool starter;  // the caller must run it
  };
  // A flight that an invalidation has overtaken is left to those who wait for it, and a new one takes its place.
  joined join(std::string_view key, const std::vector<std::string>& tags, const fences& fence);
  void overtake(std::string_view key);
  template <class Predicate>
  void overtake_if(Predicate matches);  // of const flight&
  void leave(const flight_ptr& done);
  std::size_t size() const;
  bool under_way(std::string_view key);

 private:
  static constexpr std::size_t shard_count = 16;
  struct shard {
    mutable std::mutex mutex;
    std::unordered_map<std::string, flight_ptr> flights;
  };
  shard& shard_of(std::string_view key) noexcept { return shards_[std::hash<std::string_view>{}(key) % shard_count]; }
  std::array<shard, shard_count> shards_;
};

template <class Predicate>
void flight_table::overtake_if(Predicate matches) {
  for (auto& s : shards_) {
    const std::lock_guard hold(s.mutex);
    for (const auto& [key, f] : s.flights)
      if (matches(*f)) f->overtake();
  }
}

}  // namespace asidecar::engine
