#include "daemon/http/data_api.hpp"

#include <algorithm>

#include "daemon/http/key_text.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;
using engine::load_error;
using engine::read_answer;
using engine::read_result;
using proto::http_method;

constexpr std::uint64_t json_body_max = 1U << 20;

}  // namespace

answer data_api::error_answer(const load_error& e) {
  const auto retry = [&](answer a) {
    a.add("Retry-After", std::to_string(std::max<std::int64_t>(1, e.retry_after.count())));
    return a;
  };
  switch (e.what) {
    case load_error::kind::failed: return problem(problems::origin_failed, "the origin answered with an error or not at all");
    case load_error::kind::timeout: return problem(problems::origin_timeout, "the origin did not answer in time");
    case load_error::kind::open: return retry(problem(problems::origin_open, "the origin failed repeatedly and is left alone for a while"));
    case load_error::kind::overloaded: return retry(problem(problems::overloaded, "too many loads of this origin are waiting"));
    case load_error::kind::bad_key: return problem(problems::bad_key, "the origin cannot take a value of this key: wrong type or out of range");
  }
  return problem(problems::internal, "an error without a name");
}

std::unique_ptr<answer> data_api::refused_key(const data_service& s, std::string_view key) {
  if (const auto* wrong = wrong_with_key(key); wrong != nullptr) return std::make_unique<answer>(problem(problems::bad_key, wrong));
  const bool internal = s.prefix.empty() ? proto::names_internal(key) : proto::names_internal(std::string(s.prefix).append(key));
  if (internal) return std::make_unique<answer>(problem(problems::bad_key, "keys that fall under 'asidecar:' in Redis are the daemon's own"));
  return nullptr;
}

data_api::found_route data_api::find_route(const data_service& s, std::string_view key) const {
  found_route found;
  found.key = key;
  found.problem = refused_key(s, key);
  if (found.problem) return found;
  const core::key_param* bad = nullptr;
  for (const auto& r : s.cache->routes) {
    std::size_t bad_param = 0;
    switch (r.key.match(found.key, found.captures, bad_param)) {
      case core::key_template::match_result::yes: {
        found.route = &r;
        auto other = s.raw_values ? std::nullopt : r.key.respelled(found.captures);
        if (!other) return found;
        // The one spelling of it may be an earlier route's.
        auto again = find_route(s, *other);
        again.respelled = std::make_unique<const std::string>(std::move(*other));
        again.key = *again.respelled;
        if (again.route != nullptr) again.route->key.match(again.key, again.captures, bad_param);
        return again;
      }
      case core::key_template::match_result::bad_value:
        if (bad == nullptr) bad = &r.key.params()[bad_param];
        break;
      case core::key_template::match_result::no: break;
    }
  }
  if (bad == nullptr) found.problem = std::make_unique<answer>(problem(problems::no_route, "no route matches this key"));
  else found.problem = std::make_unique<answer>(problem(problems::bad_key, "the key's {" + bad->name + (bad->type == core::param_type::integer ? "} is not a 64-bit integer" : "} is not a UUID")));
  return found;
}

engine::read_request data_api::read_request_for(const found_route& found, const proto::request_head& head) const {
  engine::read_request out;
  out.to = found.route;
  out.key = found.key;
  for (std::size_t i = 0; i < found.captures.size; ++i) out.params.emplace_back(found.captures.values[i]);
  for (const auto& name : found.route->forward_headers) {
    std::string value;
    proto::for_each_field(head.fields, name, [&](std::string_view v) { value.append(value.empty() ? "" : ", ").append(v); });
    if (value.empty()) continue;
    append_variant(out.key, name, value);
    out.headers.emplace_back(name, std::move(value));
  }
  out.directives = head.directives;
  return out;
}

std::optional<engine::read_request> data_api::request_for(const data_service& s, std::string_view key) const {
  const auto found = find_route(s, key);
  if (found.problem) return std::nullopt;
  return read_request_for(found, proto::request_head());
}

