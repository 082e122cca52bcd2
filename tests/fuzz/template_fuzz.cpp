// Key, SQL and HTTP templates and globs: no crash, no hang; what a key template formats, it matches.
#include <cstdint>
#include <cstdlib>

#include "daemon/core/glob.hpp"
#include "daemon/core/http_template.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/core/sql_template.hpp"

using namespace asidecar::core;
using boost::variant2::get_if;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto cut = bytes.find('\n');
  const auto pattern = bytes.substr(0, cut);
  const auto text = cut == std::string_view::npos ? std::string_view() : bytes.substr(cut + 1);
  glob_match(pattern.substr(0, 256), text.substr(0, 1024));
  auto key = key_template::parse(pattern);
  if (const auto* t = get_if<key_template>(&key)) {
    captures c;
    std::size_t bad = 0;
    t->match(text, c, bad);
    const std::vector<std::string> ones(t->params().size(), "1");
    bool plain = true;
    for (const auto& p : t->params()) plain = plain && p.type != param_type::uuid;
    const auto made = t->format(ones);
    if (t->params().size() <= 1 && plain && t->match(made, c, bad) == key_template::match_result::no) std::abort();
    if (!t->covers(*t)) std::abort();
  }
  auto sql = sql_template::parse(bytes);
  if (const auto* t = get_if<sql_template>(&sql)) {
    const auto once = t->text("$");
    for (const auto& q : t->quoted())
      if (q.offset >= bytes.size()) std::abort();
    if (once.find('\0') != std::string::npos && bytes.find('\0') == std::string_view::npos) std::abort();
  }
  auto http = http_template::parse(pattern);
  if (const auto* t = get_if<http_template>(&http)) {
    const std::vector<std::string_view> values(t->params().size(), text);
    if (const auto target = t->target(values))
      if (target->empty() || target->front() != '/' || target->find_first_of(" \r\n#") != std::string::npos) std::abort();
  }
  return 0;
}
