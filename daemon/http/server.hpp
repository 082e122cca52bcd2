// One thread's share of a listening API: its sessions, and the listening sockets it accepts from, which all threads share.
#pragma once

#include <boost/intrusive/list.hpp>
#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/addresses.hpp"
#include "daemon/http/answer.hpp"
#include "daemon/http/session.hpp"
#include "daemon/observe/metrics.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::http {

// A bound and listening socket. Throws std::runtime_error naming the address and what is wrong.
class listener {
 public:
  explicit listener(const std::string& address);
  ~listener();
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  int fd() const noexcept { return fd_; }
  bool over_tcp() const noexcept { return unix_path_.empty(); }

 private:
  int fd_ = -1;
  std::string unix_path_;
};

// Connections of all threads together.
struct connection_limit {
  std::uint32_t max;
  std::atomic<std::uint32_t> open{0};
};

class server {
 public:
  static constexpr std::size_t buffer_bytes = 16 * 1024;  // a head fits, and no more is read ahead

  server(runtime::worker& w, std::vector<std::shared_ptr<listener>> listeners, request_handler& handler, connection_limit& limit,
         observe::server_stats& stats);
  ~server();

  void start();
  void drain();                                          // stops accepting; idle connections close
  task<void> drained(runtime::steady_time deadline);     // all sessions are gone, or the time has come

  void abandon();                                        // closes all that are left

  // For sessions.
  runtime::worker& worker() noexcept { return worker_; }
  request_handler& handler() noexcept { return handler_; }
  observe::server_stats& stats() noexcept { return stats_; }
  bool draining() const noexcept { return draining_; }
  std::string_view date() { return date_.at(worker_.sockets.now().wall); }
  std::string& unsent() noexcept { return unsent_; }  // answers of the session that is in process(), not written yet
  std::unique_ptr<char[]> borrow_buffer();
  void give_back(std::unique_ptr<char[]> buffer);
  void remove(session& s);

 private:
  class acceptor;
  bool watch(acceptor& a);
  void accept_from(const listener& from);
  task<void> pause_accepting();

  runtime::worker& worker_;
  std::vector<std::shared_ptr<listener>> listeners_;
  request_handler& handler_;
  connection_limit& limit_;
  observe::server_stats& stats_;
  std::vector<std::unique_ptr<acceptor>> acceptors_;
  std::unordered_map<session*, std::unique_ptr<session>> sessions_;
  std::vector<std::unique_ptr<char[]>> buffers_;
  std::string unsent_;
  date_line date_;
  bool draining_ = false;
  bool paused_ = false;  // out of descriptors
};

}  // namespace asidecar::http
