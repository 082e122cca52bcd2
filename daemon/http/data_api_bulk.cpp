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

// Shared by the readers of one mget: they take keys in order until none is left.
struct data_api::gathering {
  service_ptr service;
  proto::request_head head;  // views into the request, which outlives the gathering
  std::vector<std::string> keys;
  std::vector<std::string> parts;
  std::size_t next = 0;
  std::size_t bytes = 0;
  std::size_t readers = 0;
  std::unique_ptr<runtime::alarm> done;
};

task<answer> data_api::mget(service_ptr s, const request& r) {
  const auto all = std::make_shared<gathering>();
  const auto body = parse_object(r.body);
  if (!body || body->size() != 1 || !body->contains("keys") || !strings_of(*body, "keys", all->keys))
    co_return problem(problems::bad_request, R"(expected a JSON object such as {"keys":["user:1"]})");
  if (all->keys.size() > keys_max) co_return problem(problems::bad_request, "at most 1000 keys in one call");
  std::sort(all->keys.begin(), all->keys.end());
  all->keys.erase(std::unique(all->keys.begin(), all->keys.end()), all->keys.end());
  all->service = s;
  all->head = r.head;
  all->parts.resize(all->keys.size());
  all->readers = std::min(all->keys.size(), reads_at_once);
  all->done = worker_.time->make_alarm();
  const auto readers = all->readers;
  for (std::size_t i = 0; i < readers; ++i) worker_.tasks.spawn(gather(all));
  while (all->readers > 0) co_await all->done->wait_until(runtime::steady_time::max());
  std::string out = R"({"results":{)";
  for (std::size_t i = 0; i < all->keys.size(); ++i) {
    if (i > 0) out.push_back(',');
    out.push_back('"');
    proto::append_json_escaped(out, all->keys[i]);
    out.append("\":").append(all->parts[i]);
    std::string().swap(all->parts[i]);
  }
  out.append("}}");
  co_return json(std::move(out));
}

task<void> data_api::gather(std::shared_ptr<gathering> all) {
  while (all->next < all->keys.size()) {
    const auto i = all->next++;
    if (all->bytes > answer_bytes_max) {
      append_error(all->parts[i], problem(problems::too_large, "the answer is larger than 64 MiB; ask for fewer keys at once"));
      continue;
    }
    co_await gather_one(all->service, all->keys[i], all->parts[i], all->head);
    all->bytes += all->parts[i].size();
  }
  if (--all->readers == 0) all->done->ring();
}

task<void> data_api::gather_one(service_ptr s, std::string key, std::string& out, const proto::request_head& head) {
  const auto found = find_route(*s, key);
  if (found.problem) {
    append_error(out, *found.problem);
    co_return;
  }
  const auto started = worker_.time->now();
  auto asked = read_request_for(found, head);
  const auto got = co_await s->cache->read(std::move(asked));
  count(*found.route->stats, got.counted, started);
  proto::request_head plain;
  const auto a = answer_for(plain, got);
  if (a.status != 200) {
    append_error(out, a);
    co_return;
  }
  out.append(R"({"status":200,)");
  if (is_json(a.body())) out.append(R"("value":)").append(a.body());
  else out.append(R"("base64":")").append(proto::base64(a.body())).append("\"");
  out.push_back('}');
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
  if (mode != nullptr && mode->get_string() == "expire") co_return problem(problems::not_implemented, "mode expire is not yet supported; purge is");
  if (!tags.empty()) co_return problem(problems::not_implemented, "tags are not yet supported; keys and patterns are");
  if (keys.size() > keys_max || patterns.size() > keys_max) co_return problem(problems::bad_request, "at most 1000 keys and 1000 patterns in one call");
  for (const auto& key : keys)
    if (auto wrong = refused_key(*s, key)) co_return std::move(*wrong);
  for (const auto& p : patterns)
    if (p.empty() || p.size() > pattern_bytes_max) co_return problem(problems::bad_request, "a pattern has 1 to 1024 bytes");
  for (auto& key : keys) {
    const auto found = find_route(*s, key);
    if (found.route == nullptr) continue;  // no longer, perhaps; it may be cached all the same
    if (!found.route->forward_headers.empty()) patterns.push_back(variants_of(found.key));
    if (found.respelled) key = *found.respelled;
  }
  std::uint64_t total = 0;
  std::optional<std::uint64_t> removed = 0;
  if (!keys.empty()) removed = co_await s->cache->invalidate(keys);
  for (std::size_t i = 0; removed && i < patterns.size(); ++i) {
    total += *removed;
    removed = co_await s->cache->invalidate_matching(patterns[i]);
  }
  if (!removed) co_return store_is_down();
  co_return json("{\"invalidated\":" + std::to_string(total + *removed) + "}");
}

}  // namespace asidecar::http
