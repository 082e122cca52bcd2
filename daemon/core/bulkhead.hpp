// Bulkhead of one origin: at most `in_flight_max` calls run, at most `queue_max` wait in order, the rest is refused at once.
// Pure bookkeeping; the owner locks and wakes. A waiter is whatever the owner identifies by a ticket.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace asidecar::core {

class bulkhead {
 public:
  using ticket = std::uint64_t;
  enum class entry : std::uint8_t { run, wait, refused };

  bulkhead(std::uint32_t in_flight_max, std::uint32_t queue_max) noexcept : in_flight_max_(in_flight_max), queue_max_(queue_max) {}

  entry enter(ticket id);
  std::optional<ticket> leave();  // one call ended; the waiter that may run now, if any
  bool abandon(ticket id);        // a waiter stopped waiting; false when it was already let in

  std::uint32_t in_flight() const noexcept { return in_flight_; }
  std::size_t queued() const noexcept { return queue_.size(); }

 private:
  std::uint32_t in_flight_max_;
  std::uint32_t queue_max_;
  std::uint32_t in_flight_ = 0;
  std::deque<ticket> queue_;
};

}  // namespace asidecar::core
