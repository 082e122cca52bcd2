// Coarse deadlines of one thread: one timer with a tick of a second serves every connection, and it sleeps while there are
// none. A deadline fires up to a tick late. One thread only.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>

#include "daemon/runtime/clock.hpp"

namespace asidecar::runtime {

class deadlines {
 public:
  // Something that can be too late. Linked for as long as it lives; `due` at max() means no deadline.
  class entry : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    virtual void on_deadline() = 0;
    steady_time due = steady_time::max();

   protected:
    ~entry() = default;
  };

  explicit deadlines(asio::io_context& context) : timer_(context) {}

  void add(entry& e) {
    entries_.push_back(e);
    if (!ticking_) tick();
  }
  void stop() { timer_.cancel(); }

 private:
  void tick() {
    ticking_ = true;
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([this](error_code ec) {
      ticking_ = false;
      if (ec) return;
      const auto now = std::chrono::steady_clock::now();
      for (auto it = entries_.begin(); it != entries_.end();) {
        auto& e = *it++;  // on_deadline may unlink its entry
        if (e.due > now) continue;
        e.due = steady_time::max();
        e.on_deadline();
      }
      if (!entries_.empty()) tick();
    });
  }

  asio::steady_timer timer_;
  boost::intrusive::list<entry, boost::intrusive::constant_time_size<false>> entries_;
  bool ticking_ = false;
};

}  // namespace asidecar::runtime
