// From what an origin answered to what the cache keeps. Pure: times and the random draw are arguments. Any thread.
#pragma once

#include "daemon/core/policy.hpp"
#include "daemon/engine/loader.hpp"
#include "daemon/engine/value.hpp"

namespace asidecar::engine {

struct composed {
  value_ptr value;  // a negative entry for "no such record"; null only when the origin's answer made no sense
  bool storable = false;
};

// What the tags of a value were when its load began; empty for one without tags.
struct tag_stamp {
  std::uint64_t names = 0;  // proto::hash_tags
  std::string versions;
};

// `took` is the load's time (XFetch's delta); `current` is what a not_modified answer confirms.
composed compose(const loaded& answer, const core::policy& rules, const value_ptr& current, core::wall_time now,
                 core::microseconds took, double u, const tag_stamp& tags = {});

// For how long from `now` a tier must keep the value: until even stale use is over, and a while longer when it can be
// revalidated with the origin instead of loaded anew.
core::milliseconds keep_for(const proto::record& what, core::wall_time now) noexcept;

}  // namespace asidecar::engine
