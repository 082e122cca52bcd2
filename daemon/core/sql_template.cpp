#include "daemon/core/sql_template.hpp"

#include <algorithm>

#include "proto/text.hpp"

namespace asidecar::core {
namespace {

constexpr bool identifier_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

constexpr bool blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }

constexpr auto npos = std::string_view::npos;

// Each skip_… returns the offset just behind the element that starts at `at`, or npos when it never ends.
std::size_t skip_quoted(std::string_view sql, std::size_t at, bool backslash) {
  const char quote = sql[at];
  for (std::size_t i = at + 1; i < sql.size(); ++i) {
    if (backslash && sql[i] == '\\') {
      ++i;
    } else if (sql[i] == quote) {
      if (i + 1 < sql.size() && sql[i + 1] == quote) ++i;
      else return i + 1;
    }
  }
  return npos;
}

std::size_t skip_block_comment(std::string_view sql, std::size_t at) {
  int depth = 0;
  for (std::size_t i = at; i + 1 < sql.size(); ++i) {
    if (sql[i] == '/' && sql[i + 1] == '*') {
      ++depth;
      ++i;
    } else if (sql[i] == '*' && sql[i + 1] == '/') {
      ++i;
      if (--depth == 0) return i + 1;
    }
  }
  return npos;
}

// The length of a dollar-quote tag ("$$", "$body$") at `at`, 0 when there is none.
std::size_t dollar_tag(std::string_view sql, std::size_t at) {
  std::size_t i = at + 1;
  if (i < sql.size() && sql[i] >= '0' && sql[i] <= '9') return 0;
  while (i < sql.size() && identifier_char(sql[i])) ++i;
  return i < sql.size() && sql[i] == '$' ? i - at + 1 : 0;
}

bool preceded_by_escape_prefix(std::string_view sql, std::size_t quote) {
  return quote > 0 && (sql[quote - 1] == 'e' || sql[quote - 1] == 'E') && (quote == 1 || !identifier_char(sql[quote - 2]));
}

// Every "{name}" in [from, to).
void note_quoted(std::string_view sql, std::size_t from, std::size_t to, std::vector<sql_template::quoted_name>& out) {
  for (auto open = sql.find('{', from); open < to; open = sql.find('{', open + 1)) {
    const auto close = sql.find('}', open);
    if (close >= to) return;
    const auto name = sql.substr(open + 1, close - open - 1);
    if (is_placeholder_name(name)) out.push_back({std::string(name), open});
  }
}

// A run of quoted text or comment starting at `at`: where it ends. end == at: no such run starts here.
struct opaque_run {
  std::size_t end;
  bool quoted;
  const char* unterminated;  // what never ends, or nullptr
};

opaque_run opaque_at(std::string_view sql, std::size_t at) {
  const char c = sql[at];
  const char next = at + 1 < sql.size() ? sql[at + 1] : '\0';
  if (c == '\'' || c == '"') {
    const auto end = skip_quoted(sql, at, c == '\'' && preceded_by_escape_prefix(sql, at));
    return {end, true, c == '"' ? "a quoted identifier never ends" : "a quoted string never ends"};
  }
  if (c == '-' && next == '-') return {std::min(sql.find('\n', at), sql.size()), false, nullptr};
  if (c == '/' && next == '*') return {skip_block_comment(sql, at), false, "a comment never ends"};
  if (c == '$' && (at == 0 || !identifier_char(sql[at - 1]))) {
    if (const auto tag = dollar_tag(sql, at); tag != 0) {
      const auto close = sql.find(sql.substr(at, tag), at + tag);
      return {close == npos ? npos : close + tag, true, "a dollar-quoted string never ends"};
    }
  }
  return {at, false, nullptr};
}

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = 0; at + word.size() <= text.size(); ++at) {
    const bool begins = at == 0 || !identifier_char(text[at - 1]);
    const bool ends = at + word.size() == text.size() || !identifier_char(text[at + word.size()]);
    if (begins && ends && proto::iequals(text.substr(at, word.size()), word)) return true;
  }
  return false;
}

}  // namespace

boost::variant2::variant<sql_template, template_error> sql_template::parse(std::string_view sql) {
  sql_template out;
  std::string literal;
  std::string bare;  // what is neither quoted nor comment
  std::size_t semicolon = npos;
  bool any = false;  // something but blanks and comments was seen
  for (std::size_t i = 0; i < sql.size();) {
    const auto run = opaque_at(sql, i);
    if (run.end != i) {
      if (run.end == npos) return template_error{i, run.unterminated};
      if (run.quoted) {
        note_quoted(sql, i, run.end, out.quoted_);
        if (semicolon != npos) return template_error{semicolon, "one statement only: ';' may stand only at the end"};
        any = true;
        literal.append(sql.substr(i, run.end - i));
        bare.push_back('\'');
      } else {
        bare.push_back(' ');
        literal.push_back(' ');  // comments are not sent; they could swallow what is wrapped around the statement
      }
      i = run.end;
      continue;
    }
    const char c = sql[i];
    if (c == ';') {
      if (semicolon == npos) semicolon = i;
      ++i;
      continue;
    }
    if (!blank(c)) {
      if (semicolon != npos) return template_error{semicolon, "one statement only: ';' may stand only at the end"};
      any = true;
    }
    bare.push_back(c);
    if (c != '{') {
      literal.push_back(c);
      ++i;
      continue;
    }
    const auto close = sql.find('}', i);
    const auto name = sql.substr(i + 1, close == npos ? 0 : close - i - 1);
    if (close == npos || !is_placeholder_name(name)) return template_error{i, "'{' does not begin a placeholder such as {id}"};
    auto found = std::find(out.params_.begin(), out.params_.end(), name);
    if (found == out.params_.end()) found = out.params_.insert(found, std::string(name));
    out.pieces_.push_back({std::move(literal), static_cast<std::size_t>(found - out.params_.begin())});
    literal.clear();
    i = close + 1;
  }
  if (!any) return template_error{0, "the statement is empty"};
  while (!literal.empty() && blank(literal.back())) literal.pop_back();
  out.pieces_.push_back({std::move(literal), npos});
  const auto word = first_word(sql);
  out.returns_rows_ = proto::iequals(word, "select") || proto::iequals(word, "values") || proto::iequals(word, "table") || has_word(bare, "returning");
  return out;
}

std::string sql_template::text(std::string_view mark) const {
  std::string out;
  for (const auto& p : pieces_) {
    out.append(p.text);
    if (p.param != npos) out.append(mark).append(std::to_string(p.param + 1));
  }
  return out;
}

namespace {

void skip_comment(std::string_view& sql) noexcept {  // it may hold others
  int depth = 0;
  do {
    depth += sql.starts_with("/*") ? 1 : sql.starts_with("*/") ? -1 : 0;
    sql.remove_prefix(std::min<std::size_t>(sql.starts_with("/*") || sql.starts_with("*/") ? 2 : 1, sql.size()));
  } while (depth > 0 && !sql.empty());
}

}  // namespace

std::string_view first_word(std::string_view sql) noexcept {
  constexpr std::string_view skipped = " \t\r\n\f(";
  for (;;) {
    sql.remove_prefix(std::min(sql.find_first_not_of(skipped), sql.size()));
    if (sql.starts_with("--")) sql.remove_prefix(std::min(sql.find('\n'), sql.size()));
    else if (sql.starts_with("/*")) skip_comment(sql);
    else break;
  }
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return sql.substr(0, static_cast<std::size_t>(std::find_if_not(sql.begin(), sql.end(), letter) - sql.begin()));
}

}  // namespace asidecar::core
