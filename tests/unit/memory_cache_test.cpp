#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "daemon/engine/bucket_index.hpp"
#include "daemon/engine/memory_cache.hpp"
#include "daemon/engine/profiles.hpp"
#include "daemon/engine/shared_state.hpp"

using namespace asidecar;
using namespace asidecar::engine;
using namespace std::chrono_literals;

namespace {

const core::wall_time t0{std::chrono::milliseconds(1'700'000'000'000)};

struct keyed {
  std::uint64_t hash;
  int key;
};
struct hash_of_keyed {
  std::uint64_t operator()(const keyed& k) const noexcept { return k.hash; }
};

std::uint64_t mixed(int key) { return XXH3_64bits(&key, sizeof key); }

// Grows and shrinks an index beside a std::map, and compares them.
void compare(std::uint64_t (*hash_of)(int), int keys, int steps) {
  bucket_index<keyed, hash_of_keyed> index;
  std::map<int, keyed> held;
  std::mt19937 random(7);
  for (int i = 0; i < steps; ++i) {
    const int key = static_cast<int>(random() % static_cast<unsigned>(keys));
    const bool growing = i / (steps / 6) % 2 == 0;
    const auto hash = hash_of(key);
    auto* const found = index.find(hash, [key](const keyed& k) { return k.key == key; });
    const auto at = held.find(key);
    REQUIRE((found != nullptr) == (at != held.end()));
    if (found != nullptr) REQUIRE(found == &at->second);
    const bool add = random() % 10 < (growing ? 9U : 1U);
    if (add && found == nullptr) index.insert(hash, &held.emplace(key, keyed{hash, key}).first->second);
    if (!add && found != nullptr) {
      index.erase(hash, found);
      held.erase(at);
    }
    REQUIRE(index.size() == held.size());
  }
  for (auto& [key, k] : held) REQUIRE(index.find(k.hash, [key = key](const keyed& other) { return other.key == key; }) == &k);
  while (!held.empty()) {
    index.erase(held.begin()->second.hash, &held.begin()->second);
    held.erase(held.begin());
  }
  CHECK(index.size() == 0);
  CHECK(index.find(hash_of(1), [](const keyed&) { return true; }) == nullptr);
}

value_ptr value_with(const std::function<void(proto::record&)>& change) {
  proto::record r;
  r.created_ms = t0.time_since_epoch().count();
  r.fresh_ms = 10'000;
  r.stale_while_revalidate_ms = 20'000;
  r.stale_if_error_ms = 30'000;
  r.load_time_us = 12'345;
  r.content_type = "application/json";
  r.body = "{}";
  change(r);
  return value::encode(r);
}

}  // namespace

