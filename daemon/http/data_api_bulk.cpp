// /v1/mget and /v1/invalidate: calls over several keys, with JSON bodies.
#include <algorithm>
#include <boost/json.hpp>

#include "daemon/http/data_api.hpp"
#include "daemon/http/key_text.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;
constexpr std::size_t keys_max = 1000;
constexpr std::size_t pattern_bytes_max = 1024;
constexpr std::size_t tag_bytes_max = 2048;
constexpr std::size_t reads_at_once = 64;
constexpr std::size_t answer_bytes_max = std::size_t(64) << 20;

// The member `name` of `object` as a list of strings; false when it is there and is not one.
bool strings_of(const boost::json::object& object, std::string_view name, std::vector<std::string>& out) {
  const auto* member = object.if_contains(boost::json::string_view(name.data(), name.size()));
  if (member == nullptr) return true;
  if (!member->is_array()) return false;
  for (const auto& item : member->get_array()) {
    if (!item.is_string()) return false;
    out.emplace_back(item.get_string().data(), item.get_string().size());
  }
  return true;
}

std::optional<boost::json::object> parse_object(std::string_view body) {
  boost::json::error_code ec;
  boost::json::parse_options limits;
  limits.max_depth = 16;
  auto parsed = boost::json::parse(boost::json::string_view(body.data(), body.size()), ec, {}, limits);
  if (ec || !parsed.is_object()) return std::nullopt;
  return std::move(parsed.get_object());
}

bool is_json(std::string_view text) {
  boost::json::error_code ec;
  boost::json::parse_options limits;
  limits.max_depth = 1000;
  boost::json::stream_parser p({}, limits);
  p.write(text.data(), text.size(), ec);
  if (!ec) p.finish(ec);
  return !ec;
}

void append_error(std::string& out, const answer& a) {
  out.append(R"({"status":)").append(std::to_string(a.status));
  if (a.status != 404) out.append(R"(,"error":)").append(a.text);
  out.append("}");
}

}  // namespace

// Some keys of an mget, read at the same time. Shared by their readers.
struct data_api::gathering {
  service_ptr service;
  std::vector<found_route> routes;  // one per key, as the next two
  std::vector<std::optional<engine::cache::seen_in_store>> stored;
  std::vector<std::string> parts;
  std::size_t running = 0;
  std::unique_ptr<runtime::alarm> done;
};

task<answer> data_api::mget(service_ptr s, const request& r) {
  std::vector<std::string> keys;
  const auto body = parse_object(r.body);
  if (!body || body->size() != 1 || !body->contains("keys") || !strings_of(*body, "keys", keys))
    co_return problem(problems::bad_request, R"(expected a JSON object such as {"keys":["user:1"]})");
  if (keys.size() > keys_max) co_return problem(problems::bad_request, "at most 1000 keys in one call");
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::string out = R"({"results":{)";
  for (std::size_t from = 0; from < keys.size(); from += reads_at_once) {
    const std::span some(keys.begin() + static_cast<std::ptrdiff_t>(from), std::min(reads_at_once, keys.size() - from));
    std::vector<std::string> parts(some.size());
    if (out.size() <= answer_bytes_max) parts = co_await gather(s, some, r.head);
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (from + i > 0) out.push_back(',');
      out.push_back('"');
      proto::append_json_escaped(out, some[i]);
      out.append("\":");
      if (out.size() > answer_bytes_max || parts[i].empty()) append_error(out, problem(problems::too_large, "the answer is larger than 64 MiB; ask for fewer keys at once"));
      else out.append(parts[i]);
    }
  }
  out.append("}}");
  co_return json(std::move(out));
}

// The answers of a few keys: one look at the store for all, then each its own way.
task<std::vector<std::string>> data_api::gather(service_ptr s, std::span<const std::string> keys, const proto::request_head& head) {
  const auto all = std::make_shared<gathering>();
  all->service = s;
  all->parts.resize(keys.size());
  all->stored.resize(keys.size());
  all->done = worker_.time->make_alarm();
  std::vector<engine::read_request> requests;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    all->routes.push_back(find_route(*s, keys[i]));
    if (all->routes[i].problem) {
      append_error(all->parts[i], *all->routes[i].problem);
      continue;
    }
    requests.push_back(read_request_for(all->routes[i], head));
    places.push_back(i);
  }
  auto asked = requests;
  auto stored = co_await s->cache->look_in_store(std::move(asked));
  for (std::size_t i = 0; i < places.size(); ++i) all->stored[places[i]] = std::move(stored[i]);
  all->running = places.size();
  for (std::size_t i = 0; i < places.size(); ++i) worker_.tasks.spawn(gather_one(all, places[i], std::move(requests[i])));
  while (all->running > 0) co_await all->done->wait_until(runtime::steady_time::max());
  co_return std::move(all->parts);
}

