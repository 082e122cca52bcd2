// What is true, what was promised, and the checkers of the contract's section 5 ("What always holds").
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/sim/model_journal.hpp"
#include "tests/sim/world.hpp"

namespace asidecar::sim {

using std::chrono::seconds;

inline constexpr milliseconds lock_ttl{500};
inline constexpr milliseconds lock_wait{600};
inline constexpr milliseconds lock_wait_calm{10'000};  // longer than any load: then nobody loads without the lock

// Thrown by a checker.
struct failure {
  std::string what;
};
[[noreturn]] void broken(std::string what);

// A daemon as the origin knows it.
struct visitor {
  int daemon = 0;
  runtime::worker* home = nullptr;
  bool alive = true;
  std::map<std::string, std::vector<steady_time>> loading;  // loads under way, by when they began
  int applying = 0;                                         // journaled writes under way
  bool querying = false;                                    // for a warm-up
};

class truth {
 public:
  static constexpr int foreign = -1;  // no daemon of ours

  // `calm`: nothing is lost or late. `quiet`: nothing is written or invalidated, so there is never a reason for two loads at once.
  truth(world& w, bool calm, bool quiet) : world_(w), calm_(calm), quiet_(quiet) {}

  bool calm() const noexcept { return calm_; }
  bool quiet() const noexcept { return quiet_; }
  std::map<std::string, int> version;  // of each record at the origin
  std::uint64_t load_errors = 0;
  steady_time last_load_error{};
  std::vector<visitor*> visitors;
  // Redis came back with older data; until then not every daemon has repeated its invalidations, and what they are about may be read.
  steady_time forgetful_until{};
  journal_data journal;

  // From now on nothing before `version` is served: promised by `daemon`.
  void promise(const std::string& key, int promised, int daemon) { promises_[key].push_back({promised, world_.now(), daemon}); }

  // While something is done to a key that may be a reason to load it again. Returns what closes it.
  using disturbance = std::pair<std::string, std::size_t>;
  disturbance disturb(const std::string& key, int daemon);
  void settle(const disturbance& d, milliseconds later = milliseconds(0)) { disturbances_[d.first][d.second].to = world_.now() + later; }
  void killed(int daemon);

  // 5.3, 5.6: nothing from before an invalidation or a write is served after it: at once on that instance, and everywhere from
  // Redis or the origin; from another's L1, once the news can have arrived. `away`: this daemon cannot reach Redis.
  void check_answer(int daemon, const std::string& key, int served, steady_time began, std::string_view detail, bool away) const;

  // 5.2: a second load of a key, on one instance and in the fleet, only when an invalidation came in between.
  void check_single_load(int daemon, const std::string& key) const;

  // 5.8. The body is unlike any other write's.
  static bool poisonous(const std::string& body) noexcept;  // the origin will never take it
  void check_applies_alone(const visitor& who) const;
  void applied(const std::string& key, const std::string& body, int as_version);
  void acknowledged(const std::string& body) { acknowledged_.push_back(body); }
  int version_of(const std::string& body) const;  // of a write that leaves the journal as applied
  void check_journal_at_the_end() const;

  void check_warms_alone(const visitor& who) const;

 private:
  struct promised_version {
    int version;
    steady_time when;
    int daemon;
  };
  struct interval {
    steady_time from;
    steady_time to;
    int daemon;
  };
  world& world_;
  const bool calm_;
  const bool quiet_;
  std::map<std::string, std::vector<promised_version>> promises_;
  std::map<std::string, std::vector<interval>> disturbances_;
  std::vector<std::string> acknowledged_;
  std::map<std::string, int> applied_;                   // by body; the last version it became
  std::map<std::string, std::uint64_t> newest_applied_;  // by key; id
};

}  // namespace asidecar::sim
