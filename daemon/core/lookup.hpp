// One request's way through the cache, as a state machine: it is told what was seen and says what to do next. It holds no
// value and does no I/O; the engine's driver (engine/cache.cpp) is one loop around one switch over `action`.
// Pure: time and random draw are arguments. One object per request.
#pragma once

#include <cstdint>
#include <optional>

#include "daemon/core/freshness.hpp"
#include "daemon/core/policy.hpp"
#include "proto/cache_status.hpp"

namespace asidecar::core {

enum class tier : std::uint8_t { none, l1, l2 };

// What an entry in L1 may be used for.
enum class standing : std::uint8_t {
  current,    // every change in the store would have been heard of
  unheard,    // put there while the store could not be heard: as good as any when the store is away, else look there
  outdated,   // from before that: must be checked against the store or the origin, and stands in only when both fail
};

class lookup {
 public:
  enum class action : std::uint8_t {
    read_l1,
    read_l2,
    serve,              // answer with the entry just seen
    serve_newest,       // answer with the newest entry met: it stands in for a store or an origin that is away
    serve_and_refresh,  // the same, and start a background refresh unless one is under way
    load,               // join or start the flight of this key
    miss,               // nothing usable, and no origin to ask
    not_cached,         // only-if-cached and nothing usable: 504
  };

  struct tiers {
    bool l1 = false;
    bool l2 = false;            // a store is configured
    bool has_origin = false;    // false for routes the app fills by itself
    bool failed_lately = false;  // a load of this key failed a moment ago: a stale value may answer instead of another
  };

  // Keeps references to the first two.
  lookup(const proto::request_directives&&, const policy&, tiers) = delete;
  lookup(const proto::request_directives&, const policy&&, tiers) = delete;
  lookup(const proto::request_directives& directives, const policy& rules, tiers available) noexcept
      : directives_(directives), policy_(rules), tiers_(available) {}

  action start() noexcept;
  action on_l1(const lifetime& value, standing s, wall_time now, double u) noexcept;
  action on_l2(const lifetime& value, wall_time now, double u) noexcept;
  action on_absent(tier where, wall_time now) noexcept;
  action on_store_down(wall_time now) noexcept;

  // May the newest entry met stand in for a load that has failed (stale-if-error), or for one that goes on behind (soft timeout)?
  // An entry of L1 that could not be checked: only for the former.
  bool stale_may_serve(wall_time now) const noexcept;
  bool stale_may_serve_meanwhile(wall_time now) const noexcept;

  proto::forward_reason reason() const noexcept { return reason_; }  // why the request goes to the origin
  bool store_down() const noexcept { return store_down_; }

 private:
  action judge_entry(const lifetime& value, wall_time now, double u, action otherwise) noexcept;
  void forget_candidate() noexcept;
  void keep_candidate(const lifetime& value, wall_time now) noexcept;
  action to_l2_or_load(wall_time now) noexcept;
  action to_load(wall_time now) noexcept;

  const proto::request_directives& directives_;
  const policy& policy_;
  tiers tiers_;
  proto::forward_reason reason_ = proto::forward_reason::uri_miss;
  bool store_down_ = false;
  std::optional<lifetime> candidate_;  // the newest entry met that would not do
  bool unchecked_ = false;             // the candidate is L1's, from where changes could not be heard
  std::optional<lifetime> unheard_;    // fresh in L1, if only the store is away
};

}  // namespace asidecar::core
