#include "daemon/http/server.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace asidecar::http {
namespace {

constexpr int backlog = 4096;
constexpr int accepts_per_turn = 8;       // the rest is left to the other threads
constexpr std::size_t spare_buffers_max = 64;

[[noreturn]] void refuse(const std::string& address, const char* what) {
  throw std::runtime_error("cannot listen on " + address + ": " + what + ": " + std::system_category().message(errno));
}

int bind_unix(const std::string& path, const std::string& address) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) refuse(address, "socket");
  // A socket file that nobody serves is a leftover and gives way; one that is served is an error.
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool served = ::connect(probe, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
  struct stat what {};
  const bool leftover = !served && errno == ECONNREFUSED && ::lstat(path.c_str(), &what) == 0 && S_ISSOCK(what.st_mode);
  ::close(probe);
  if (leftover) ::unlink(path.c_str());
  if (served) errno = EADDRINUSE;
  if (served || ::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
    ::close(fd);
    refuse(address, "bind");
  }
  return fd;
}

int bind_tcp(const config::listen_address& where, const std::string& address) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  const bool is_v4 = inet_pton(AF_INET, where.ip.c_str(), &v4.sin_addr) == 1;
  v4.sin_family = AF_INET;
  v4.sin_port = htons(where.port);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(where.port);
  if (!is_v4) inet_pton(AF_INET6, where.ip.c_str(), &v6.sin6_addr);
  const int fd = ::socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) refuse(address, "socket");
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (!is_v4) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  const auto* name = is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  if (::bind(fd, name, is_v4 ? sizeof v4 : sizeof v6) != 0) {
    ::close(fd);
    refuse(address, "bind");
  }
  return fd;
}

}  // namespace

listener::listener(const std::string& address) {
  const auto where = config::parse_listen_address(address);
  if (!where) throw std::runtime_error("cannot listen on " + address + ": not an address");
  unix_path_ = where->unix_path;
  fd_ = over_tcp() ? bind_tcp(*where, address) : bind_unix(unix_path_, address);
  if (::listen(fd_, backlog) != 0) refuse(address, "listen");
}

listener::~listener() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

class server::acceptor final : public runtime::poller::watched {
 public:
  acceptor(server& owner, std::shared_ptr<listener> from) : server_(owner), from_(std::move(from)) {}
  void on_ready(std::uint32_t) override { server_.accept_from(*from_); }
  int fd() const { return from_->fd(); }

 private:
  server& server_;
  std::shared_ptr<listener> from_;
};

server::server(runtime::worker& w, std::vector<std::shared_ptr<listener>> listeners, request_handler& handler, connection_limit& limit,
               observe::server_stats& stats)
    : worker_(w), listeners_(std::move(listeners)), handler_(handler), limit_(limit), stats_(stats) {}

server::~server() = default;

void server::start() {
  for (const auto& l : listeners_) {
    acceptors_.push_back(std::make_unique<acceptor>(*this, l));
    if (!watch(*acceptors_.back())) throw std::system_error(errno, std::generic_category(), "cannot watch a listening socket");
  }
}

bool server::watch(acceptor& a) { return worker_.sockets.add(a.fd(), a, EPOLLIN | EPOLLEXCLUSIVE); }

void server::accept_from(const listener& from) {
  for (int i = 0; i < accepts_per_turn && !draining_; ++i) {
    const int fd = ::accept4(from.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      const bool out_of_room = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
      if (out_of_room && !paused_) worker_.tasks.spawn(pause_accepting());
      return;
    }
    const int one = 1;
    if (from.over_tcp()) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    stats_.accepted.add();
    stats_.open.fetch_add(1, std::memory_order_relaxed);
    const bool over = limit_.open.fetch_add(1) >= limit_.max;
    auto fresh = std::make_unique<session>(*this, fd, from.over_tcp());
    auto* s = fresh.get();
    sessions_.emplace(s, std::move(fresh));
    if (!s->start()) {
      stats_.refused.add();
      s->close();
      if (!paused_) worker_.tasks.spawn(pause_accepting());
      return;
    }
    if (!over) continue;
    stats_.refused.add();
    auto refused = problem(proto::problems::overloaded, "too many connections");
    refused.add("Retry-After", "1");
    s->refuse_connection(std::move(refused));
  }
}

// Without this a listener that cannot be accepted from would be reported ready forever.
task<void> server::pause_accepting() {
  paused_ = true;
  for (const auto& a : acceptors_) worker_.sockets.remove(a->fd());
  const auto bell = worker_.time->make_alarm();
  for (bool watched = false; !watched;) {
    co_await bell->wait_until(worker_.time->now() + std::chrono::milliseconds(100));
    watched = true;
    for (const auto& a : acceptors_)
      if (!watch(*a) && errno != EEXIST) watched = false;
  }
  paused_ = false;
}

void server::drain() {
  draining_ = true;
  for (const auto& a : acceptors_) worker_.sockets.remove(a->fd());
  acceptors_.clear();
  listeners_.clear();  // the last thread to let go closes them
  std::vector<session*> all;
  for (const auto& [s, owned] : sessions_) all.push_back(s);
  for (auto* s : all) s->drain();
}

task<void> server::drained(runtime::steady_time deadline) {
  const auto bell = worker_.time->make_alarm();
  while (!sessions_.empty() && worker_.time->now() < deadline)
    co_await bell->wait_until(worker_.time->now() + std::chrono::milliseconds(10));
}

void server::abandon() {
  std::vector<session*> all;
  for (const auto& [s, owned] : sessions_) all.push_back(s);
  for (auto* s : all) s->close();
}

std::unique_ptr<char[]> server::borrow_buffer() {
  if (buffers_.empty()) return std::make_unique<char[]>(buffer_bytes);
  auto b = std::move(buffers_.back());
  buffers_.pop_back();
  return b;
}

void server::give_back(std::unique_ptr<char[]> buffer) {
  if (buffers_.size() < spare_buffers_max) buffers_.push_back(std::move(buffer));
}

void server::remove(session& s) {
  const auto found = sessions_.find(&s);
  if (found == sessions_.end()) return;
  limit_.open.fetch_sub(1);
  stats_.open.fetch_sub(1, std::memory_order_relaxed);
  worker_.sockets.bury(std::move(found->second));
  sessions_.erase(found);
}

}  // namespace asidecar::http
