#include <catch2/catch.hpp>

#include "daemon/core/glob.hpp"
#include "daemon/core/http_template.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/core/sql_template.hpp"

using namespace asidecar::core;
using boost::variant2::get_if;

namespace {

template <class T>
T parsed(std::string_view text) {
  auto r = T::parse(text);
  REQUIRE(get_if<T>(&r) != nullptr);
  return std::move(*get_if<T>(&r));
}

template <class T>
bool refused(std::string_view text) {
  auto r = T::parse(text);
  return get_if<T>(&r) == nullptr;
}

key_template::match_result match(std::string_view pattern, std::string_view key) {
  captures c;
  std::size_t bad = 0;
  return parsed<key_template>(pattern).match(key, c, bad);
}

}  // namespace

TEST_CASE("key templates match the whole key or nothing") {
  using result = key_template::match_result;
  CHECK(match("user:{id:int}", "user:42") == result::yes);
  CHECK(match("user:{id:int}", "user:-9223372036854775808") == result::yes);
  CHECK(match("user:{id:int}", "user:9223372036854775808") == result::bad_value);
  CHECK(match("user:{id:int}", "user:abc") == result::bad_value);
  CHECK(match("user:{id:int}", "user:1:2") == result::no);
  CHECK(match("user:{id}", "user:") == result::no);
  CHECK(match("user:{id}", "xuser:1") == result::no);
  CHECK(match("u:{id:uuid}", "u:123e4567-e89b-12d3-a456-426614174000") == result::yes);
  CHECK(match("page:{p:rest}", "page:") == result::yes);
  CHECK(match("page:{p:rest}", "page:a/b:c") == result::yes);
  CHECK(match("{a}/{b}.json", "x/y.json.json") == result::yes);
  CHECK(refused<key_template>("{a}{b}"));
  CHECK(refused<key_template>("x{a"));
  CHECK(refused<key_template>("{a:float}"));
  CHECK(refused<key_template>("{a}:{a}"));
  CHECK(refused<key_template>("{a:rest}x"));
}

TEST_CASE("an earlier template that covers a later one is seen") {
  const auto covers = [](std::string_view a, std::string_view b) { return parsed<key_template>(a).covers(parsed<key_template>(b)); };
  CHECK(covers("{all:rest}", "user:{id}"));
  CHECK(covers("user:{x}", "user:{id:int}"));
  CHECK(covers("user:{x}", "user:me"));
  CHECK_FALSE(covers("user:{id:int}", "user:{x}"));
  CHECK_FALSE(covers("user:{x}", "user:{x}:posts"));
  CHECK_FALSE(covers("user:{x}", "user:{y:rest}"));
}

TEST_CASE("SQL placeholders become parameters, never text") {
  const auto t = parsed<sql_template>("SELECT '{x'::text, $q$ it's $q$, a::int /* {no} */ -- {neither}\n FROM t WHERE a = {id} AND b = {id} AND c = {name};");
  CHECK(t.params() == std::vector<std::string>{"id", "name"});
  CHECK(t.text("$").find("a = $1 AND b = $1 AND c = $2") != std::string::npos);
  CHECK(t.text("$").find("neither") == std::string::npos);
  for (const auto* bad : {"SELECT 1; SELECT 2", "SELECT 'x", "SELECT /* x", "", "-- only", "SELECT {1d}"})
    CHECK(refused<sql_template>(bad));
}

TEST_CASE("placeholders inside quotes are told apart") {
  for (const auto* text : {"SELECT '{id}'", "SELECT \"{id}\"", "SELECT $${id}$$", "SELECT E'it\\'s {id}'"}) {
    const auto t = parsed<sql_template>(text);
    CHECK(t.params().empty());
    REQUIRE(t.quoted().size() == 1);
    CHECK(std::string_view(text).substr(t.quoted()[0].offset).starts_with("{id}"));
  }
  CHECK(parsed<sql_template>("SELECT '{1,2}'::int[]").quoted().empty());
}

TEST_CASE("a value cannot leave its place in an HTTP target") {
  const auto t = parsed<http_template>("GET /p/{sku}?q={q}");
  CHECK(t.target({"a/b?c#d", "x&y=z"}) == "/p/a%2Fb%3Fc%23d?q=x%26y%3Dz");
  CHECK_FALSE(parsed<http_template>("GET /p/{a}/x").target({".."}));
  for (const auto* bad : {"/p", "GET p", "GET //host/x", "GET http://x/", "GET /a b", "GET /../x", "FETCH /x", "GET /{"}) CHECK(refused<http_template>(bad));
}

TEST_CASE("globs match as Redis matches them") {
  CHECK(glob_match("user:*", "user:1"));
  CHECK(glob_match("*", ""));
  CHECK(glob_match("u?er:[0-9]", "user:7"));
  CHECK(glob_match("[^a]b", "cb"));
  CHECK_FALSE(glob_match("[^a]b", "ab"));
  CHECK(glob_match("a\\*b", "a*b"));
  CHECK_FALSE(glob_match("a\\*b", "axb"));
  CHECK_FALSE(glob_match("user:*x", "user:1"));
  CHECK(glob_match("*a*b*c", "xxaxxbxxc"));
  CHECK_FALSE(glob_match("a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}
