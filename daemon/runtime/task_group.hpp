// Owns coroutines: nothing runs that some group does not wait for. One thread only.
#pragma once

#include "daemon/runtime/clock.hpp"
#include "daemon/runtime/task.hpp"

namespace asidecar::runtime {

class task_group {
 public:
  explicit task_group(io_executor executor) : executor_(executor) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;

  // Starts `work` on the group's thread. Its arguments must be its own (coroutine parameters, not captures). An exception
  // that escapes it is a bug and ends the process through the io_context.
  void spawn(task<void> work);

  bool empty() const noexcept { return running_ == 0; }
  // Returns when the group is empty or `deadline` has come; true when empty.
  task<bool> join(clock& time, steady_time deadline);

 private:
  io_executor executor_;
  std::size_t running_ = 0;
  alarm* joiner_ = nullptr;
};

}  // namespace asidecar::runtime
