#include "proto/hot_bodies.hpp"
#include "proto/record.hpp"

#include <catch2/catch.hpp>

#include "daemon/engine/value.hpp"
#include "proto/backplane_message.hpp"
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

TEST_CASE("a compressed record is inflated, within bounds, and a damaged one is none") {
  record r;
  r.created_ms = 1;
  r.content_type = "text/plain";
  std::string body;
  for (int i = 0; i < 400; ++i) body.append("line ").append(std::to_string(i)).append("\n");
  r.body = body;
  CHECK(encode_record(r, 0).size() > body.size());
  const auto small = encode_record(r, 1000);
  CHECK(small.size() < body.size());
  const auto stored = decode_record(small);
  REQUIRE(stored);
  CHECK(stored->compressed);
  CHECK(stored->body_size == body.size());
  std::string plain = "before ";
  REQUIRE(append_inflated(plain, *stored, 1 << 20));
  CHECK(plain == "before " + body);
  plain.clear();
  CHECK_FALSE(append_inflated(plain, *stored, body.size() - 1));
  const auto value = asidecar::engine::value::decode(small);
  REQUIRE(value);
  CHECK(value->body() == body);
  CHECK(value->encoded() == encode_record(r));
  for (std::size_t i = 0; i < small.size(); ++i) {
    auto bad = small;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    REQUIRE_FALSE(decode_record(bad));
  }
  // What shrinks beyond all measure is kept as it is, and what claims to is refused.
  const std::string zeros(2'000'000, '0');
  r.body = zeros;
  const auto kept = encode_record(r, 1000);
  CHECK(kept.size() > zeros.size());
  r.body = std::string_view(zeros).substr(0, any_ratio_below);
  CHECK(encode_record(r, 1000).size() < 500);
  auto bomb = *stored;
  bomb.body_size = 1000 * static_cast<std::uint32_t>(stored->body.size());
  CHECK_FALSE(append_inflated(plain, bomb, std::uint64_t(1) << 30));
  bomb.body_size = static_cast<std::uint32_t>(body.size()) + 1;
  CHECK_FALSE(append_inflated(plain, bomb, std::uint64_t(1) << 30));
  bomb = *stored;
  const std::string cut(stored->body.substr(0, stored->body.size() - 1));
  bomb.body = cut;
  CHECK_FALSE(append_inflated(plain, bomb, std::uint64_t(1) << 30));
  CHECK(plain.empty());
}

TEST_CASE("a record is marked stale in place") {
  auto bytes = sample();
  CHECK(decode_record(bytes)->expired_at_ms == 0);
  bytes.replace(expiry_mark_offset, 16, expiry_mark(1'700'000'030'000));
  const auto r = decode_record(bytes);
  REQUIRE(r);
  CHECK(r->expired_at_ms == 1'700'000'030'000);
  CHECK(r->body == R"({"id":1})");
}