data_api::data_api(runtime::worker& w, engine::route_stats& unrouted) : worker_(w), unrouted_(unrouted), known_(keys_path) {}

std::optional<answer> data_api::refuse(const request& r, std::uint64_t& body_bytes_max) {
  const auto& head = r.head;
  if (auto a = service_->who->refuse(head, r.over_tcp, true)) return a;
  body_bytes_max = json_body_max;
  const bool has_content = head.method == http_method::put || head.method == http_method::post;
  if (has_content && !head.chunked && !head.content_length)
    return problem(problems::length_required, "PUT and POST need Content-Length or chunked Transfer-Encoding");
  if (head.method != http_method::put || !head.target.starts_with(keys_path)) return std::nullopt;
  const auto key = proto::percent_decode(head.target.substr(keys_path.size()));
  if (!key) return std::nullopt;
  const auto found = find_route(*service_, *key);
  if (found.route != nullptr && found.route->put) body_bytes_max = found.route->rules.max_value;
  return std::nullopt;
}

task<answer> data_api::handle(const request& r) {
  const auto s = service_;
  const auto target = r.head.target;
  const auto path = target.substr(0, target.find('?'));
  if (target.starts_with(keys_path)) co_return co_await handle_key(s, r);
  if (path == "/v1/mget" || path == "/v1/invalidate") {
    if (r.head.method != http_method::post) co_return not_allowed("POST");
    if (path == "/v1/mget") co_return co_await mget(s, r);
    co_return co_await invalidate(s, r);
  }
  if (target.starts_with(records_path)) co_return co_await write_record(s, r);
  co_return problem(problems::not_found, "no such path; see /v1/keys/{key}, /v1/records/{key}, /v1/mget and /v1/invalidate");
}

task<answer> data_api::handle_key(service_ptr s, const request& r) {
  const auto method = r.head.method;
  const bool reads = method == http_method::get || method == http_method::head;
  if (!reads && method != http_method::put && method != http_method::delete_) co_return not_allowed("GET, HEAD, PUT, DELETE");
  const auto key = proto::percent_decode(r.head.target.substr(keys_path.size()));  // `found` holds views into it
  const auto started = worker_.time->now();
  if (!key) {
    if (reads) count(unrouted_, read_result::error, started);
    co_return problem(problems::bad_key, "the key holds a '%' that is not followed by two hex digits");
  }
  auto found = find_route(*s, *key);
  if (found.problem) {
    if (reads) count(unrouted_, read_result::error, started);
    co_return std::move(*found.problem);
  }
  if (reads) co_return co_await get_key(s, r, found);
  if (method == http_method::put) co_return co_await put_key(s, r, found);
  co_return co_await delete_key(s, found);
}

task<answer> data_api::get_key(service_ptr s, const request& r, const found_route& found) {
  const auto started = worker_.time->now();
  auto& stats = *found.route->stats;
  auto asked = read_request_for(found, r.head);
  auto seen = seen_by(r.attempt.get(), s, found.key);
  const auto got = co_await s->cache->read(std::move(asked), std::move(seen));
  auto a = answer_for(r.head, got);
  count(stats, got.counted, started);
  co_return a;
}

answer data_api::answer_for(const proto::request_head& head, const read_answer& got) const {
  answer a;
  std::string status;
  proto::append_cache_status(status, got.status);
  if (got.error) {
    a = error_answer(*got.error);
  } else if (got.not_cached) {
    a = problem(problems::not_cached, "only-if-cached, and nothing usable is cached");
  } else if (!got.value && got.status.detail == "redis-down") {
    a = store_is_down();  // a value that only Redis can hold is not absent: it cannot be seen
  } else if (!got.value || got.value->life().negative) {
    a = problem(problems::no_record, "there is no such record");
  } else {
    const auto now = worker_.time->wall_now();
    const auto& life = got.value->life();
    const auto& content = got.value->content();
    const bool unchanged = etag_matches(head.has_if_none_match, head.fields, content.etag);
    a.status = unchanged ? 304 : 200;
    if (!unchanged && !content.content_type.empty()) a.add("Content-Type", content.content_type);
    if (!unchanged && !content.content_encoding.empty()) a.add("Content-Encoding", content.content_encoding);
    if (!content.etag.empty()) a.add("ETag", content.etag);
    a.add("Age", std::to_string(life.age(now).count()));
    const auto left = std::chrono::floor<std::chrono::seconds>(life.freshness_left(now)).count();
    a.add("Cache-Control", "max-age=" + std::to_string(std::max<std::int64_t>(0, left)));
    if (!unchanged) a.value = got.value;
  }
  a.add("Cache-Status", status);
  return a;
}

