// The framing gate, rule by rule (contract section 6).
#include "proto/http_head.hpp"

#include <catch2/catch.hpp>

#include "proto/chunked.hpp"

using namespace asidecar::proto;

namespace {

head_state state_of(std::string_view bytes) {
  request_head head;
  std::size_t scanned = 0;
  return parse_request_head(bytes, head, scanned).state;
}

}  // namespace

TEST_CASE("a plain GET parses") {
  request_head head;
  std::size_t scanned = 0;
  const std::string_view bytes = "GET /v1/keys/user:1 HTTP/1.1\r\nHost: localhost:8700\r\nCache-Control: max-age=5, no-cache\r\n\r\nrest";
  REQUIRE(parse_request_head(bytes, head, scanned).state == head_state::complete);
  CHECK(head.target == "/v1/keys/user:1");
  CHECK(head.authority == "localhost:8700");
  CHECK(head.keep_alive);
  CHECK(head.directives.no_cache);
  CHECK(head.directives.max_age == std::chrono::seconds(5));
  CHECK(bytes.substr(head.size) == "rest");
}

TEST_CASE("framing that enables smuggling is refused") {
  const auto post = [](std::string fields) { return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"; };
  CHECK(state_of(post("Content-Length: 3\r\n")) == head_state::complete);
  CHECK(state_of(post("Transfer-Encoding: chunked\r\n")) == head_state::complete);
  for (const std::string fields :
       {"Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: +3\r\n",
        "Content-Length: 3, 3\r\n", "Content-Length: 0x3\r\n", "Content-Length:\r\n", "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding : chunked\r\n",
        "X: a\r\n folded\r\n", " X: a\r\n", "X\r\n", ": x\r\n", "X Y: z\r\n", "X: a\rb\r\n", "Host: b\r\n"})
    CHECK(state_of(post(fields)) == head_state::bad);
  CHECK(state_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == head_state::bad);
  CHECK(state_of(std::string_view("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 36)) == head_state::bad);
}

TEST_CASE("the request line is checked") {
  CHECK(state_of("GET / HTTP/1.1\r\n\r\n") == head_state::bad);  // no Host
  CHECK(state_of("GET / HTTP/1.0\r\n\r\n") == head_state::complete);
  CHECK(state_of("BREW / HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::bad);
  CHECK(state_of("get / HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::bad);
  CHECK(state_of("GET x HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::bad);
  CHECK(state_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == head_state::bad);
  CHECK(state_of("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::bad);
  CHECK(state_of("GET / HTTP/1.1\nHost: a\n\n") == head_state::bad);
  CHECK(state_of("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::complete);
  CHECK(state_of("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::bad);
}

TEST_CASE("a head may come in any pieces, and has limits") {
  const std::string whole = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
  std::size_t scanned = 0;
  request_head head;
  for (std::size_t n = 1; n < whole.size(); ++n)
    REQUIRE(parse_request_head(std::string_view(whole).substr(0, n), head, scanned).state == head_state::incomplete);
  CHECK(parse_request_head(whole, head, scanned).state == head_state::complete);
  CHECK(state_of("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n") == head_state::target_too_long);
  CHECK(state_of("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(17000, 'x') + "\r\n\r\n") == head_state::too_large);
}

namespace {

// Feeds `text` in pieces of `step` bytes.
chunked_decoder::state decode(std::string_view text, std::size_t step, std::string& body, std::string& rest) {
  chunked_decoder d;
  auto state = chunked_decoder::state::more;
  while (!text.empty() && state == chunked_decoder::state::more) {
    auto piece = text.substr(0, step);
    const auto before = piece.size();
    state = d.feed(piece, [&](std::string_view p) { body.append(p); });
    text.remove_prefix(before - piece.size());
  }
  rest = text;
  return state;
}

}  // namespace

TEST_CASE("chunked bodies decode in any pieces") {
  for (std::size_t step = 1; step < 40; ++step) {
    std::string body;
    std::string rest;
    CHECK(decode("4;ext=1\r\nwiki\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT", step, body, rest) == chunked_decoder::state::done);
    CHECK(body == "wiki0123456789");
    CHECK(rest == "NEXT");
  }
}

TEST_CASE("malformed chunks are refused") {
  for (const std::string_view text : {"\r\n", "g\r\n", "4\nwiki\r\n0\r\n\r\n", "4\r\nwikiX\r\n", "-1\r\n", "0x4\r\n", "123456789\r\n", " 4\r\n", "4 \r\n", "0\r\n x: y\r\n\r\n"}) {
    std::string body;
    std::string rest;
    CHECK(decode(text, 1, body, rest) == chunked_decoder::state::bad);
  }
}
