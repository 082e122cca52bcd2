#include "proto/record.hpp"

#include <catch2/catch.hpp>

#include "proto/redis_keys.hpp"
#include "proto/resp.hpp"

using namespace asidecar::proto;

namespace {

std::string sample() {
  record r;
  r.created_ms = 1'700'000'000'000;
  r.fresh_ms = 60'000;
  r.load_time_us = 1234;
  r.etag = "\"abc\"";
  r.content_type = "application/json";
  r.body = R"({"id":1})";
  return encode_record(r);
}

}  // namespace

TEST_CASE("a record comes back as it went in") {
  const auto bytes = sample();
  const auto r = decode_record(bytes);
  REQUIRE(r);
  CHECK(r->created_ms == 1'700'000'000'000);
  CHECK(r->fresh_ms == 60'000);
  CHECK(r->load_time_us == 1234);
  CHECK(r->etag == "\"abc\"");
  CHECK(r->content_type == "application/json");
  CHECK(r->body == R"({"id":1})");
  CHECK_FALSE(r->negative);
}

TEST_CASE("a damaged record is no record: every byte flipped, every length cut") {
  const auto good = sample();
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {1, 0x80}) {
      auto bad = good;
      bad[i] = static_cast<char>(bad[i] ^ bit);
      REQUIRE_FALSE(decode_record(bad));
    }
    REQUIRE_FALSE(decode_record(std::string_view(good).substr(0, i)));
  }
  CHECK_FALSE(decode_record(good + "x"));
  CHECK_FALSE(decode_record(R"({"foreign":"value"})"));
}

TEST_CASE("lock names stay in the value's Cluster slot and outside of every value's name") {
  CHECK(lock_name("cache:user:1") == "asidecar:lock:{cache:user:1}");
  CHECK(lock_name("cache:{t}:1") == "asidecar:lock:{t}cache:{t}:1");
  CHECK(names_internal("asidecar:lock:{x}"));
  CHECK_FALSE(names_internal("cache:x"));
  CHECK(lock_name("a{b}c") != lock_name("b"));
}

TEST_CASE("RESP replies come in any pieces, also nested ones") {
  const std::string bytes = "+OK\r\n$5\r\nhello\r\n$-1\r\n:42\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n-ERR no\r\n";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    resp_reader reader(1 << 20);
    std::vector<resp_value> got;
    for (std::size_t i = 0; i < bytes.size(); i += step) {
      REQUIRE(reader.feed(std::string_view(bytes).substr(i, step)));
      resp_value v;
      while (reader.next(v) == resp_reader::state::reply) got.push_back(v);
    }
    REQUIRE(got.size() == 6);
    CHECK(got[0].is_ok());
    CHECK(got[1].text == "hello");
    CHECK(got[2].is_nil());
    CHECK(got[3].integer == 42);
    CHECK(got[4].elements.at(1).elements.at(0).text == "k");
    CHECK(got[5].is_error());
  }
  resp_reader broken(1 << 20);
  resp_value v;
  REQUIRE(broken.feed("HTTP/1.1 400\r\n"));
  CHECK(broken.next(v) == resp_reader::state::broken);
}
