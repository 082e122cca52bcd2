// One pipelined connection to Redis. All commands queued in one turn of the loop leave in one write; replies come back in
// order. A reply that is later than the timeout means that everything behind it is too: the connection is given up, and until
// it is back every call answers "away" at once. One thread only. Owns itself through its coroutines: call stop().
#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/addresses.hpp"
#include "daemon/engine/events.hpp"
#include "daemon/engine/stats.hpp"
#include "daemon/runtime/tls.hpp"
#include "daemon/runtime/worker.hpp"
#include "proto/resp.hpp"

namespace asidecar::redis {

using runtime::task;
using reply = std::optional<proto::resp_value>;  // nullopt: Redis is away

template <class... Words>
std::vector<std::string> words_of(Words&&... words) {
  std::vector<std::string> out;
  (out.emplace_back(std::forward<Words>(words)), ...);
  return out;
}

class connection;

// Where a server is that may move. Any thread.
class server_finder {
 public:
  virtual ~server_finder() = default;
  virtual std::optional<config::host_port> where() const = 0;  // nullopt: not known
  virtual std::string trouble() const = 0;                     // why it is not
  virtual void tell_of_moves(std::weak_ptr<connection> who) = 0;
};

// Who uses a connection for publish/subscribe. Called on the connection's thread.
class subscriber {
 public:
  // Subscribes by run_unready(). False: this attempt has failed.
  virtual task<bool> prepare(connection& c) = 0;
  virtual void on_up() = 0;
  virtual void on_push(proto::resp_value message) = 0;  // all that is not the reply to a call
  virtual void on_lost() = 0;

 protected:
  ~subscriber() = default;
};

class connection : public std::enable_shared_from_this<connection> {
 public:
  struct terms {
    config::redis_url url;
    std::chrono::milliseconds timeout;
    std::size_t reply_max;
    std::string name = "redis";  // in the log
    runtime::tls_files tls{};    // for a URL with TLS
    std::shared_ptr<server_finder> finder{};  // of a master, for a URL with Sentinels
  };
  connection(runtime::worker& w, terms t, engine::store_stats& stats, engine::event_sink& events);

  // Called each time, with the server's run_id: it differs from server to server, and after a restart. Empty: not known. Before start().
  using up_handler = std::function<void(std::string_view run_id)>;
  void when_up(up_handler then) { when_up_.push_back(std::move(then)); }

  // Turns it into a publish/subscribe connection; before start(). `s` must outlive the last call of stop().
  void serve(subscriber& s) { subscriber_ = &s; }

  void start();  // connects, and reconnects, in the background
  void stop();
  bool up() const noexcept { return state_ == state::up; }

  // A command on its way. Queue several, then await them: they share one write. One that ends unawaited is forgotten: its
  // reply is thrown away.
  class call {
   public:
    call() = default;
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    virtual ~call() {
      if (in_ != nullptr) in_->forget(*this);
    }
    task<reply> wait() { return done_.wait(); }

   protected:
    virtual void arrived(reply r) { done_.set(std::move(r)); }  // may end the call
    virtual void arrived_in_place(std::string_view text);       // a bulk string's; the same otherwise

   private:
    friend class connection;
    runtime::one_shot<reply> done_;
    connection* in_ = nullptr;  // while its reply is due
  };
  void send(call& c, std::span<const std::string_view> words);
  bool takes_calls() const noexcept;  // otherwise they are answered at once, that Redis is away
  // Words one by one. No braced lists in coroutines: GCC 12 cannot keep an initializer_list in a coroutine frame.
  template <class... Words>
  void send_words(call& c, const Words&... words) {
    const std::array<std::string_view, sizeof...(Words)> list{std::string_view(words)...};
    send(c, list);
  }
  task<reply> run(std::vector<std::string> words);
  task<reply> run_unready(std::vector<std::string> words);  // also while connecting, for a subscriber's prepare()
  // For a subscriber: what comes of it comes through on_push().
  void tell(std::span<const std::string_view> words);
  // Ends this attempt or connection, whatever its state; the next one follows after a pause.
  void drop(std::string why);
  void server_moved();  // the finder's; any thread

  // Returns when up, when the first attempt has failed, or at `deadline`.
  task<void> wait_up(runtime::steady_time deadline);

 private:
  enum class state : std::uint8_t {
    down,        // between attempts: calls are refused
    connecting,  // calls are refused, but for the handshake's own
    up,
    stopped,
  };
  using socket = asio::basic_stream_socket<asio::generic::stream_protocol, runtime::io_executor>;
  using timer = asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, runtime::io_executor>;

  struct tls_stream;

  task<void> live(std::shared_ptr<connection> self);
  task<error_code> open();
  std::chrono::milliseconds attempt_max() const;
  task<std::optional<config::host_port>> find_server();
  task<error_code> start_tls();
  task<void> handshake(std::shared_ptr<connection> self);
  task<bool> is_master();
  task<std::optional<std::string>> server_run_id();
  task<void> read_replies();
  template <class Stream>
  task<void> read_replies_from(Stream& from);
  bool deliver(std::string_view& bytes);
  bool deliver_read();
  call* next_waiting();
  bool is_push(const proto::resp_value& value) const;
  void forget(const call& c) noexcept;
  static void finish(call* c, reply r);
  static void finish_in_place(call* c, std::string_view text);
  void queue(call& c, std::span<const std::string_view> words);
  void write_soon(std::span<const std::string_view> words);
  void flush();
  void write_rest();
  void watch();
  void fail_all();
  void lose(std::string_view why);

  runtime::worker& worker_;
  const terms terms_;
  engine::store_stats& stats_;
  engine::event_sink& events_;
  subscriber* subscriber_ = nullptr;
  std::vector<up_handler> when_up_;

  state state_ = state::down;
  socket socket_;
  std::optional<config::host_port> server_;  // of this attempt or the one before; unset: none yet, or a Unix socket
  std::unique_ptr<runtime::tls_client> tls_client_;  // from the first attempt with TLS on
  std::shared_ptr<tls_stream> tls_;  // over socket_, null: plain; shared with what is under way on it, which may end after the next one began
  timer due_timer_;
  std::unique_ptr<runtime::alarm> pause_;
  std::optional<proto::resp_reader> replies_;
  struct pending {
    call* who;  // null: forgotten
    runtime::steady_time due;
  };
  std::deque<pending> waiting_;  // in the order sent
  std::deque<pending> failed_;   // being told that they have
  std::string out_;
  std::string writing_;        // what an earlier, partial write left over
  bool flush_posted_ = false;
  bool watching_ = false;
  bool was_up_ = false;        // in this attempt
  bool counted_ = false;       // in stats_.up
  bool said_down_ = false;     // one log line per outage
  std::string trouble_;        // why this attempt or connection ends
};

}  // namespace asidecar::redis
