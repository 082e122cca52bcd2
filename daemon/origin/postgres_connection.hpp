// One connection to PostgreSQL: libpq in pipeline mode on an Asio descriptor. Queries leave at once and are
// answered in order; each ends with its own Sync, so that an error ends that query alone. Statements are
// prepared on first use. Reconnects in the background. One thread only. Owns itself through its coroutines:
// call stop().
#pragma once

#include <libpq-fe.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/runtime/worker.hpp"

namespace asidecar::origin {

// Where to connect, and how; shared by the connections of one thread.
struct postgres_target {
  std::string url;
  std::chrono::milliseconds statement_timeout{0};  // the server's own limit, a backstop for ours; 0: none
};

struct postgres_statement {
  std::string sql;  // parameters are $1, $2 …; the server infers their types
};

using postgres_params = std::vector<std::optional<std::string>>;  // as text; unset: NULL

struct postgres_answer {
  enum class outcome : std::uint8_t {
    rows,     // `rows`: the last column of each, unset where it is NULL
    refused,  // the server's error: `sqlstate`, `message`
    timeout,  // the deadline came first; the query's result is thrown away
    lost,     // the connection went away first
  };
  outcome what = outcome::lost;
  std::vector<std::optional<std::string>> rows;
  std::uint64_t touched = 0;  // rows, by a statement that writes
  bool sent = true;           // false: the server never saw the query
  bool ended = false;         // of a timeout: the server has surely ended with it since
  std::string sqlstate;
  std::string message;
};

class postgres_connection : public std::enable_shared_from_this<postgres_connection> {
 public:
  enum class state : std::uint8_t {
    connecting,
    up,
    down,  // pausing after a failed attempt
    stopped,
  };

  // `changed` is called when the state changes.
  postgres_connection(runtime::worker& w, std::shared_ptr<const postgres_target> target, std::function<void()> changed);
  ~postgres_connection();

  void start();
  void stop();
  void hurry();  // somebody needs it: ends a pause that has lasted a little
  state current() const noexcept { return state_; }
  const std::string& trouble() const noexcept { return trouble_; }  // why the last attempt failed
  std::size_t load() const noexcept { return sent_.size(); }
  // How many exchanges the server has ended with, in which session.
  struct progress {
    std::uint64_t session = 0;
    std::uint64_t ended = 0;
    bool beyond(const progress& before) const noexcept { return session == before.session && ended > before.ended; }
  };
  const progress& done() const noexcept { return done_; }
  std::string prepared_name(const postgres_statement& s);  // on this connection, at the moment

  // Only when up. `s` must outlive the connection.
  runtime::task<postgres_answer> query(const postgres_statement& s, const postgres_params& params,
                                       runtime::steady_time deadline);

 private:
  using descriptor = asio::posix::basic_stream_descriptor<runtime::io_executor>;
  using timer =
      asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>,
                                 runtime::io_executor>;
  using connection_ptr = std::unique_ptr<PGconn, void (*)(PGconn*)>;

  struct prepared {
    std::uint64_t generation = 0;  // part of the name, so that what failed or went stale is never met again
    bool valid = false;
  };

  // What was sent up to one Sync. Its answer is due next when it is at the front of `sent_`.
  struct exchange {
    runtime::one_shot<postgres_answer>* waiter = nullptr;  // null: nobody waits any more
    const postgres_statement* statement = nullptr;         // null: the session's settings
    std::uint64_t generation = 0;
    bool prepares = false;
    bool cancelled = false;
    runtime::steady_time due =
        runtime::steady_time::max();  // then: timed out; after a cancel: given up with the connection
    postgres_answer answer;
  };

  // Lists for libpq, equally long: the host's name, for TLS and passwords, with each of its addresses.
  struct addresses {
    std::string hosts;
    std::string numbers;
  };

  static std::string one_line(const char* text);  // libpq's messages end with, or contain, line breaks
  runtime::task<void> live(std::shared_ptr<postgres_connection> self);
  runtime::task<bool> open();
  runtime::task<addresses> look_up(runtime::steady_time deadline);
  runtime::task<bool> finish_handshake(runtime::steady_time deadline);
  runtime::task<void> read_answers();
  bool watch_socket();
  bool send_settings();
  bool send(const postgres_statement& s, const postgres_params& params, exchange& e);
  void flush();
  void take(const PGresult& result);
  void finish_front();
  bool deliver();
  void watch(runtime::steady_time due);
  void expire();
  void cancel_front();
  void fail_all(std::string_view why);
  void become(state s);

  runtime::worker& worker_;
  const std::shared_ptr<const postgres_target> target_;
  std::function<void()> changed_;

  progress done_;
  state state_ = state::connecting;
  std::string trouble_;
  connection_ptr pg_{nullptr, PQfinish};
  descriptor socket_;  // a duplicate, so that libpq and Asio each close their own
  timer due_timer_;
  runtime::steady_time due_ = runtime::steady_time::max();  // what the timer is set to
  runtime::steady_time connect_due_ = runtime::steady_time::max();
  std::unique_ptr<runtime::alarm> pause_;
  runtime::steady_time paused_;  // since when
  std::deque<exchange> sent_;
  std::unordered_map<const postgres_statement*, prepared> prepared_;
  bool writing_ = false;     // waits until the socket takes more
  std::shared_ptr<std::atomic<bool>> cancelling_ = std::make_shared<std::atomic<bool>>(false);  // a PQcancel is under way
};

}  // namespace asidecar::origin
