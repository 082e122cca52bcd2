// An epoll set of its own, registered in the thread's io_context as one descriptor. Sockets of clients live here: readiness
// costs one system call for all of them and no queued operation each, as with Asio's own sockets. Level-triggered. One thread only.
#pragma once

#include <sys/epoll.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/runtime/clock.hpp"
#include "daemon/runtime/task.hpp"

namespace asidecar::runtime {

class poller {
 public:
  // So many are told of on_ready_soon() together: enough for memory to answer meanwhile, few enough for the nearest cache.
  static constexpr std::size_t group_size = 8;

  class watched {
   public:
    virtual ~watched() = default;
    virtual void on_ready(std::uint32_t events) = 0;
    // on_ready() follows with the same events, after a few others': a chance to fetch what will be needed, into the CPU's caches too.
    virtual void on_ready_soon([[maybe_unused]] std::uint32_t events) {}
  };

  explicit poller(asio::io_context& context);
  ~poller();
  poller(const poller&) = delete;
  poller& operator=(const poller&) = delete;

  [[nodiscard]] bool add(int fd, watched& w, std::uint32_t events);  // false: errno tells why
  void change(int fd, watched& w, std::uint32_t events);
  void remove(int fd);

  // Destroys `w` once no event of this turn can refer to it any more.
  void bury(std::unique_ptr<watched> w);
  void stop();

  // The time, read once a turn: what is done for one socket takes microseconds.
  moment now() const { return frozen_ ? moment_ : read_clocks(); }
  // While it lives, now() stands still: for a batch of work that is not a turn of client sockets.
  class frozen_time {
   public:
    explicit frozen_time(poller& p) : poller_(p), outer_(std::exchange(p.frozen_, true)) {
      if (!outer_) p.moment_ = read_clocks();
    }
    frozen_time(const frozen_time&) = delete;
    frozen_time& operator=(const frozen_time&) = delete;
    ~frozen_time() { poller_.frozen_ = outer_; }

   private:
    poller& poller_;
    const bool outer_;
  };
  frozen_time freeze_time() { return frozen_time(*this); }

 private:
  void wait();
  void turn();

  asio::io_context& context_;
  int epoll_fd_;
  asio::posix::basic_stream_descriptor<io_executor> descriptor_;
  std::vector<epoll_event> events_;
  std::vector<std::unique_ptr<watched>> buried_;
  bool burial_posted_ = false;
  bool frozen_ = false;
  moment moment_{};
};

}  // namespace asidecar::runtime
