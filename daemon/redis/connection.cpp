#include "daemon/redis/connection.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

#include "daemon/core/backoff.hpp"
#include "daemon/redis/tls_stream.hpp"

namespace asidecar::redis {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds pause_min{50};
constexpr milliseconds pause_max{1000};
constexpr std::size_t waiting_max = 100'000;
constexpr std::size_t out_bytes_max = 64U << 20;
constexpr std::size_t read_bytes = 64 * 1024;

}  // namespace

connection::connection(runtime::worker& w, terms t, engine::store_stats& stats, engine::event_sink& events)
    : worker_(w), terms_(std::move(t)), stats_(stats), events_(events),
      socket_(w.executor()), due_timer_(w.executor()), pause_(w.time->make_alarm()) {}

void connection::start() {
  if (terms_.finder) terms_.finder->tell_of_moves(weak_from_this());
  worker_.tasks.spawn(live(shared_from_this()));
}

void connection::stop() {
  if (state_ == state::stopped) return;
  state_ = state::stopped;
  error_code ignored;
  socket_.close(ignored);
  due_timer_.cancel();
  pause_->ring();
  fail_all();
}

task<void> connection::live(std::shared_ptr<connection> self) {
  milliseconds pause = pause_min;
  while (state_ != state::stopped) {
    state_ = state::connecting;
    was_up_ = false;
    trouble_.clear();
    const auto ec = co_await open();
    if (state_ == state::stopped) break;
    if (!ec) {
      replies_.emplace(terms_.reply_max);
      worker_.tasks.spawn(handshake(self));
      co_await read_replies();
      if (state_ == state::stopped) break;
    }
    const bool moved = terms_.finder && terms_.finder->where() != server_;
    if (was_up_ || moved) pause = pause_min;
    if (trouble_.empty()) trouble_ = ec ? "cannot connect: " + ec.message() : "the connection was lost";
    lose(trouble_);
    co_await pause_->wait_until(worker_.time->now() + core::jittered_pause(pause, worker_.random->unit()));
    pause = std::min(pause * 2, pause_max);
    stats_.reconnects.add();
  }
}

task<reply> connection::run_unready(std::vector<std::string> words) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  call c;
  if (state_ != state::connecting && state_ != state::up) co_return std::nullopt;
  queue(c, views);
  auto answer = co_await c.wait();
  if (answer && answer->is_error()) trouble_ = words.front() + " was refused: " + answer->text.substr(0, 100);
  co_return answer;
}

void connection::send(call& c, std::span<const std::string_view> words) {
  if (takes_calls()) queue(c, words);
  else c.arrived(std::nullopt);
}

bool connection::takes_calls() const noexcept {
  return state_ == state::up && waiting_.size() < waiting_max && out_.size() + writing_.size() < out_bytes_max;
}

void connection::forget(const call& c) noexcept {
  for (auto* list : {&waiting_, &failed_})
    for (auto& p : *list)
      if (p.who == &c) p.who = nullptr;
}

void connection::call::arrived_in_place(std::string_view text) {
  proto::resp_value value;
  value.type = proto::resp_value::kind::bulk;
  value.text = text;
  arrived(std::move(value));
}

void connection::finish(call* c, reply r) {
  if (c == nullptr) return;
  c->in_ = nullptr;
  c->arrived(std::move(r));
}

void connection::finish_in_place(call* c, std::string_view text) {
  if (c == nullptr) return;
  c->in_ = nullptr;
  c->arrived_in_place(text);
}

void connection::queue(call& c, std::span<const std::string_view> words) {
  c.in_ = this;
  waiting_.push_back({&c, worker_.time->now() + terms_.timeout});
  if (!watching_) watch();
  write_soon(words);
}

void connection::tell(std::span<const std::string_view> words) {
  if (state_ == state::up) write_soon(words);
}

void connection::drop(std::string why) {
  trouble_ = std::move(why);
  error_code ignored;
  socket_.close(ignored);
}

void connection::write_soon(std::span<const std::string_view> words) {
  stats_.commands.add();
  proto::append_command(out_, words);
  if (flush_posted_) return;
  flush_posted_ = true;
  asio::post(worker_.executor(), [self = shared_from_this()] { self->flush(); });
}

task<reply> connection::run(std::vector<std::string> words) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  call c;
  send(c, views);
  co_return co_await c.wait();
}

void connection::flush() {
  flush_posted_ = false;
  if (!writing_.empty() || out_.empty() || !socket_.is_open()) return;
  if (tls_) {  // encrypts at its own pace
    writing_.swap(out_);
    return write_rest();
  }
  error_code ec;
  const auto n = socket_.write_some(asio::buffer(out_), ec);
  if (ec && ec != asio::error::would_block) {
    out_.clear();
    return drop("cannot write: " + ec.message());
  }
  if (n == out_.size()) {
    out_.clear();
    return;
  }
  writing_.assign(out_, n);
  out_.clear();
  write_rest();
}

