// SQL templates: "SELECT * FROM users WHERE id = {id}". Placeholders become bound parameters, never text. Quoted strings,
// quoted identifiers, dollar quotes and comments are passed over, as PostgreSQL's lexer sees them. A placeholder inside a quote
// could only ever be text: quoted() lets the caller refuse it. Immutable after parse: any thread.
#pragma once

#include <boost/variant2/variant.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/template_error.hpp"

namespace asidecar::core {

class sql_template {
 public:
  static boost::variant2::variant<sql_template, template_error> parse(std::string_view text);

  // Each distinct placeholder once, in the order of first use: parameter number i + 1.
  const std::vector<std::string>& params() const noexcept { return params_; }

  struct quoted_name {
    std::string name;
    std::size_t offset;  // in the template
  };
  // What looks like a placeholder inside quotes. '{active}' may also be an array literal: an error only if the name is known.
  const std::vector<quoted_name>& quoted() const noexcept { return quoted_; }

  // The statement with <mark>1, <mark>2 … in place of the placeholders; no trailing semicolon.
  std::string text(std::string_view mark) const;

  // Whether its result has rows: a query, or a statement with RETURNING.
  bool returns_rows() const noexcept { return returns_rows_; }

 private:
  struct piece {
    std::string text;   // literal SQL before the parameter
    std::size_t param;  // index, or npos for the last piece
  };
  std::vector<piece> pieces_;
  std::vector<std::string> params_;
  std::vector<quoted_name> quoted_;
  bool returns_rows_ = false;
};

// The statement's first word, past comments and parentheses: "SELECT" of "/* x */ (select 1)". Empty when there is none.
std::string_view first_word(std::string_view sql) noexcept;

}  // namespace asidecar::core
