#include "daemon/runtime/clock.hpp"

#include <boost/asio/steady_timer.hpp>

namespace asidecar::runtime {
namespace {

using timer = asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, io_executor>;

class timer_alarm final : public alarm {
 public:
  explicit timer_alarm(asio::io_context& context) : timer_(context.get_executor()) {}

  task<bool> wait_until(steady_time when) override {
    if (!rung_) {
      timer_.expires_at(when);
      co_await timer_.async_wait(as_result);
    }
    co_return !std::exchange(rung_, false);
  }

  void ring() override {
    rung_ = true;
    timer_.cancel();
  }

 private:
  timer timer_;
  bool rung_ = false;
};

class system_clock final : public clock {
 public:
  explicit system_clock(asio::io_context& context) : context_(context) {}
  steady_time now() const override { return std::chrono::steady_clock::now(); }
  wall_time wall_now() const override {
    return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  }
  std::unique_ptr<alarm> make_alarm() override { return std::make_unique<timer_alarm>(context_); }

 private:
  asio::io_context& context_;
};

}  // namespace

std::unique_ptr<clock> make_system_clock(asio::io_context& context) { return std::make_unique<system_clock>(context); }

}  // namespace asidecar::runtime
