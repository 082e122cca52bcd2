#include "daemon/http/session.hpp"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "daemon/http/server.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;
using std::chrono::seconds;

constexpr seconds read_deadline{10};
constexpr seconds idle_deadline{75};
constexpr seconds write_deadline{10};
constexpr seconds linger_deadline{2};
constexpr std::size_t answers_per_write = 64 * 1024;
static_assert(server::buffer_bytes >= proto::head_bytes_max);  // or a large head would never be complete

ssize_t send_both(int fd, std::string_view head, std::string_view body) {
  iovec parts[2] = {{const_cast<char*>(head.data()), head.size()}, {const_cast<char*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  return ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

session::session(server& owner, int fd, bool over_tcp) : server_(owner), fd_(fd), watching_(EPOLLIN) {
  request_.over_tcp = over_tcp;
  server_.worker().timeouts.add(*this);
  set_due(read_deadline);
}

bool session::start() { return server_.worker().sockets.add(fd_, *this, watching_); }

session::~session() {
  if (fd_ >= 0) ::close(fd_);
}

void session::on_ready_soon(std::uint32_t events) {
  if (events != EPOLLIN || state_ != state::reading_head || buffer_ || !pending_.empty()) return;
  buffer_ = server_.borrow_buffer();
  const auto n = ::recv(fd_, buffer_.get(), server::buffer_bytes, MSG_DONTWAIT);
  if (n <= 0) return server_.give_back(std::move(buffer_));  // read_some() finds out
  end_ = static_cast<std::size_t>(n);
  read_ahead_ = true;
  server_.handler().prefetch({buffer_.get(), end_});
}

void session::on_ready(std::uint32_t events) {
  if (state_ == state::dead) return;
  if (std::exchange(read_ahead_, false)) return process();  // there was nothing but EPOLLIN
  // Nobody is left to read an answer. Epoll tells of it whether asked or not, so the socket must go, or it would be told forever.
  if ((events & (EPOLLHUP | EPOLLERR)) != 0 && (state_ == state::handling || !pending_.empty())) return close();
  if ((events & EPOLLOUT) != 0) {
    flush_pending();
    if (state_ == state::dead || !pending_.empty()) return;
    if (state_ == state::reading_head || state_ == state::reading_body) process();
    if (state_ == state::dead) return;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_some();
}

void session::read_some() {
  if (state_ == state::lingering) {
    char sink[4096];
    const auto n = ::recv(fd_, sink, sizeof sink, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) close();
    return;
  }
  if (!buffer_) buffer_ = server_.borrow_buffer();
  if (end_ == server::buffer_bytes) return watch(watching_ & ~std::uint32_t(EPOLLIN));  // until the request under way is done
  const auto n = ::recv(fd_, buffer_.get() + end_, server::buffer_bytes - end_, MSG_DONTWAIT);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return close();
  }
  if (n == 0) {
    eof_ = true;
    if (state_ == state::handling || !pending_.empty()) return watch(watching_ & ~std::uint32_t(EPOLLIN));  // half-closed: the answer still goes out
    return close();
  }
  end_ += static_cast<std::size_t>(n);
  if (state_ != state::handling && pending_.empty()) process();
}

// Answers whatever is complete in the buffer, in order, until something has to wait.
void session::process() {
  if (in_process_) return;
  in_process_ = true;
  auto& out = server_.unsent();
  out.clear();
  while (pending_.empty()) {
    if (state_ == state::reading_body) take_body();
    else if (state_ != state::reading_head || !take_head()) break;
    if (out.size() >= answers_per_write) {
      send(out, {});
      out.clear();
    }
    if (state_ == state::reading_body && begin_ == end_) break;
  }
  in_process_ = false;
  if (state_ == state::dead) return;
  if (!out.empty()) send(out, {});
  out.clear();
  if (state_ == state::dead || state_ == state::lingering) return;
  if (close_after_write_ && pending_.empty() && state_ == state::reading_head) return close();
  compact();
  if ((state_ == state::reading_head || state_ == state::reading_body) && pending_.empty() && eof_) return close();
  if (!eof_ && end_ < server::buffer_bytes && (watching_ & EPOLLIN) == 0) watch(watching_ | EPOLLIN);
}

// One request off the buffer. False: nothing more to do now.
bool session::take_head() {
  if (close_after_write_) return false;
  const std::string_view bytes(buffer_.get() + begin_, end_ - begin_);
  if (bytes.empty()) {
    if (draining_ || server_.draining()) close_after_write_ = true;
    else set_due(idle_deadline);
    return false;
  }
  auto& r = request_;
  r.tried = false;
  const bool first_bytes = scanned_ == 0;
  if (first_bytes && !undecided_ && !draining_ && !server_.draining()) {
    auto got = server_.handler().answer_known(bytes, r.over_tcp, server_.unsent(), *this);
    begin_ += got.answered;
    if (got.begun) wait_for(std::move(got.begun));
    if (got.answered > 0 || under_way_) return !under_way_;
    r.tried = got.tried;
  }
  const auto result = proto::parse_request_head(bytes, r.head, scanned_);
  if (result.state == proto::head_state::incomplete) {
    if (first_bytes) set_due(read_deadline);
    return false;
  }
  const bool tried = std::exchange(undecided_, false);
  if (result.state != proto::head_state::complete) {
    refuse_head(result);
    return false;
  }
  if (r.head.unknown_expectation) {
    fail(problems::expectation_failed, "the only Expect that is understood is 100-continue");
    return false;
  }
  r.bytes = bytes;
  const bool body = r.head.chunked || r.head.content_length.value_or(0) > 0;
  if (!body && !tried) {
    auto got = server_.handler().answer_now(r, want_keep_alive(), server_.unsent(), *this);
    begin_ += got.answered;
    if (got.begun) wait_for(std::move(got.begun));
    if (got.answered > 0 && !want_keep_alive()) close_after_write_ = true;
    if (got.answered > 0 || under_way_) return !under_way_ && !close_after_write_;
  }
  body_max_ = 0;
  if (auto refused = server_.handler().refuse(r, body_max_)) {
    r.attempt.reset();
    const bool keep = !body && want_keep_alive() && !refused->close;
    begin_ += r.head.size;
    send_answer(*refused, keep);
    if (!keep) linger();
    return keep;
  }
  if (body) return begin_body(bytes);
  start_handling();
  return state_ == state::reading_head;  // answered already, when its coroutine had nothing to wait for
}

void session::refuse_head(const proto::head_result& result) {
  switch (result.state) {
    case proto::head_state::target_too_long: return fail(problems::uri_too_long, "the request target is longer than 8 KiB");
    case proto::head_state::too_large: return fail(problems::headers_too_large, "the request's header block is larger than 16 KiB or has more than 100 fields");
    default:
      server_.stats().bad_requests.add();
      return fail(problems::bad_request, result.reason);
  }
}

void session::wait_for(std::unique_ptr<under_way> begun) {
  under_way_ = std::move(begun);
  state_ = state::handling;
  set_due_of_state();
}

// False: it is refused.
bool session::begin_body(std::string_view bytes) {
  auto& head = request_.head;
  if (head.content_length.value_or(0) > body_max_) {
    fail(problems::too_large, "the body is larger than allowed here");
    return false;
  }
  begin_ += head.size;
  head_copy_.assign(bytes.substr(0, head.size));
  std::size_t scanned = 0;
  proto::parse_request_head(head_copy_, head, scanned);
  body_left_ = head.content_length.value_or(0);
  if (head.chunked) chunks_ = std::make_unique<proto::chunked_decoder>();
  state_ = state::reading_body;
  set_due_of_state();
  if (head.expect_continue && head.http_1_1) server_.unsent().append("HTTP/1.1 100 Continue\r\n\r\n");
  return true;
}

bool session::append_to_body(std::string_view piece) {
  if (piece.size() > body_max_ - request_.body.size()) return false;
  request_.body.append(piece);
  return true;
}

void session::take_body() {
  std::string_view bytes(buffer_.get() + begin_, end_ - begin_);
  bool fits = true;
  bool done = false;
  if (chunks_) {
    const auto before = bytes.size();
    const auto result = chunks_->feed(bytes, [&](std::string_view piece) { fits = fits && append_to_body(piece); });
    begin_ += before - bytes.size();
    if (result == proto::chunked_decoder::state::bad) {
      server_.stats().bad_requests.add();
      return fail(problems::bad_request, "the chunked body is malformed");
    }
    done = result == proto::chunked_decoder::state::done;
  } else {
    const auto piece = bytes.substr(0, std::min<std::uint64_t>(body_left_, bytes.size()));
    fits = append_to_body(piece);
    begin_ += piece.size();
    body_left_ -= piece.size();
    done = body_left_ == 0;
  }
  if (!fits) return fail(problems::too_large, "the body is larger than allowed here");
  compact();
  if (!done) return;
  chunks_.reset();
  start_handling();
}

bool session::answered(std::size_t head_size, std::string_view head, std::string_view body) {
  if (draining_ || server_.draining()) {  // the answer has to say that it is the last
    undecided();
    return false;
  }
  const auto over = std::move(under_way_);  // this may be called by it
  state_ = state::reading_head;
  send(head, body);
  if (state_ == state::dead) return true;
  begin_ += head_size;
  after_answer(true);
  return true;
}

void session::undecided() {
  request_.attempt = std::move(under_way_);
  undecided_ = true;
  state_ = state::reading_head;
  process();
}

void session::start_handling() {
  state_ = state::handling;
  set_due_of_state();
  server_.worker().tasks.spawn(run());
}

task<void> session::run() {
  const auto a = co_await server_.handler().handle(request_);
  if (state_ == state::dead) {  // the client went away; the socket is closed already
    server_.remove(*this);
    co_return;
  }
  state_ = state::reading_head;
  const bool keep = want_keep_alive() && !a.close;
  send_answer(a, keep);
  if (state_ == state::dead) co_return;
  if (head_copy_.empty()) begin_ += request_.head.size;  // there was no body: the head still lies in the buffer
  head_copy_.clear();
  std::string().swap(request_.body);
  request_.attempt.reset();
  after_answer(keep);
}

void session::after_answer(bool keep_alive) {
  if (!keep_alive) close_after_write_ = true;
  if (!pending_.empty()) return;  // flush_pending goes on
  if (close_after_write_) return close();
  process();
}

void session::send_answer(const answer& a, bool keep_alive) {
  auto& out = server_.unsent();
  if (!in_process_) out.clear();  // there, earlier answers stand before this one
  append_head(out, a, server_.date(), request_.head.http_1_1, keep_alive);
  const bool body = has_body(a.status) && request_.head.method != proto::http_method::head;
  send(out, body ? a.body() : std::string_view());
  out.clear();
}

void session::fail(const proto::problem_type& type, std::string_view detail) {
  request_.head.method = proto::http_method::get;  // errors before the method is trusted always have a body
  send_answer(problem(type, detail), false);
  if (state_ != state::dead) linger();
}

void session::send(std::string_view head, std::string_view body) {
  if (state_ == state::dead) return;
  if (!pending_.empty()) {
    pending_.append(head).append(body);
    return;
  }
  const auto n = body.empty() ? ::send(fd_, head.data(), head.size(), MSG_NOSIGNAL | MSG_DONTWAIT) : send_both(fd_, head, body);
  if (n < 0 && errno != EAGAIN && errno != EINTR) return close();
  auto sent = static_cast<std::size_t>(std::max<ssize_t>(n, 0));
  if (sent == head.size() + body.size()) return;
  if (sent < head.size()) pending_.append(head.substr(sent));
  pending_.append(body.substr(sent > head.size() ? sent - head.size() : 0));
  wait_for_reader();
  watch(watching_ | EPOLLOUT);
}

// Bytes in the kernel's send buffer, and on their way.
std::size_t session::unread() const noexcept {
  int bytes = 0;
  return ::ioctl(fd_, SIOCOUTQ, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
}

void session::wait_for_reader() {
  unread_ = unread();
  set_due(write_deadline);
}

void session::flush_pending() {
  const auto n = ::send(fd_, pending_.data(), pending_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return close();
  }
  pending_.erase(0, static_cast<std::size_t>(n));
  if (n > 0) wait_for_reader();
  if (!pending_.empty()) return;
  std::string().swap(pending_);
  std::uint32_t events = watching_ & ~std::uint32_t(EPOLLOUT);
  if (!eof_) events |= EPOLLIN;
  watch(events);
  if (state_ == state::lingering) return linger();
  if (close_after_write_ && state_ != state::handling) return close();
  set_due_of_state();
}

// The client may still be sending what will not be read; closing now would reset the connection and lose the answer.
void session::linger() {
  state_ = state::lingering;
  if (!pending_.empty()) return wait_for_reader();
  ::shutdown(fd_, SHUT_WR);
  set_due(linger_deadline);
  begin_ = end_ = 0;
  if (buffer_) server_.give_back(std::move(buffer_));
  watch(EPOLLIN);
}

void session::close() {
  if (state_ == state::dead) return;
  const bool handled = state_ == state::handling && !under_way_;  // then its coroutine removes this
  under_way_.reset();
  state_ = state::dead;
  due = runtime::steady_time::max();
  server_.worker().sockets.remove(fd_);
  ::close(fd_);
  fd_ = -1;
  if (!handled) server_.remove(*this);
}

void session::on_deadline() {
  // The kernel lets more in only when a good part of its buffer is free: a slow peer may have read nevertheless.
  if (!pending_.empty() && unread() < unread_) return wait_for_reader();
  switch (state_) {
    case state::reading_head:
      if (pending_.empty() && end_ > begin_) return fail(problems::timeout, "the request's header did not arrive within 10 s");
      return close();
    case state::reading_body:
      if (pending_.empty()) return fail(problems::timeout, "the request's body did not arrive within 10 s");
      return close();
    case state::handling:
    case state::lingering: return close();
    case state::dead: return;
  }
}

void session::drain() {
  draining_ = true;
  if (state_ == state::lingering || (state_ == state::reading_head && begin_ == end_ && pending_.empty())) close();
}

void session::refuse_connection(answer a) {
  request_.head.method = proto::http_method::get;
  send_answer(a, false);
  if (state_ != state::dead) linger();
}

void session::watch(std::uint32_t events) {
  if (events == watching_ || fd_ < 0) return;
  watching_ = events;
  server_.worker().sockets.change(fd_, *this, events);
}

void session::compact() {
  if (!buffer_ || state_ == state::handling) return;  // the head of what is handled is a view of the buffer
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (state_ == state::reading_head) server_.give_back(std::move(buffer_));
  } else if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
}

void session::set_due(seconds from_now) { due = server_.worker().sockets.now().steady + from_now; }

// How long the client may take for what it has to send now.
void session::set_due_of_state() {
  switch (state_) {
    case state::reading_head: return set_due(begin_ == end_ ? idle_deadline : read_deadline);
    case state::reading_body: return set_due(read_deadline);
    case state::handling: due = runtime::steady_time::max(); return;
    case state::lingering: return set_due(linger_deadline);
    case state::dead: return;
  }
}

bool session::want_keep_alive() const { return request_.head.keep_alive && !draining_ && !server_.draining(); }

}  // namespace asidecar::http