TEST_CASE("backplane messages come back, and others are none") {
  using kind = backplane_message::kind;
  for (const auto what : {kind::key, kind::pattern, kind::tag, kind::changed}) {
    const auto bytes = encode_backplane_message({0xDEADBEEF12345678, what, "user:1"}, "cache:");
    const auto m = decode_backplane_message(bytes, "cache:");
    REQUIRE(m);
    CHECK(m->sender == 0xDEADBEEF12345678);
    CHECK(m->what == what);
    CHECK(m->text == "user:1");
    CHECK_FALSE(decode_backplane_message(bytes, "cache"));
    CHECK_FALSE(decode_backplane_message(bytes, "other:"));
    for (std::size_t i = 0; i < bytes.size() - 6; ++i) CHECK_FALSE(decode_backplane_message(bytes.substr(0, i), "cache:"));
  }
  CHECK_FALSE(decode_backplane_message("0123456789abcdefx0000", ""));
  CHECK_FALSE(decode_backplane_message("cache:user:1", "cache:"));
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

TEST_CASE("a bulk reply is read where it lies") {
  using kind = resp_front::kind;
  const std::string reply = "$12\r\nhello\r\nworld\r\n";
  const std::string more = reply + "$3\r\nabc\r\n";
  const auto front = look_at_front(more);
  REQUIRE(front.what == kind::bulk);
  CHECK(front.text == "hello\r\nworld");
  CHECK(front.size == reply.size());
  for (std::size_t n = 0; n < reply.size(); ++n) {
    const auto part = look_at_front(std::string_view(reply).substr(0, n));
    CHECK(part.what == kind::part);
    CHECK(part.size == (n < 4 ? 0 : reply.size()));
  }
  CHECK(look_at_front("$0\r\n\r\n").what == kind::bulk);
  CHECK(look_at_front("$0\r\n\r\n").text.empty());
  for (const auto* other : {"+OK\r\n", ":1\r\n", "*1\r\n", "-ERR\r\n", "$-1\r\n", "$\r\n", "$x\r\n", "$01\r\na\r\n", "$1x\r\n", "$9999999999\r\n", "$1\rxa\r\n", "$1\r\nabc"})
    CHECK(look_at_front(other).what == kind::another);
}

TEST_CASE("hot bodies: found by the very frame only, after two offers, within bounds, and not displaced by a scan") {
  const auto hot = std::make_unique<hot_bodies>();
  hot->offer(7, "frame", "the body");
  CHECK(hot->find(7, "frame").empty());
  hot->offer(7, "frame", "the body");
  CHECK(hot->find(7, "frame") == "the body");
  CHECK(hot->find(7, "framE").empty());
  CHECK(hot->find(7, "fram").empty());
  CHECK(hot->find(7, "framethe body").empty());
  CHECK(hot->find(8, "frame").empty());
  // A refill under the same mark takes its place.
  hot->offer(7, "other", "another body");
  CHECK(hot->find(7, "frame").empty());
  CHECK(hot->find(7, "other") == "another body");
  for (std::uint64_t mark = 8; mark < 5000; ++mark) hot->offer(mark, "f", std::to_string(mark));
  CHECK(hot->bytes() < 64);
  CHECK(hot->find(7, "other") == "another body");

  // More than there is room for: what has hits stays, the rest changes.
  const std::string large(hot_bodies::pair_bytes_max - 4, 'b');
  std::size_t found = 0;
  for (std::uint64_t mark = 0; mark < 10'000; ++mark) {
    const auto frame = std::to_string(mark % 1000 + 1000);
    for (int twice = 0; twice < 2; ++twice) hot->offer(mark, frame, large);
    REQUIRE(hot->bytes() <= hot_bodies::bytes_max);
    if (const auto body = hot->find(mark, frame); !body.empty()) {
      REQUIRE(body == large);
      ++found;
    }
    REQUIRE(hot->find(7, "other") == "another body");
    if (mark % 1024 == 6) ++mark;  // never the place of 7
  }
  CHECK(found > 100);
  CHECK(hot->bytes() > hot_bodies::bytes_max / 2);
  hot->offer(1, "12345", large);
  hot->offer(1, "12345", large);
  CHECK(hot->find(1, "12345").empty());
}

TEST_CASE("a value read again and again inflates to its own body, also after another came in its place") {
  record r;
  r.created_ms = 1;
  std::array<std::string, 2> bodies;
  std::array<std::string, 2> stored;
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    for (int line = 0; line < 400; ++line) bodies[i].append(i == 0 ? "line " : "row ").append(std::to_string(line));
    r.body = bodies[i];
    stored[i] = encode_record(r, 1000);
  }
  for (int i = 0; i < 20; ++i) {
    const auto which = static_cast<std::size_t>(i / 5 % 2);
    const auto value = decode_record(stored[which]);
    REQUIRE(value);
    std::string plain = "before ";
    REQUIRE(append_inflated(plain, *value, 1 << 20));
    REQUIRE(plain == "before " + bodies[which]);
    plain.clear();
    REQUIRE_FALSE(append_inflated(plain, *value, bodies[which].size() - 1));
    auto foreign = *value;  // another frame under the checksum of one that is known
    foreign.body = decode_record(stored[1 - which])->body;
    foreign.body_size = static_cast<std::uint32_t>(bodies[1 - which].size());
    REQUIRE(append_inflated(plain, foreign, 1 << 20));
    REQUIRE(plain == bodies[1 - which]);
    foreign = *value;
    foreign.body_size += 1;
    REQUIRE_FALSE(append_inflated(plain, foreign, 1 << 20));
  }
}
