#include "daemon/origin/http_client.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "daemon/origin/name_lookup.hpp"
#include "proto/text.hpp"

namespace asidecar::origin {

namespace beast = boost::beast;
using runtime::as_result;
using runtime::steady_time;
using runtime::task;

namespace {

constexpr std::uint32_t header_bytes_max = 16 * 1024;
constexpr std::chrono::seconds idle_max{60};
constexpr int interim_max = 8;  // 1xx answers before the final one

using tcp_socket = asio::basic_stream_socket<asio::ip::tcp, runtime::io_executor>;
using tls_stream = asio::ssl::stream<tcp_socket&>;
using parser = beast::http::response_parser<beast::http::string_body>;

bool idempotent(const std::string& method) {
  return method == "GET" || method == "PUT" || method == "DELETE";
}

bool has_header(const http_headers& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(),
                     [&](const auto& h) { return proto::iequals(h.first, name); });
}

// Beast 1.81 takes framing that two readers could understand differently; such an answer is none.
bool sound_framing(const parser::value_type& message) {
  const auto codings = message.count(beast::http::field::transfer_encoding);
  const auto lengths = message.count(beast::http::field::content_length);
  if (codings == 0) return lengths <= 1;
  return codings == 1 && lengths == 0 && message.version() == 11 &&
         proto::iequals(proto::trim(message[beast::http::field::transfer_encoding]), "chunked");
}

}  // namespace

const std::string* http_response::find(std::string_view name) const noexcept {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [&](const auto& h) { return proto::iequals(h.first, name); });
  return found == headers.end() ? nullptr : &found->second;
}

class http_connection {
 public:
  explicit http_connection(http_client& c) : client_(c), socket_(c.worker_.executor()) {}

  bool is_open() const noexcept { return opened_; }
  task<std::string> open(steady_time deadline);  // what went wrong, or nothing
  task<std::string> exchange(const std::string& head, const std::string& body);

  // After an exchange.
  http_response response;
  bool complete = false;
  bool reusable = false;
  bool answered = false;  // a byte of an answer came
  bool too_large = false;

  steady_time due = steady_time::max();
  bool late = false;

  // Nothing of what is queued is delivered any more.
  void drop() {
    error_code ignored;
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    close();
  }
  void close() {
    error_code ignored;
    socket_.close(ignored);
  }

  // Nothing came meanwhile: neither the end, nor (unless TLS has its own messages) bytes nobody asked for.
  bool quiet() noexcept {
    char byte = 0;
    const auto n = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 ? errno == EAGAIN || errno == EWOULDBLOCK : n > 0 && tls_;
  }

 private:
  task<std::string> start_tls();
  template <class Stream>
  task<std::string> exchange_on(Stream& stream, const std::string& head, const std::string& body);
  void keep(parser& p);

  http_client& client_;
  tcp_socket socket_;
  std::unique_ptr<tls_stream> tls_;
  beast::flat_buffer buffer_;
  bool opened_ = false;
};

task<std::string> http_connection::open(steady_time deadline) {
  const auto endpoints =
      co_await name_lookup::run(client_.worker_, client_.url_.host, client_.url_.port, deadline);
  if (endpoints.empty()) co_return "the host name has no address";
  error_code ec;
  for (const auto& endpoint : endpoints) {
    close();
    if (late || client_.stopped_) co_return "given up";
    auto [refused] = co_await socket_.async_connect(endpoint, as_result);
    ec = refused;
    if (!ec) break;
  }
  if (ec) co_return "cannot connect: " + ec.message();
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  if (client_.url_.tls)
    if (auto why = co_await start_tls(); !why.empty()) co_return why;
  opened_ = true;
  co_return std::string();
}

task<std::string> http_connection::start_tls() {
  if (!client_.tls_->trouble.empty()) co_return client_.tls_->trouble;
  tls_ = std::make_unique<tls_stream>(socket_, client_.tls_->context);
  runtime::expect_host(*tls_, client_.url_.host);
  auto [failed] = co_await tls_->async_handshake(asio::ssl::stream_base::client, as_result);
  co_return failed ? "TLS: " + failed.message() : std::string();
}

task<std::string> http_connection::exchange(const std::string& head, const std::string& body) {
  response = {};
  complete = reusable = answered = too_large = false;
  if (tls_) co_return co_await exchange_on(*tls_, head, body);
  co_return co_await exchange_on(socket_, head, body);
}

template <class Stream>
task<std::string> http_connection::exchange_on(Stream& stream, const std::string& head,
                                               const std::string& body) {
  const std::array<asio::const_buffer, 2> buffers{asio::buffer(head), asio::buffer(body)};
  // A server may answer and close before it has read everything, so a failed write alone decides nothing.
  auto [unsent, written] = co_await asio::async_write(stream, buffers, as_result);
  for (int i = 0; i < interim_max; ++i) {
    parser p;
    p.header_limit(header_bytes_max);
    p.body_limit(client_.most_.response_max);
    auto [ec, n] = co_await beast::http::async_read(stream, buffer_, p, as_result);
    answered = answered || p.got_some() || buffer_.size() > 0;
    too_large = ec == beast::http::error::body_limit;
    if (too_large) co_return "the answer is larger than max_response";
    if (ec)
      co_return (unsent ? "the request could not be sent: " + unsent.message()
                        : "no whole answer: " + ec.message());
    const auto status = p.get().result_int();
    if (status == 101 || !sound_framing(p.get())) break;
    if (status < 200) continue;
    reusable = !unsent && p.get().keep_alive() && !p.get().need_eof() && buffer_.size() == 0;
    keep(p);
    co_return std::string();
  }
  co_return "an answer that makes no sense";
}

