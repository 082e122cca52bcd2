// A session's reading: from bytes to requests, and the answers that need no waiting.
#include <sys/socket.h>

#include <cerrno>

#include "daemon/http/server.hpp"
#include "daemon/http/session.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;

constexpr std::size_t answers_per_write = 64 * 1024;
static_assert(server::buffer_bytes >= proto::head_bytes_max);  // or a large head would never be complete

}  // namespace

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
    if (settled(got)) return !under_way_;
    r.tried = got.tried;
  }
  const auto result = proto::parse_request_head(bytes, r.head, scanned_);
  if (result.state == proto::head_state::incomplete) {
    if (first_bytes) set_due(read_deadline);
    return false;
  }
  const bool undecided = std::exchange(undecided_, false);
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
  if (!body && !undecided) {
    auto got = server_.handler().answer_now(r, want_keep_alive(), server_.unsent(), *this);
    if (settled(got)) {
      if (!want_keep_alive()) close_after_write_ = true;  // then it was answered: nothing is begun without
      return !under_way_ && !close_after_write_;
    }
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

// Whether the request is answered, or something is under way.
bool session::settled(request_handler::outcome& got) {
  begin_ += got.answered;
  if (got.begun) {
    under_way_ = std::move(got.begun);
    state_ = state::handling;
    set_due_of_state();
  }
  return got.answered > 0 || under_way_;
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

}  // namespace asidecar::http
