#include "daemon/origin/postgres_answers.hpp"

#include <algorithm>
#include <array>

namespace asidecar::origin {

using engine::load_error;

namespace {

// The server refuses the value itself: its syntax, range, date, bytes.
bool is_bad_value(const std::string& sqlstate) {
  constexpr std::array codes{"22P02", "22003", "22007", "22008", "22021", "22P03"};
  return std::find(codes.begin(), codes.end(), sqlstate) != codes.end();
}

}  // namespace

bool worth_another_try(const postgres_answer& a) {
  if (a.what == postgres_answer::outcome::lost) return true;
  if (a.what != postgres_answer::outcome::refused) return false;
  const bool stale_plan = a.sqlstate == "0A000" && a.message.find("cached plan") != std::string::npos;
  return stale_plan || a.sqlstate == "57014" || a.sqlstate == "26000";
}

engine::load_outcome translate(postgres_answer answer, const std::string& content_type) {
  switch (answer.what) {
    case postgres_answer::outcome::timeout:
      return load_error::timed_out("PostgreSQL: " + (answer.message.empty() ? "took too long" : answer.message));
    case postgres_answer::outcome::lost:
      return load_error::failed("PostgreSQL: " + answer.message);
    case postgres_answer::outcome::refused: {
      const auto detail =
          "PostgreSQL: " + (answer.sqlstate.empty() ? "" : "SQLSTATE " + answer.sqlstate + ' ') + answer.message;
      if (is_bad_value(answer.sqlstate)) return load_error::bad_key(detail);
      // Class 22, data exception: this key's row, not the server.
      if (answer.sqlstate.starts_with("22")) return load_error::refused(detail);
      return load_error::failed(detail);
    }
    case postgres_answer::outcome::rows:
      break;
  }
  engine::loaded out;
  out.content_type = content_type;
  if (answer.rows.empty() || !answer.rows.front()) {
    out.what = engine::loaded::outcome::no_record;
    return out;
  }
  auto& text = *answer.rows.front();
  if (text.starts_with(too_large_mark)) return load_error::refused("PostgreSQL: the result is larger than max_response");
  out.body = std::move(text);
  return out;
}

}  // namespace asidecar::origin
