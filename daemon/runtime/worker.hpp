// One thread and what belongs to it: its io_context, clock, randomness, coroutines and coarse deadlines.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>

#include "daemon/runtime/clock.hpp"
#include "daemon/runtime/deadlines.hpp"
#include "daemon/runtime/poller.hpp"
#include "daemon/runtime/random.hpp"
#include "daemon/runtime/task_group.hpp"

namespace asidecar::runtime {

struct worker {
  explicit worker(std::size_t number) : index(number) {}
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  std::size_t index;
  asio::io_context context{1};  // concurrency hint: one thread runs it
  asio::executor_work_guard<io_executor> guard{context.get_executor()};
  std::unique_ptr<clock> time = make_system_clock(context);
  std::unique_ptr<random_source> random = make_system_random();
  task_group tasks{context.get_executor()};
  deadlines timeouts{context};
  poller sockets{context};

  io_executor executor() { return context.get_executor(); }
};

}  // namespace asidecar::runtime