task<void> data_api::gather_one(std::shared_ptr<gathering> all, std::size_t i, engine::read_request asked) {
  const auto started = worker_.time->now();
  auto& stats = *asked.to->stats;
  auto stored = std::move(all->stored[i]);
  const auto got = co_await all->service->cache->read(std::move(asked), std::move(stored));
  count(stats, got.counted, started);
  const proto::request_head plain;
  const auto a = answer_for(plain, got);
  auto& out = all->parts[i];
  if (a.status != 200) {
    append_error(out, a);
  } else {
    out.append(R"({"status":200,)");
    if (is_json(a.body())) out.append(R"("value":)").append(a.body());
    else out.append(R"("base64":")").append(proto::base64(a.body())).append("\"");
    out.push_back('}');
  }
  if (--all->running == 0) all->done->ring();
}

task<answer> data_api::invalidate(service_ptr s, const request& r) {
  const auto body = parse_object(r.body);
  std::vector<std::string> keys;
  std::vector<std::string> patterns;
  std::vector<std::string> tags;
  if (!body || !strings_of(*body, "keys", keys) || !strings_of(*body, "patterns", patterns) || !strings_of(*body, "tags", tags))
    co_return problem(problems::bad_request, R"(expected a JSON object such as {"keys":["user:1"],"patterns":["user:*"],"mode":"purge"})");
  for (const auto& member : *body) {
    const auto name = member.key();
    if (name != "keys" && name != "patterns" && name != "tags" && name != "mode")
      co_return problem(problems::bad_request, "unknown member '" + std::string(name.data(), std::min<std::size_t>(name.size(), 64)) + "'");
  }
  const auto* mode = body->if_contains("mode");
  if (mode != nullptr && (!mode->is_string() || (mode->get_string() != "purge" && mode->get_string() != "expire")))
    co_return problem(problems::bad_request, "mode is purge or expire");
  using invalidation = engine::cache::mode;
  const auto how = mode != nullptr && mode->get_string() == "expire" ? invalidation::expire : invalidation::purge;
  if (keys.size() > keys_max || patterns.size() > keys_max || tags.size() > keys_max)
    co_return problem(problems::bad_request, "at most 1000 keys, 1000 patterns and 1000 tags in one call");
  for (const auto& tag : tags)
    if (tag.empty() || tag.size() > tag_bytes_max || !proto::valid_utf8(tag)) co_return problem(problems::bad_request, "a tag has 1 to 2048 bytes of UTF-8");
  for (const auto& key : keys)
    if (auto wrong = refused_key(*s, key)) co_return std::move(*wrong);
  for (const auto& p : patterns)
    if (p.empty() || p.size() > pattern_bytes_max) co_return problem(problems::bad_request, "a pattern has 1 to 1024 bytes");
  std::vector<std::string> with_variants;
  for (auto& key : keys) {
    const auto found = find_route(*s, key);
    if (found.route == nullptr) continue;  // no longer, perhaps; it may be cached all the same
    if (!found.route->forward_headers.empty()) with_variants.emplace_back(found.key);
    if (found.respelled) key = *found.respelled;
  }
  std::uint64_t total = 0;
  if (!tags.empty()) {
    const auto removed = co_await s->cache->invalidate_tags(std::move(tags), how);
    if (!removed) co_return store_is_down();
    total += *removed;
  }
  if (!with_variants.empty()) {  // counted with their keys
    const auto removed = co_await s->cache->invalidate_variants(std::move(with_variants), how);
    if (!removed) co_return store_is_down();
  }
  if (!keys.empty()) {
    const auto removed = co_await s->cache->invalidate(std::move(keys), how);
    if (!removed) co_return store_is_down();
    total += *removed;
  }
  for (auto& pattern : patterns) {
    const auto removed = co_await s->cache->invalidate_matching(std::move(pattern), how);
    if (!removed) co_return store_is_down();
    total += *removed;
  }
  co_return json("{\"invalidated\":" + std::to_string(total) + "}");
}

}  // namespace asidecar::http
