// An HTTP/1.1 client for one server: a pool of kept connections, plain or TLS, each request within a deadline
// of its own. One thread only; shared ownership, since timers refer to it: call stop().
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "config/addresses.hpp"
#include "daemon/runtime/tls.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::origin {

using http_headers = std::vector<std::pair<std::string, std::string>>;

struct http_request {
  std::string method = "GET";
  std::string target;    // put behind the URL's base path
  http_headers headers;  // besides Host, Content-Length, and defaults for Accept, Accept-Encoding (identity)
                         // and User-Agent
  std::string body;
};

struct http_response {
  unsigned status = 0;
  http_headers headers;
  std::string body;

  // The first field of that name; null when there is none.
  const std::string* find(std::string_view name) const noexcept;
};

struct http_failure {
  bool timeout = false;
  bool too_large = false;
  bool sent = true;  // false: no connection, so the server never saw the request
  std::string detail;  // for the log only
};

using http_outcome = std::variant<http_response, http_failure>;

class http_connection;

class http_client : public std::enable_shared_from_this<http_client> {
 public:
  struct limits {
    std::size_t connections = 32;
    std::uint64_t response_max = std::uint64_t(16) << 20;
  };
  // `ca`: a file of trusted certificates in PEM; empty: the system's.
  http_client(runtime::worker& w, config::http_url url, const std::string& ca, limits most);
  ~http_client();

  // Redirects are answers like any other. An idempotent request that met a connection the server had just
  // closed is sent once more on a new one.
  runtime::task<http_outcome> send(http_request request, runtime::steady_time deadline);
  void stop();

 private:
  friend class http_connection;
  using connection_ptr = std::unique_ptr<http_connection>;
  using timer =
      asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>,
                                 runtime::io_executor>;

  // A request that waits for one of the connections.
  struct waiter {
    std::unique_ptr<runtime::alarm> bell;
    bool admitted = false;
    connection_ptr connection;
  };

  std::string head_of(const http_request& request) const;
  runtime::task<connection_ptr> acquire(runtime::steady_time deadline);
  void release(connection_ptr c, bool keep);
  connection_ptr take_idle();
  void watch(runtime::steady_time due);
  void expire();

  runtime::worker& worker_;
  const config::http_url url_;
  const limits most_;
  std::unique_ptr<runtime::tls_client> tls_;  // of an https URL
  timer due_timer_;
  runtime::steady_time due_ = runtime::steady_time::max();  // what the timer is set to
  std::vector<connection_ptr> idle_;  // the last one used last: the others may age and go
  std::vector<http_connection*> busy_;
  std::size_t open_ = 0;  // idle, busy and admitted
  std::deque<waiter*> waiting_;
  bool stopped_ = false;
};

}  // namespace asidecar::origin
