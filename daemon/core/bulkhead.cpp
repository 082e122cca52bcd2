#include "daemon/core/bulkhead.hpp"

#include <algorithm>

namespace asidecar::core {

bulkhead::entry bulkhead::enter(ticket id) {
  if (in_flight_ < in_flight_max_) {
    ++in_flight_;
    return entry::run;
  }
  if (queue_.size() >= queue_max_) return entry::refused;
  queue_.push_back(id);
  return entry::wait;
}

std::optional<bulkhead::ticket> bulkhead::leave() {
  if (queue_.empty()) {
    --in_flight_;
    return std::nullopt;
  }
  const ticket next = queue_.front();
  queue_.pop_front();
  return next;  // takes over the place that became free
}

bool bulkhead::abandon(ticket id) {
  const auto found = std::find(queue_.begin(), queue_.end(), id);
  if (found == queue_.end()) return false;
  queue_.erase(found);
  return true;
}

}  // namespace asidecar::core
