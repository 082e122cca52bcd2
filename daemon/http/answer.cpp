#include "daemon/http/answer.hpp"

#include <boost/beast/http/status.hpp>
#include <charconv>

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

std::string_view date_line::at(core::wall_time now) {
  const auto second = std::chrono::floor<std::chrono::seconds>(now);
  if (second != made_for_) {
    made_for_ = second;
    line_ = "Date: " + proto::format_http_date(second) + "\r\n";
  }
  return line_;
}

}  // namespace asidecar::http
