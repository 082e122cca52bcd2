#include "daemon/runtime/task_group.hpp"

#include <boost/asio/co_spawn.hpp>

namespace asidecar::runtime {

void task_group::spawn(task<void> work) {
  ++running_;
  asio::co_spawn(executor_, std::move(work), [this](std::exception_ptr error) {
    --running_;
    if (running_ == 0 && joiner_ != nullptr) joiner_->ring();
    if (error) std::rethrow_exception(error);
  });
}

task<bool> task_group::join(clock& time, steady_time deadline) {
  const auto alarm = time.make_alarm();
  joiner_ = alarm.get();
  while (running_ > 0 && time.now() < deadline) co_await alarm->wait_until(deadline);
  joiner_ = nullptr;
  co_return running_ == 0;
}

}  // namespace asidecar::runtime
