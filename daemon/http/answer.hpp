// What goes back to a client, and its bytes on the wire.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/engine/value.hpp"
#include "proto/http_head.hpp"
#include "proto/problem.hpp"

namespace asidecar::http {

struct answer {
  std::uint16_t status = 200;
  std::string fields;        // whole header lines, each with its CRLF
  std::string text;          // the body, unless `value` is set
  engine::value_ptr value;   // the body is this value's
  bool close = false;        // the connection ends with this answer

  std::string_view body() const noexcept { return value ? value->body() : std::string_view(text); }
  void add(std::string_view name, std::string_view content) { fields.append(name).append(": ").append(content).append("\r\n"); }
};

answer problem(const proto::problem_type& type, std::string_view detail);
answer json(std::string text);
answer no_content();
answer not_allowed(std::string_view allow);  // 405; `allow` lists the methods
answer store_is_down();                      // 503: Redis did not confirm a change

// The head of `a` for a request; `date` is a whole Date line. 204 and 304 carry no body, and HEAD's is left out by the caller.
void append_head(std::string& out, const answer& a, std::string_view date, bool http_1_1, bool keep_alive);
// The head of the answer to a GET that a fresh value satisfies: 200, or 304 when `unchanged`; what append_head() would make of it, in
// one go. `detail`: L1 or L2. False, and nothing appended, when its texts are longer than there is room for.
bool append_hit_head(std::string& out, std::string_view date, const proto::record& value, core::wall_time now, bool unchanged, std::string_view detail);
constexpr bool has_body(std::uint16_t status) noexcept { return status != 204 && status != 304; }

// Whether an If-None-Match among the field lines holds `etag` or a star. `asked`: there is one.
bool etag_matches(bool asked, std::string_view fields, std::string_view etag);

// "Date: …\r\n", made once a second. One object per thread.
class date_line {
 public:
  std::string_view at(core::wall_time now);

 private:
  core::wall_time second_{};  // the line's; no division in between
  std::string line_;
};

}  // namespace asidecar::http
