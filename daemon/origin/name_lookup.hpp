// Host names to addresses. getaddrinfo cannot be cut short, so it runs on and only the waiting for it ends at
// the deadline.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/runtime/worker.hpp"

namespace asidecar::origin {

class name_lookup {
 public:
  // Empty when the name has no address, or none yet at `deadline`.
  static runtime::task<std::vector<asio::ip::tcp::endpoint>> run(runtime::worker& w, std::string host,
                                                                 std::uint16_t port,
                                                                 runtime::steady_time deadline) {
    error_code ec;
    if (const auto address = asio::ip::make_address(host, ec); !ec)
      co_return std::vector<asio::ip::tcp::endpoint>(1, asio::ip::tcp::endpoint(address, port));
    const auto mine = std::make_shared<name_lookup>();
    mine->bell_ = w.time->make_alarm();
    w.tasks.spawn(ask(mine, w.executor(), std::move(host), port));
    while (!mine->done_) {
      const bool over = co_await mine->bell_->wait_until(deadline);
      if (over) break;
    }
    co_return mine->found_;
  }

 private:
  static runtime::task<void> ask(std::shared_ptr<name_lookup> mine, runtime::io_executor executor,
                                 std::string host, std::uint16_t port) {
    asio::ip::basic_resolver<asio::ip::tcp, runtime::io_executor> names(executor);
    auto [ec, results] = co_await names.async_resolve(host, std::to_string(port), runtime::as_result);
    if (!ec)
      for (const auto& entry : results) mine->found_.push_back(entry.endpoint());
    mine->done_ = true;
    mine->bell_->ring();
  }

  std::unique_ptr<runtime::alarm> bell_;
  std::vector<asio::ip::tcp::endpoint> found_;
  bool done_ = false;
};

}  // namespace asidecar::origin