void connection::write_rest() {
  auto done = [self = shared_from_this(), stream = tls_](error_code ec, std::size_t) {
    self->writing_.clear();
    if (!ec) self->flush();
  };
  if (tls_) asio::async_write(*tls_, asio::buffer(writing_), std::move(done));
  else asio::async_write(socket_, asio::buffer(writing_), std::move(done));
}

task<void> connection::read_replies() {
  const auto encrypted = tls_;
  if (encrypted) co_await read_replies_from(*encrypted);
  else co_await read_replies_from(socket_);
}

template <class Stream>
task<void> connection::read_replies_from(Stream& from) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(read_bytes);
  std::string_view kept;  // at its beginning: the first part of a reply
  for (;;) {
    auto [ec, n] = co_await from.async_read_some(asio::buffer(buffer.get() + kept.size(), read_bytes - kept.size()), runtime::as_result);
    if (ec.category() == boost::asio::error::get_ssl_category()) trouble_ = "TLS: " + ec.message();  // e.g. our certificate was refused
    if (ec) co_return;
    kept = {buffer.get(), kept.size() + n};
    if (!deliver(kept)) {
      trouble_ = "a reply that is not RESP";
      co_return;
    }
    if (!kept.empty()) std::memmove(buffer.get(), kept.data(), kept.size());
  }
}

// What it leaves of `bytes` is to be shown again with what follows. False: it is not RESP.
bool connection::deliver(std::string_view& bytes) {
  const auto frozen = worker_.sockets.freeze_time();
  while (!bytes.empty()) {
    const bool between_replies = replies_->idle();
    if (between_replies && subscriber_ == nullptr) {
      const auto front = proto::look_at_front(bytes);
      if (front.what == proto::resp_front::kind::part && front.size <= read_bytes) return true;
      if (front.what == proto::resp_front::kind::bulk) {
        if (waiting_.empty()) return false;
        bytes.remove_prefix(front.size);
        finish_in_place(next_waiting(), front.text);
        continue;
      }
    }
    // A line may be all of a reply; what follows may be read in place again.
    const auto line_end = bytes.find('\n');
    const auto piece = bytes.substr(0, between_replies && line_end != std::string_view::npos ? line_end + 1 : bytes.size());
    if (!replies_->feed(piece) || !deliver_read()) return false;
    bytes.remove_prefix(piece.size());
  }
  return true;
}

bool connection::deliver_read() {
  proto::resp_value value;
  for (;;) {
    switch (replies_->next(value)) {
      case proto::resp_reader::state::need_more: return true;
      case proto::resp_reader::state::broken: return false;
      case proto::resp_reader::state::reply: break;
    }
    if (is_push(value)) {
      subscriber_->on_push(std::move(value));
      continue;
    }
    if (waiting_.empty()) return false;
    auto* const c = next_waiting();
    if (value.is_error()) stats_.errors.add();
    finish(c, std::move(value));
  }
}

// Null: it was forgotten.
connection::call* connection::next_waiting() {
  auto* const c = waiting_.front().who;
  waiting_.pop_front();
  return c;
}

// A message may overtake the replies to what prepare() has sent.
bool connection::is_push(const proto::resp_value& value) const {
  if (subscriber_ == nullptr) return false;
  return waiting_.empty() || (!value.elements.empty() && value.elements.front().text == "message");
}

// One timer for the whole queue: it sleeps until the oldest call is due.
void connection::watch() {
  if (waiting_.empty() || state_ == state::stopped) return;
  watching_ = true;
  due_timer_.expires_at(waiting_.front().due);
  due_timer_.async_wait([self = shared_from_this()](error_code ec) {
    self->watching_ = false;
    if (ec || self->waiting_.empty()) return;
    if (self->waiting_.front().due > self->worker_.time->now()) return self->watch();
    self->stats_.timeouts.add();
    self->drop("no reply within store.timeout");
    self->fail_all();  // also before the reader has noticed
  });
}

// From here on nobody waits for Redis.
void connection::fail_all() {
  if (state_ == state::up) state_ = state::down;
  if (std::exchange(counted_, false)) stats_.up.fetch_sub(1);
  out_.clear();
  failed_.insert(failed_.end(), waiting_.begin(), waiting_.end());
  waiting_.clear();
  // What is woken may end calls further back.
  while (!failed_.empty()) {
    auto* c = failed_.front().who;
    failed_.pop_front();
    finish(c, std::nullopt);
  }
}

void connection::lose(std::string_view why) {
  if (state_ != state::stopped) state_ = state::down;
  error_code ignored;
  socket_.close(ignored);
  fail_all();
  if (subscriber_ != nullptr) subscriber_->on_lost();
  if (!said_down_) events_.event(engine::severity::warn, terms_.name + " is away", {{"why", why}});
  said_down_ = true;
}

task<void> connection::wait_up(runtime::steady_time deadline) {
  const auto bell = worker_.time->make_alarm();
  while (!up() && !said_down_ && worker_.time->now() < deadline)
    co_await bell->wait_until(worker_.time->now() + milliseconds(1));
}

}  // namespace asidecar::redis
