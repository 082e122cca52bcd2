// From a URL to a server that has been greeted.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>

#include "daemon/redis/tls_stream.hpp"

namespace asidecar::redis {
namespace {

using std::chrono::milliseconds;

struct attempt {
  explicit attempt(runtime::io_executor e) : names(e) {}
  asio::ip::basic_resolver<asio::ip::tcp, runtime::io_executor> names;
  bool over = false;  // it has ended
  bool late = false;  // it must end

  struct end_of {
    std::shared_ptr<attempt> what;
    ~end_of() { what->over = true; }
  };
};

// A server that is gone without a word is noticed also by a connection that says nothing: after some 4 s, by the kernel.
void notice_silent_loss(int socket) noexcept {
  const auto set = [&](int level, int name, int value) { ::setsockopt(socket, level, name, &value, sizeof value); };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 2);
}

}  // namespace

milliseconds connection::attempt_max() const { return std::max(terms_.timeout, milliseconds(1000)); }

task<error_code> connection::open() {
  error_code ignored;
  socket_.close(ignored);
  if (!terms_.url.unix_path.empty()) {
    auto [ec] = co_await socket_.async_connect(asio::local::stream_protocol::endpoint(terms_.url.unix_path), runtime::as_result);
    if (!ec) socket_.non_blocking(true, ec);
    co_return ec;
  }
  server_ = terms_.url.server;
  if (terms_.finder) {
    server_.reset();
    server_ = co_await find_server();
  }
  if (!server_) {
    trouble_ = terms_.finder->trouble();
    co_return asio::error::host_not_found;
  }
  // The timer's handler may already be on its way when this ends: it shares what it touches, and looks whether it is too late.
  const auto running = std::make_shared<attempt>(worker_.executor());
  const attempt::end_of at_end{running};
  timer limit(worker_.executor(), attempt_max());
  limit.async_wait([running, self = shared_from_this()](error_code ec) {
    if (ec || running->over) return;
    running->late = true;
    running->names.cancel();
    error_code e;
    self->socket_.close(e);
  });
  std::vector<asio::ip::tcp::endpoint> places;
  error_code is_a_name;
  const auto address = asio::ip::make_address(server_->host, is_a_name);
  if (is_a_name) {
    auto [resolved, results] = co_await running->names.async_resolve(server_->host, std::to_string(server_->port), runtime::as_result);
    if (resolved) co_return resolved;
    for (const auto& entry : results) places.push_back(entry.endpoint());
  } else {  // not behind the names that the one thread which resolves may be at
    places.emplace_back(address, server_->port);
  }
  error_code ec = asio::error::host_not_found;
  for (const auto& place : places) {
    if (state_ == state::stopped) co_return asio::error::operation_aborted;
    if (running->late) co_return asio::error::timed_out;
    socket_.close(ignored);
    auto [connected] = co_await socket_.async_connect(place, runtime::as_result);
    ec = connected;
    if (!ec) break;
  }
  if (!ec) socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  if (!ec) notice_silent_loss(socket_.native_handle());
  if (!ec) socket_.non_blocking(true, ec);
  if (!ec && terms_.url.tls) ec = co_await start_tls();
  co_return ec;
}

// Waits for news of it.
task<std::optional<config::host_port>> connection::find_server() {
  const auto deadline = worker_.time->now() + attempt_max();
  for (;;) {
    auto found = terms_.finder->where();
    if (found || worker_.time->now() >= deadline || state_ == state::stopped) co_return found;
    co_await pause_->wait_until(deadline);
  }
}

void connection::server_moved() {
  asio::post(worker_.executor(), [self = shared_from_this()] {
    const auto now = self->terms_.finder->where();
    if (!now || self->state_ == state::stopped) return;
    if (!self->server_) self->pause_->ring();
    else if (*now != *self->server_) self->drop("the master is another server now");
  });
}

task<error_code> connection::start_tls() {
  if (!tls_client_ || tls_client_->outdated()) tls_client_ = std::make_unique<runtime::tls_client>(terms_.tls);  // certificates are renewed
  if (!tls_client_->trouble.empty()) {
    trouble_ = tls_client_->trouble;
    co_return asio::error::operation_aborted;
  }
  const auto stream = std::make_shared<tls_stream>(socket_, tls_client_->context);  // which it keeps alive
  tls_ = stream;
  runtime::expect_host(*stream, server_->host);
  auto [ec] = co_await stream->async_handshake(asio::ssl::stream_base::client, runtime::as_result);
  if (ec) trouble_ = "TLS: " + ec.message();
  co_return ec;
}

task<void> connection::handshake([[maybe_unused]] std::shared_ptr<connection> self) {
  std::vector<std::vector<std::string>> greetings;
  if (!terms_.url.password.empty()) {
    greetings.push_back(words_of("AUTH"));
    if (!terms_.url.user.empty()) greetings.back().push_back(terms_.url.user);
    greetings.back().push_back(terms_.url.password);
  }
  if (terms_.url.db != 0) greetings.push_back(words_of("SELECT", std::to_string(terms_.url.db)));
  greetings.push_back(words_of("PING"));
  bool fine = true;
  for (auto& words : greetings) {
    const auto answer = co_await run_unready(std::move(words));
    fine = answer && !answer->is_error();
    if (!fine) break;
  }
  if (fine && terms_.finder) fine = co_await is_master();
  std::optional<std::string> run_id;
  if (fine && !when_up_.empty()) {
    run_id = co_await server_run_id();
    fine = run_id.has_value();
  }
  if (fine && subscriber_ != nullptr) fine = co_await subscriber_->prepare(*this);
  if (state_ != state::connecting) co_return;
  if (!fine) {
    drop(trouble_);  // read_replies ends, and with it this attempt
    co_return;
  }
  state_ = state::up;
  was_up_ = true;
  counted_ = true;
  stats_.up.fetch_add(1);
  events_.event(said_down_ ? engine::severity::warn : engine::severity::debug, terms_.name + " is back");
  said_down_ = false;
  if (subscriber_ != nullptr) subscriber_->on_up();
  for (const auto& then : when_up_) then(*run_id);
}

// Sentinels may name a server that is not promoted yet, or one that has just been demoted.
task<bool> connection::is_master() {
  auto words = words_of("ROLE");
  const auto role = co_await run_unready(std::move(words));
  const bool yes = role && !role->elements.empty() && role->elements.front().text == "master";
  if (role && !role->is_error() && !yes) trouble_ = "the server that Sentinels name is no master";
  const bool moved = terms_.finder->where() != server_;  // while there was no socket yet to close
  if (yes && moved) trouble_ = "the master is another server now";
  co_return yes && !moved;
}

// Empty: the server does not say (an ACL may forbid INFO). nullopt: this attempt has failed.
task<std::optional<std::string>> connection::server_run_id() {
  auto words = words_of("INFO", "server");
  const auto info = co_await run_unready(std::move(words));
  if (!info) co_return std::nullopt;
  if (info->is_error()) trouble_.clear();  // it goes on without
  constexpr std::string_view name = "run_id:";
  const auto at = info->is_error() ? std::string::npos : info->text.find(name);
  if (at == std::string::npos) co_return std::string();
  const auto from = at + name.size();
  co_return info->text.substr(from, info->text.find_first_of("\r\n", from) - from);
}

}  // namespace asidecar::redis
