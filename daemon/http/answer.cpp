#include "daemon/http/answer.hpp"

#include <boost/beast/http/status.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "proto/http_date.hpp"

namespace asidecar::http {

answer problem(const proto::problem_type& type, std::string_view detail) {
  answer a;
  a.status = type.status;
  a.add("Content-Type", "application/problem+json");
  a.add("Cache-Control", "no-store");
  a.text = proto::problem_json(type, detail);
  return a;
}

answer json(std::string text) {
  answer a;
  a.add("Content-Type", "application/json");
  a.text = std::move(text);
  return a;
}

answer no_content() {
  answer a;
  a.status = 204;
  return a;
}

answer not_allowed(std::string_view allow) {
  auto a = problem(proto::problems::method_not_allowed, "this method is not allowed here");
  a.add("Allow", allow);
  return a;
}

answer store_is_down() {
  auto a = problem(proto::problems::store_down, "Redis did not confirm; nothing is promised, try again");
  a.add("Retry-After", "1");
  return a;
}

void append_head(std::string& out, const answer& a, std::string_view date, bool http_1_1, bool keep_alive) {
  char digits[24];
  const auto append_number = [&](std::uint64_t n) { out.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr); };
  out.append("HTTP/1.1 ");
  append_number(a.status);
  const auto reason = boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(a.status));
  out.append(" ").append(reason.data(), reason.size()).append("\r\n").append(date).append(a.fields);
  if (a.status != 204 && a.status != 304) {
    out.append("Content-Length: ");
    append_number(a.body().size());
    out.append("\r\n");
  }
  if (!keep_alive) out.append("Connection: close\r\n");
  else if (!http_1_1) out.append("Connection: keep-alive\r\n");
  out.append("\r\n");
}

namespace {

// Writes into room that was measured before.
class head_writer {
 public:
  explicit head_writer(char* at) : at_(at) {}
  template <std::size_t N>
  void literal(const char (&text)[N]) {
    std::memcpy(at_, text, N - 1);
    at_ += N - 1;
  }
  void text(std::string_view t) {
    std::memcpy(at_, t.data(), t.size());
    at_ += t.size();
  }
  void number(std::int64_t n) { at_ = std::to_chars(at_, at_ + 20, n).ptr; }
  char* end() const noexcept { return at_; }

 private:
  char* at_;
};

}  // namespace

bool append_hit_head(std::string& out, std::string_view date, const proto::record& value, core::wall_time now, bool unchanged, std::string_view detail) {
  constexpr std::size_t texts_max = 512;
  constexpr std::size_t rest_max = 384;  // all literals below and four numbers
  std::array<char, texts_max + rest_max> room;
  if (value.content_type.size() + value.content_encoding.size() + value.etag.size() + date.size() > texts_max) return false;
  const auto age = now.time_since_epoch().count() - value.created_ms;
  const auto left = (value.fresh_ms - age) / 1000;  // fresh, so not negative
  head_writer w(room.data());
  if (unchanged) w.literal("HTTP/1.1 304 Not Modified\r\n");
  else w.literal("HTTP/1.1 200 OK\r\n");
  w.text(date);
  if (!unchanged && !value.content_type.empty()) {
    w.literal("Content-Type: ");
    w.text(value.content_type);
    w.literal("\r\n");
  }
  if (!unchanged && !value.content_encoding.empty()) {
    w.literal("Content-Encoding: ");
    w.text(value.content_encoding);
    w.literal("\r\n");
  }
  if (!value.etag.empty()) {
    w.literal("ETag: ");
    w.text(value.etag);
    w.literal("\r\n");
  }
  w.literal("Age: ");
  w.number(std::max<std::int64_t>(0, age / 1000));
  w.literal("\r\nCache-Control: max-age=");
  w.number(left);
  w.literal("\r\nCache-Status: asidecar; hit; ttl=");
  w.number(left);
  w.literal("; detail=");
  w.text(detail);
  w.literal("\r\n");
  if (!unchanged) {
    w.literal("Content-Length: ");
    w.number(value.body_size);
    w.literal("\r\n");
  }
  w.literal("\r\n");
  out.append(room.data(), static_cast<std::size_t>(w.end() - room.data()));
  return true;
}

bool etag_matches(bool asked, std::string_view fields, std::string_view etag) {
  if (!asked || etag.empty()) return false;
  bool matched = false;
  proto::for_each_field(fields, "if-none-match", [&](std::string_view list) {
    while (!list.empty() && !matched) {
      // An entity-tag is quoted, and a comma may stand inside its quotes.
      const auto open = list.find('"');
      const auto close = open == std::string_view::npos ? open : list.find('"', open + 1);
      if (proto::trim(list.substr(0, std::min(open, list.size()))).starts_with('*')) matched = true;
      if (close == std::string_view::npos) break;
      matched = matched || list.substr(open, close - open + 1) == etag;
      list.remove_prefix(close + 1);
      if (const auto comma = list.find(','); comma != std::string_view::npos) list.remove_prefix(comma + 1);
    }
  });
  return matched;
}

std::string_view date_line::at(core::wall_time now) {
  if (now - second_ >= std::chrono::seconds(1) || now < second_) {
    second_ = std::chrono::floor<std::chrono::seconds>(now);
    line_ = "Date: " + proto::format_http_date(std::chrono::floor<std::chrono::seconds>(now)) + "\r\n";
  }
  return line_;
}

}  // namespace asidecar::http
