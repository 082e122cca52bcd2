// The last invalidations that Redis has confirmed. A Redis that started again from what it had on disk, or a replica that became the
// master, may never have seen them: it would bring the old values back. So they are repeated there. Bounded: the newest are kept.
// What was cached since goes too: a load more, or a PUT, which a cache may always lose.
// Lives on one thread, for the life of the process.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "daemon/engine/events.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::engine {

class cache;

class recent_invalidations : public std::enable_shared_from_this<recent_invalidations> {
 public:
  using mode = l2_store::mode;
  enum class kind : std::uint8_t { key, pattern, tag };
  static constexpr std::size_t entries_max = 10'000;
  static constexpr std::size_t bytes_max = std::size_t(1) << 20;
  static constexpr std::chrono::hours age_max{2};  // while Redis is up, by default it writes to disk what has changed within one

  // `current`: the configuration at work; null at the end.
  recent_invalidations(runtime::worker& home, std::function<std::shared_ptr<cache>()> current, event_sink& events)
      : home_(home), current_(std::move(current)), events_(events), bell_(home.time->make_alarm()) {}

  void add(kind what, std::string name, mode how);

  // The connection to Redis is up. `run_id`: of the server, unlike any other's and unlike its own before a restart; empty: it does not
  // say. `was_lost`: the connection was up before.
  void store_is_up(std::string_view run_id, bool was_lost);
  bool owes() const noexcept { return !owed_.entries.empty(); }  // to a server that has not confirmed them yet
  void stop();                                                   // nothing is repeated any more

 private:
  struct entry {
    kind what;
    mode how;
    runtime::steady_time when;
    std::string name;
  };
  // In the order added, each once; the oldest go when there are too many.
  struct list {
    std::list<entry> entries;
    std::map<std::tuple<kind, mode, std::string_view>, std::list<entry>::iterator> index;
    std::size_t bytes = 0;

    void add(entry e);
    void erase(const entry& e);
    std::vector<entry> slice() const;  // copies, of what one call can say
  };
  task<void> repeat_owed(std::shared_ptr<recent_invalidations> self);
  static task<bool> repeat(std::shared_ptr<cache> by, std::vector<entry> some);

  runtime::worker& home_;
  std::function<std::shared_ptr<cache>()> current_;
  event_sink& events_;
  std::unique_ptr<runtime::alarm> bell_;
  list kept_;                 // the present server has confirmed them
  list owed_;                 // one before has, the present one not yet
  std::string run_id_;
  std::uint64_t servers_ = 0;  // how many there were
  bool repeating_ = false;
  bool stopped_ = false;
};

}  // namespace asidecar::engine