void data_api::count(engine::route_stats& stats, read_result result, runtime::steady_time started) {
  stats.results[static_cast<std::size_t>(result)].add();
  stats.latency.observe(worker_.time->now() - started);
}

namespace {

// What is wrong with a PUT; null: nothing.
std::unique_ptr<answer> refused_put(const engine::route& r, const request& asked) {
  const auto refuse = [](answer a) { return std::make_unique<answer>(std::move(a)); };
  if (!r.put) return refuse(not_allowed(r.load ? "GET, HEAD, DELETE" : "GET, HEAD"));
  if (asked.body.size() > r.rules.max_value) return refuse(problem(problems::too_large, "the value is larger than max_value"));
  if (asked.head.content_type.size() > 255) return refuse(problem(problems::bad_request, "the Content-Type is longer than 255 bytes"));
  std::string_view unheeded;
  for (const std::string_view name : {"if-match", "if-none-match", "if-unmodified-since", "content-range"})
    proto::for_each_field(asked.head.fields, name, [&](std::string_view) { unheeded = name; });
  if (!unheeded.empty()) return refuse(problem(problems::bad_request, "PUT stores the value whatever is there: " + std::string(unheeded) + " is not understood here"));
  bool long_encoding = false;
  proto::for_each_field(asked.head.fields, "content-encoding", [&](std::string_view value) { long_encoding = value.size() > 255; });
  if (long_encoding) return refuse(problem(problems::bad_request, "the Content-Encoding is longer than 255 bytes"));
  return nullptr;
}

std::unique_ptr<engine::loaded> given_by(const request& asked) {
  auto given = std::make_unique<engine::loaded>();
  given->body = asked.body;
  given->content_type = asked.head.content_type;
  proto::for_each_field(asked.head.fields, "content-encoding", [&](std::string_view value) { given->content_encoding = value; });
  return given;
}

answer answer_to_put(engine::cache::put_outcome done, std::uint64_t largest_in_l1) {
  switch (done) {
    case engine::cache::put_outcome::done: break;
    case engine::cache::put_outcome::unconfirmed: return store_is_down();
    case engine::cache::put_outcome::too_large:
      return problem(problems::too_large, "the value is larger than l1, the only tier there is, takes: with its key, " + std::to_string(largest_in_l1) + " bytes");
  }
  return no_content();
}

}  // namespace

// Its frame, and cache::put()'s, stay below a KiB: malloc carves larger ones out of what entries of L1 could have, and holes stay between them.
task<answer> data_api::put_key(service_ptr s, const request& r, const found_route& found) {
  if (auto refused = refused_put(*found.route, r)) co_return std::move(*refused);
  auto to = read_request_for(found, r.head);
  auto given = given_by(r);
  const auto done = co_await s->cache->put(std::move(to), std::move(given));
  co_return answer_to_put(done, s->cache->largest_in_l1());
}

task<answer> data_api::delete_key(service_ptr s, const found_route& found) {
  if (!found.route->forward_headers.empty()) {
    const auto variants = co_await s->cache->invalidate_variants(std::vector<std::string>(1, std::string(found.key)), engine::cache::mode::purge);
    if (!variants) co_return store_is_down();
  }
  const auto removed = co_await s->cache->invalidate(std::vector<std::string>(1, std::string(found.key)), engine::cache::mode::purge);
  co_return removed ? no_content() : store_is_down();
}

}  // namespace asidecar::http
