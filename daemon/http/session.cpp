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
