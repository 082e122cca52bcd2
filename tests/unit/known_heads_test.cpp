// The fast way: heads that were seen before, and what is answered to them.
#include "proto/known_heads.hpp"

#include <catch2/catch.hpp>
#include <random>

#include "daemon/engine/compose.hpp"
#include "daemon/http/answer.hpp"

using namespace asidecar;
using namespace asidecar::proto;
using namespace std::chrono_literals;

namespace {

void learn(known_heads& known, const std::string& bytes, int times = 2) {
  request_head head;
  std::size_t scanned = 0;
  REQUIRE(parse_request_head(bytes, head, scanned).state == head_state::complete);
  for (int i = 0; i < times; ++i) known.learn(bytes, head, false);
}

std::string get(const std::string& key, const std::string& fields = "") { return "GET /v1/keys/" + key + " HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n"; }

}  // namespace

TEST_CASE("a head that differs in its key alone is known") {
  known_heads known("/v1/keys/");
  learn(known, get("user:1", "User-Agent: x\r\n"), 1);
  CHECK(known.find(get("user:2", "User-Agent: x\r\n"), false).like == nullptr);  // seen once is not worth keeping
  learn(known, get("user:3", "User-Agent: x\r\n"), 1);
  const auto bytes = get("user:22", "User-Agent: x\r\n");
  const auto pipelined = bytes + "GET /more";
  const auto found = known.find(pipelined, false);
  REQUIRE(found.like != nullptr);
  CHECK(found.key == "user:22");
  CHECK(found.size == bytes.size());
  CHECK(found.fields == "Host: localhost\r\nUser-Agent: x\r\n");
  CHECK(known.find(bytes, true).like == nullptr);
  CHECK(known.find(get("user:2", "User-Agent: y\r\n"), false).like == nullptr);
  CHECK(known.find(get("user:2"), false).like == nullptr);
  CHECK(known.find(bytes.substr(0, bytes.size() - 1), false).like == nullptr);
  CHECK(known.find(get("a%20b", "User-Agent: x\r\n"), false).like == nullptr);
  CHECK(known.find(get("a#b", "User-Agent: x\r\n"), false).like == nullptr);
  CHECK(known.find(get("a b", "User-Agent: x\r\n"), false).like == nullptr);
  known.forget();
  CHECK(known.find(bytes, false).like == nullptr);
}

TEST_CASE("a head that is known is not learnt again, at the cost of others") {
  known_heads known("/v1/keys/");
  learn(known, get("a", "User-Agent: x\r\n"), 1);
  learn(known, get("a", "User-Agent: y\r\n"), 10);
  learn(known, get("a", "User-Agent: x\r\n"), 1);
  learn(known, get("a", "User-Agent: y\r\n"), 10);
  CHECK(known.find(get("b", "User-Agent: x\r\n"), false).like != nullptr);
  CHECK(known.find(get("b", "User-Agent: y\r\n"), false).like != nullptr);
}

TEST_CASE("only plain heads are learnt") {
  const auto fields = GENERATE(as<std::string>{}, "Cache-Control: no-cache\r\n", "Connection: close\r\n", "Content-Length: 0\r\n", "Expect: 100-continue\r\n");
  known_heads known("/v1/keys/");
  learn(known, get("a", fields));
  CHECK(known.find(get("a", fields), false).like == nullptr);
  for (const std::string bytes : {"GET /v1/keys/a HTTP/1.0\r\n\r\n", "HEAD /v1/keys/a HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://x/v1/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
                                  "GET /v1/records/a HTTP/1.1\r\nHost: x\r\n\r\n"}) {
    learn(known, bytes);
    CHECK(known.find(bytes, false).like == nullptr);
  }
}

TEST_CASE("what is known of a head is what the framing gate says of it, whatever is changed in it") {
  known_heads known("/v1/keys/");
  const auto seed = get("user:1", "Accept: */*\r\nIf-None-Match: \"1\"\r\n");
  learn(known, seed);
  std::mt19937 random(11);
  int matches = 0;
  for (int i = 0; i < 200'000; ++i) {
    auto bytes = seed;
    for (auto n = random() % 3; n > 0; --n) {
      const auto at = 13 + random() % (i % 2 == 0 ? 7 : bytes.size() - 13);
      if (random() % 3 == 0) bytes.insert(at, 1, static_cast<char>(random()));
      else bytes[at] = static_cast<char>(random());
    }
    const auto found = known.find(bytes, false);
    if (found.like == nullptr) continue;
    ++matches;
    request_head gate;
    std::size_t scanned = 0;
    REQUIRE(parse_request_head(bytes, gate, scanned).state == head_state::complete);
    REQUIRE(gate.size == found.size);
    REQUIRE(gate.target == "/v1/keys/" + std::string(found.key));
    REQUIRE(gate.fields == found.fields);
  }
  CHECK(matches > 20'000);
}

TEST_CASE("the fast answer is the general one, byte for byte") {
  const core::wall_time t0{1'700'000'000'000ms};
  engine::loaded given;
  given.body = GENERATE(as<std::string>{}, "", "{\"a\":1}");
  given.content_type = GENERATE(as<std::string>{}, "", "application/json");
  given.content_encoding = GENERATE(as<std::string>{}, "", "gzip");
  core::policy rules;
  rules.ttl = 100s;
  const auto value = engine::compose(given, rules, nullptr, t0, 1ms, 1).value;
  const bool unchanged = GENERATE(false, true);
  for (const auto passed : {0ms, 999ms, 1000ms, 99'999ms}) {
    http::answer a;
    a.status = unchanged ? 304 : 200;
    if (!unchanged && !given.content_type.empty()) a.add("Content-Type", given.content_type);
    if (!unchanged && !given.content_encoding.empty()) a.add("Content-Encoding", given.content_encoding);
    a.add("ETag", value->content().etag);
    const auto age = std::chrono::floor<std::chrono::seconds>(passed).count();
    const auto left = std::chrono::floor<std::chrono::seconds>(100s - passed).count();
    a.add("Age", std::to_string(age));
    a.add("Cache-Control", "max-age=" + std::to_string(left));
    a.add("Cache-Status", "asidecar; hit; ttl=" + std::to_string(left) + "; detail=L1");
    if (!unchanged) a.text = given.body;
    std::string general;
    http::append_head(general, a, "Date: now\r\n", true, true);
    if (!unchanged) general.append(given.body);
    std::string fast;
    REQUIRE(http::append_hit_head(fast, "Date: now\r\n", value->content(), t0 + passed, unchanged, "L1"));
    if (!unchanged) fast.append(given.body);
    CHECK(fast == general);
  }
}