TEST_CASE("the index finds what a map finds, as it grows and shrinks") {
  compare([](int key) { return mixed(key); }, 3000, 60'000);
  compare([](int key) { return mixed(key % 3); }, 200, 6000);           // hashes that are the same
  compare([](int key) { return static_cast<std::uint64_t>(key) << 32; }, 500, 6000);                // all in one bucket
  compare([](int key) { return static_cast<std::uint64_t>(key); }, 3000, 30'000);                   // one fingerprint
}

TEST_CASE("profiles are shared, counted, and gone with the last reference") {
  profiles all;
  const std::string json = "application/json";
  const profile a{{1, 2}, 10, 20, json, ""};
  const profile b{{1, 2}, 10, 20, "", json};  // the same bytes, otherwise divided
  const auto first = all.acquire(a);
  CHECK(all.acquire(a) == first);
  const auto second = all.acquire(b);
  CHECK(second != first);
  CHECK(all.acquire(a) == first);
  CHECK(all.at(first).content_type == json);
  CHECK(all.at(second).content_encoding == json);
  const auto full = all.bytes();
  all.release(first);
  all.release(first);
  CHECK(all.bytes() == full);
  all.release(first);
  CHECK(all.bytes() < full);
  CHECK(all.acquire({{2, 2}, 10, 20, json, ""}) == first);  // its number serves again
  CHECK(all.at(first).owner.generation == 2);
  all.release(first);
  all.release(second);
  CHECK(all.bytes() == 0);
}

TEST_CASE("L1 gives back all of a value") {
  fences fence;
  memory_cache l1(1 << 20);
  const auto round_trip = [&](const std::function<void(proto::record&)>& change) {
    const auto v = value_with(change);
    REQUIRE(l1.insert("k", v->content(), {t0 + 10s, t0 + 9s}, fence, fence.take("k"), {1, 3}));
    const auto check = [&](const proto::record& held) {
      const auto& given = v->content();
      CHECK(held.body == given.body);
      CHECK(held.body_size == given.body.size());
      CHECK(held.negative == given.negative);
      CHECK(held.created_ms == given.created_ms);
      CHECK(held.fresh_ms == v->life().fresh_for.count());
      CHECK(held.stale_while_revalidate_ms == given.stale_while_revalidate_ms);
      CHECK(held.stale_if_error_ms == given.stale_if_error_ms);
      CHECK(held.etag == given.etag);
      CHECK(held.content_type == given.content_type);
      CHECK(held.content_encoding == given.content_encoding);
      CHECK(held.origin_etag == given.origin_etag);
      CHECK(held.last_modified == given.last_modified);
      CHECK(held.load_time_us <= given.load_time_us);
      CHECK(given.load_time_us - held.load_time_us <= given.load_time_us >> 16);
    };
    bool used = false;
    const auto got = l1.use_calm("k", t0, fence, 1, [&](const proto::record& held, std::uint32_t route) {
      CHECK(route == 3);
      check(held);
      return used = true;
    });
    CHECK(got == memory_cache::glance::used);
    CHECK(used);
    const auto found = l1.find("k", t0, fence).value;
    REQUIRE(found);
    l1.erase("k");
    check(found->content());  // outlives the entry
    const auto again = value::decode(found->encoded());
    REQUIRE(again);
    check(again->content());
  };
  round_trip([](proto::record&) {});
  round_trip([](proto::record& r) { r.etag = "\"0123456789abcdef\""; });
  round_trip([](proto::record& r) { r.etag = "\"0123456789ABCDEF\""; });
  round_trip([](proto::record& r) { r.etag = "\"0123456789abcde \""; });
  round_trip([](proto::record& r) { r.etag = "\"-123456789abcdef\""; });
  round_trip([](proto::record& r) { r.etag = "W/\"x\""; r.origin_etag = "W/\"x\""; r.last_modified = "Sun, 06 Nov 1994 08:49:37 GMT"; });
  round_trip([](proto::record& r) { r.etag = "\"0000000000000000\""; r.last_modified = "Sun, 06 Nov 1994 08:49:37 GMT"; });
  round_trip([](proto::record& r) { r.content_encoding = "gzip"; r.content_type = ""; r.body = ""; });
  round_trip([](proto::record& r) { r.fresh_ms = std::int64_t(1) << 50; r.stale_if_error_ms = std::int64_t(1) << 50; });
  round_trip([](proto::record& r) { r.load_time_us = UINT32_MAX; });
  round_trip([](proto::record& r) { r.load_time_us = 131'071; });
  round_trip([](proto::record& r) { r.expired_at_ms = r.created_ms + 500; });
  CHECK(l1.bytes() == 0);
}

TEST_CASE("L1: a value marked stale keeps its tags, and is stale from then on") {
  shared_state shared(1 << 20);
  auto& l1 = shared.l1;
  const std::vector<std::string> tags{"people", "user:1"};
  REQUIRE(l1.insert("k", value_with([](proto::record&) {})->content(), {t0 + 60s, t0 + 9s}, shared.fence, shared.fence.take("k", tags), {1, 0}));
  CHECK_FALSE(l1.mark_stale("none", t0));
  CHECK(l1.mark_stale("k", t0 + 2s));
  CHECK(l1.find("k", t0 + 2s, shared.fence).value->life().freshness_left(t0 + 2s) == 0ms);
  CHECK(l1.mark_stale("k", t0 + 5s));
  CHECK(l1.find("k", t0 + 5s, shared.fence).value->life().fresh_for == 2s);  // it was stale before
  shared.forget_tag("people");
  CHECK(l1.find("k", t0 + 5s, shared.fence).value == nullptr);
}

TEST_CASE("L1: what was held before all the epochs went round is not current again") {
  fences fence;
  memory_cache l1(1 << 20);
  REQUIRE(l1.insert("k", value_with([](proto::record&) {})->content(), {t0 + 60s, t0 + 9s}, fence, fence.take("k"), {1, 0}));
  for (std::uint32_t i = 0; i < 1U << 22; ++i) l1.distrust();
  CHECK(l1.find("k", t0, fence).value == nullptr);
}

TEST_CASE("L1: many kinds of values count, and are bounded too") {
  fences fence;
  memory_cache l1(1 << 20);
  for (int i = 0; i < 20'000; ++i) {
    const auto key = "k" + std::to_string(i);
    const auto type = "text/" + std::to_string(i) + std::string(100, 'x');
    l1.insert(key, value_with([&](proto::record& r) { r.content_type = type; })->content(), {t0 + 60s, t0 + 9s}, fence, fence.take(key), {1, 0});
  }
  CHECK(l1.bytes() <= 1 << 20);
  CHECK(l1.entries() < 4000);
  CHECK(l1.entries() > 1000);
}
