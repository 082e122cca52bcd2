// One client connection: reads requests off a socket, has them handled, writes the answers in order. Its own state machine on
// the thread's poller; a coroutine runs only for what cannot be answered at once. A read buffer is held only while there are
// bytes in it. One thread only; owned by its server.
#pragma once

#include <memory>
#include <string>

#include "daemon/http/answer.hpp"
#include "daemon/runtime/worker.hpp"
#include "proto/chunked.hpp"
#include "proto/http_head.hpp"

namespace asidecar::http {

using runtime::task;

// A request that is worked on without a coroutine. Ends it when destroyed.
class under_way {
 public:
  virtual ~under_way() = default;
};

struct request {
  proto::request_head head;  // views stay valid while the request is handled
  std::string_view bytes;    // the buffer from the head on; not once the body is being read
  std::string body;
  bool over_tcp = true;
  bool tried = false;        // by answer_known()
  std::unique_ptr<under_way> attempt;  // at answering without a coroutine, which remained undecided; the handler's own
};

// Where the outcome of something under_way goes; each call ends it.
class continuation {
 public:
  // The size is the request's head's, the rest the answer's. False: it cannot be used, and it was undecided instead.
  virtual bool answered(std::size_t head_size, std::string_view head, std::string_view body) = 0;
  virtual void undecided() = 0;  // look at the request properly

 protected:
  ~continuation() = default;
};

// What a server does with requests. Used on one thread.
class request_handler {
 public:
  virtual ~request_handler() = default;

  // Bytes that the calls below will be asked about soon, after a few others.
  virtual void prefetch([[maybe_unused]] std::string_view bytes) {}
  // What came of trying without a coroutine. Neither answered nor begun: go on with what comes next in this class.
  struct outcome {
    std::size_t answered = 0;          // the size of the request's head; the complete answer has been appended
    std::unique_ptr<under_way> begun;  // `then` hears of it later; until then the bytes stay where they are
    bool tried = false;                // everything that needs no coroutine
  };
  // When `bytes` begin with a request that differs from earlier ones in its key alone.
  virtual outcome answer_known([[maybe_unused]] std::string_view bytes, [[maybe_unused]] bool over_tcp, [[maybe_unused]] std::string& out,
                               [[maybe_unused]] continuation& then) {
    return {};
  }
  // Only for requests without body. Begins nothing without `keep_alive`.
  virtual outcome answer_now([[maybe_unused]] const request& r, [[maybe_unused]] bool keep_alive, [[maybe_unused]] std::string& out,
                             [[maybe_unused]] continuation& then) {
    return {};
  }
  // Before a body is read: an answer that refuses the request, or how large the body may be.
  virtual std::optional<answer> refuse(const request& r, std::uint64_t& body_bytes_max) = 0;
  virtual task<answer> handle(const request& r) = 0;
};

class server;

class session final : public runtime::poller::watched, public runtime::deadlines::entry, private continuation {
 public:
  session(server& owner, int fd, bool over_tcp);
  ~session() override;

  bool start();  // false: the system cannot watch one more socket

  void on_ready(std::uint32_t events) override;
  void on_ready_soon(std::uint32_t events) override;
  void on_deadline() override;
  void drain();   // no further request after the one under way
  void close();
  void refuse_connection(answer a);  // answers without reading anything

 private:
  static constexpr std::chrono::seconds read_deadline{10};
  static constexpr std::chrono::seconds idle_deadline{75};
  static constexpr std::chrono::seconds write_deadline{10};
  static constexpr std::chrono::seconds linger_deadline{2};

  enum class state : std::uint8_t {
    reading_head,
    reading_body,
    handling,   // a coroutine has the request, or something under way
    lingering,  // answered and shut down for writing; what still comes is dropped
    dead,       // the socket is closed; waits for its coroutine, if there is one
  };

  void read_some();
  void process();
  bool take_head();
  void refuse_head(const proto::head_result& result);
  bool begin_body(std::string_view bytes);
  bool settled(request_handler::outcome& got);
  void take_body();
  bool append_to_body(std::string_view piece);
  bool answered(std::size_t head_size, std::string_view head, std::string_view body) override;
  void undecided() override;
  void start_handling();
  task<void> run();
  void send_answer(const answer& a, bool keep_alive);
  void fail(const proto::problem_type& type, std::string_view detail);
  void send(std::string_view head, std::string_view body);
  void flush_pending();
  void after_answer(bool keep_alive);
  void linger();
  void watch(std::uint32_t events);
  void compact();
  void wait_for_reader();
  std::size_t unread() const noexcept;
  void set_due(std::chrono::seconds from_now);
  void set_due_of_state();
  bool want_keep_alive() const;

  server& server_;
  int fd_;
  state state_ = state::reading_head;
  bool eof_ = false;
  bool draining_ = false;
  bool close_after_write_ = false;
  bool in_process_ = false;
  bool read_ahead_ = false;  // the bytes of the next on_ready() are here
  bool undecided_ = false;  // the next request is to be handled by a coroutine: other ways were tried
  std::unique_ptr<under_way> under_way_;
  std::uint32_t watching_;
  std::unique_ptr<char[]> buffer_;  // from the server's pool
  std::size_t begin_ = 0;           // unread bytes are [begin_, end_)
  std::size_t end_ = 0;
  std::size_t scanned_ = 0;
  request request_;
  std::string head_copy_;           // the head of a request with a body, so that the buffer is free for the body
  std::uint64_t body_left_ = 0;
  std::uint64_t body_max_ = 0;
  std::unique_ptr<proto::chunked_decoder> chunks_;
  std::string pending_;             // written later: the peer does not read
  std::size_t unread_ = 0;          // by the peer, when the deadline for reading on was set
};

}  // namespace asidecar::http