void http_connection::keep(parser& p) {
  auto message = p.release();
  response.status = message.result_int();
  for (const auto& field : message) response.headers.emplace_back(field.name_string(), field.value());
  response.body = std::move(message.body());
  complete = true;
}

http_client::http_client(runtime::worker& w, config::http_url url, const std::string& ca, limits most)
    : worker_(w),
      url_(std::move(url)),
      most_(most),
      due_timer_(w.executor()) {
  if (url_.tls) tls_ = std::make_unique<runtime::tls_client>(runtime::tls_files{ca, {}, {}});
}

http_client::~http_client() = default;

void http_client::stop() {
  stopped_ = true;
  due_timer_.cancel();
  idle_.clear();
  for (auto* c : busy_) c->close();
  for (auto* w : waiting_) w->bell->ring();
}

std::string http_client::head_of(const http_request& request) const {
  std::string out = request.method + ' ' + url_.base_path + request.target +
                    " HTTP/1.1\r\nHost: " + url_.authority + "\r\n";
  const auto add = [&](std::string_view name, std::string_view value) {
    if (value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos)
      out.append(name).append(": ").append(value).append("\r\n");
  };
  for (const auto& [name, value] : request.headers) add(name, value);
  if (!has_header(request.headers, "accept")) add("Accept", "*/*");
  if (!has_header(request.headers, "accept-encoding")) add("Accept-Encoding", "identity");
  if (!has_header(request.headers, "user-agent")) add("User-Agent", "asidecar");
  if (request.method != "GET") add("Content-Length", std::to_string(request.body.size()));
  return out.append("\r\n");
}

task<http_outcome> http_client::send(http_request request, steady_time deadline) {
  const auto self = shared_from_this();
  const std::string head = head_of(request);
  http_failure failure;
  failure.sent = false;
  auto c = co_await acquire(deadline);
  if (!c) {
    failure.timeout = !stopped_;
    failure.detail = stopped_ ? "stopped" : "all connections are busy";
    co_return failure;
  }
  for (bool again = true; again;) {
    const bool kept = c->is_open();
    busy_.push_back(c.get());
    c->due = deadline;
    watch(deadline);
    failure.detail.clear();
    if (!kept) failure.detail = co_await c->open(deadline);
    failure.sent = failure.sent || failure.detail.empty();  // by an earlier try, or by this one
    if (failure.detail.empty()) failure.detail = co_await c->exchange(head, request.body);
    std::erase(busy_, c.get());
    failure.timeout = c->late || worker_.time->now() >= deadline;
    failure.too_large = c->too_large;
    if (failure.timeout) failure.detail = "took too long";
    again =
        kept && !c->complete && !c->answered && !failure.timeout && !stopped_ && idempotent(request.method);
    if (again) c = std::make_unique<http_connection>(*this);
  }
  const bool complete = c->complete && !c->late;
  auto response = std::move(c->response);
  const bool keep = complete && c->reusable;
  release(std::move(c), keep);
  if (complete) co_return response;
  co_return failure;
}

task<http_client::connection_ptr> http_client::acquire(steady_time deadline) {
  if (stopped_) co_return nullptr;
  if (auto c = take_idle()) co_return c;
  if (open_ < most_.connections) {
    ++open_;
    co_return std::make_unique<http_connection>(*this);
  }
  waiter me{worker_.time->make_alarm(), false, nullptr};
  waiting_.push_back(&me);
  while (!me.admitted && !stopped_) {
    const bool over = co_await me.bell->wait_until(deadline);
    if (over) break;
  }
  if (!me.admitted) {
    std::erase(waiting_, &me);
    co_return nullptr;
  }
  if (!me.connection) me.connection = std::make_unique<http_connection>(*this);
  co_return std::move(me.connection);
}

http_client::connection_ptr http_client::take_idle() {
  while (!idle_.empty()) {
    auto c = std::move(idle_.back());
    idle_.pop_back();
    if (c->quiet()) return c;
    --open_;
  }
  return nullptr;
}

// Hands the place on to whoever has waited longest, with the connection when it can be kept.
void http_client::release(connection_ptr c, bool keep) {
  if (!keep || stopped_) c.reset();
  if (!waiting_.empty() && !stopped_) {
    auto* next = waiting_.front();
    waiting_.pop_front();
    next->admitted = true;
    next->connection = std::move(c);
    next->bell->ring();
    return;
  }
  if (!c) {
    --open_;
    return;
  }
  c->due = worker_.time->now() + idle_max;
  watch(c->due);
  idle_.push_back(std::move(c));
}

// One timer for all: it is set only when something is due earlier than what it is set to.
void http_client::watch(steady_time due) {
  if (due >= due_ || stopped_) return;
  due_ = due;
  due_timer_.expires_at(due);
  due_timer_.async_wait([self = shared_from_this()](error_code ec) {
    if (ec || self->stopped_) return;
    self->due_ = steady_time::max();
    self->expire();
  });
}

void http_client::expire() {
  const auto now = worker_.time->now();
  auto next = steady_time::max();
  for (auto* c : busy_) {
    if (c->due <= now && !std::exchange(c->late, true)) c->drop();
    if (!c->late) next = std::min(next, c->due);
  }
  open_ -= std::erase_if(idle_, [now](const auto& c) { return c->due <= now; });
  for (const auto& c : idle_) next = std::min(next, c->due);
  watch(next);
}

}  // namespace asidecar::origin
