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
constexpr std::size_t copied_max = 16 * 1024;
constexpr std::string_view get_key_start = "GET /v1/keys/";

bool etag_matches(bool asked, std::string_view fields, std::string_view etag) {
  if (!asked || etag.empty()) return false;
  bool matched = false;
  proto::for_each_field(fields, "if-none-match", [&](std::string_view list) {
    while (!list.empty() && !matched) {
      // An entity-tag is quoted, and a comma may stand inside its quotes.
      const auto open = list.find('"');
      const auto close = open == std::string_view::npos ? open : list.find('"', open + 1);
      if (proto::trim(list.substr(0, std::min(open, list.size()))).starts_with('*')) matched = true;
      if (close == std::string_view::npos) break;
      matched = matched || list.substr(open, close - open + 1) == etag;
      list.remove_prefix(close + 1);
      if (const auto comma = list.find(','); comma != std::string_view::npos) list.remove_prefix(comma + 1);
    }
  });
  return matched;
}

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

void data_api::prefetch(std::string_view bytes) {
  if (awaited_count_ == awaited_.size() || !service_->cache->worth_prefetching() || !bytes.starts_with(get_key_start)) return;
  const auto key = bytes.substr(get_key_start.size(), key_bytes_max + 1);
  if (const auto end = key.find(' '); end != std::string_view::npos) awaited_[awaited_count_++] = service_->cache->prefetch_index(key.substr(0, end));
}

// A request without anything that needs thought: GET in HTTP/1.1 on a connection that is kept, no body, no Cache-Control, a key that is
// spelled as it is named, and of somebody who may ask.
struct data_api::plain_get {
  std::string_view key;
  std::string_view fields;
  std::size_t head_size;
  bool has_if_none_match;
};

data_api::outcome data_api::answer_known(std::string_view bytes, bool over_tcp, std::string& out, continuation& then) {
  while (awaited_count_ > 0) service_->cache->prefetch_entry(awaited_[--awaited_count_]);
  const auto known = known_.find(bytes, over_tcp);
  if (known.like == nullptr) return {};
  auto done = answer_plain({known.key, known.fields, known.size, known.like->has_if_none_match}, out, then);
  done.tried = true;
  return done;
}

// The fast way of a fresh hit. Everything that is not plain is left to those behind it.
data_api::outcome data_api::answer_plain(const plain_get& r, std::string& out, continuation& then) {
  const auto started = worker_.time->now();  // not the turn's: what it has cost so far is not this request's
  const auto now = worker_.sockets.now().wall;
  engine::route_stats* stats = nullptr;
  const auto got = service_->cache->hit(r.key, now, [&](const proto::record& value, const engine::route& of) {
    if (value.body.size() > copied_max) return false;  // not under a mutex
    const bool unchanged = etag_matches(r.has_if_none_match, r.fields, value.etag);
    if (!append_hit_head(out, date_.at(now), value, now, unchanged, "L1")) return false;
    if (!unchanged) out.append(value.body);
    stats = of.stats;
    return true;
  });
  outcome done;
  if (got == engine::cache::glance::used) {
    stats->results[static_cast<std::size_t>(read_result::l1)].add();
    stats->latency.observe(worker_.time->now() - started);
    done.answered = r.head_size;
  } else if (got == engine::cache::glance::absent && service_->cache->has_l2()) {
    done.begun = begin_l2(r, then);
  }
  return done;
}

// A plain request while Redis is asked. Nothing of it is used after `then_` was told: that may end it.
class data_api::l2_hit final : public under_way, private engine::l2_store::record_reader {
 public:
  l2_hit(data_api& api, continuation& then, const plain_get& r, const engine::route& of)
      : api_(api), service_(api.service_), then_(then), key_(r.key), head_size_(r.head_size), has_if_none_match_(r.has_if_none_match),
        fields_(r.fields), started_(api.worker_.sockets.now().steady), route_(of), stamp_(service_->cache->stamp_of(key_)),
        read_(service_->cache->begin_l2(key_, *this)) {}

  bool is_about(const service_ptr& s, std::string_view key) const noexcept { return service_ == s && key_ == key; }
  std::optional<engine::cache::seen_in_store> seen{};  // when undecided

 private:
  void on_record(bool up, std::string_view bytes) override {
    const auto now = api_.worker_.sockets.now();
    auto record = bytes.empty() ? std::nullopt : proto::decode_record(bytes);
    if (!record || !engine::cache::fresh_and_calm(*record, route_, now.wall)) return leave(up, bytes);
    const bool unchanged = etag_matches(has_if_none_match_, fields_, record->etag);
    auto& out = api_.l2_answer_;
    out.clear();
    if (!append_hit_head(out, api_.date_.at(now.wall), *record, now.wall, unchanged, "L2")) return leave(up, bytes);
    const bool apart = unchanged || record->body_size > copied_max;  // the body is not to stand in `out`
    const bool to_l1 = service_->cache->has_l1();
    std::string inflated;
    if (record->compressed && (!unchanged || to_l1)) {
      auto& into = apart ? inflated : out;
      const auto from = into.size();
      if (!proto::append_inflated(into, *record, engine::body_bytes_max)) return leave(up, {});
      record->compressed = false;
      record->body = std::string_view(into).substr(from);
    } else if (!apart) {
      out.append(record->body);
    }
    if (to_l1) service_->cache->keep_in_l1(key_, route_, *record, stamp_);
    auto& stats = *route_.stats;
    const auto took = now.steady - started_;
    if (!then_.answered(head_size_, out, apart && !unchanged ? record->body : std::string_view())) return;
    stats.results[static_cast<std::size_t>(read_result::l2)].add();
    stats.latency.observe(took);
  }
  // To the general way, with what Redis answered.
  void leave(bool up, std::string_view bytes) {
    if (up) seen = engine::cache::seen_in_store{{true, engine::value::decode(std::string(bytes))}, stamp_};
    then_.undecided();
  }

  data_api& api_;
  const service_ptr service_;
  continuation& then_;
  const std::string key_;
  const std::size_t head_size_;
  const bool has_if_none_match_;
  const std::string_view fields_;  // in the session's buffer
  const runtime::steady_time started_;
  const engine::route& route_;
  const engine::fences::stamp stamp_;
  const std::unique_ptr<engine::l2_store::pending_read> read_;
};

std::unique_ptr<under_way> data_api::begin_l2(const plain_get& r, continuation& then) {
  const auto found = find_route(*service_, r.key);
  if (found.problem || found.respelled || !service_->cache->can_begin_l2(*found.route)) return nullptr;
  return std::make_unique<l2_hit>(*this, then, r, *found.route);
}

data_api::outcome data_api::answer_now(const request& r, bool keep_alive, std::string& out, continuation& then) {
  const auto& head = r.head;
  const bool reads = head.method == http_method::get || head.method == http_method::head;
  if (!reads || !head.target.starts_with(keys_path) || !head.directives.none()) return {};
  const auto key = head.target.substr(keys_path.size());
  if (key.find('%') != std::string_view::npos) return {};  // decoded on the general path
  const auto started = worker_.time->now();
  if (service_->who->refuse(head, r.over_tcp, true)) return {};
  if (keep_alive && !r.tried && head.http_1_1 && head.method == http_method::get) {
    known_.learn(r.bytes, head, r.over_tcp);
    auto done = answer_plain({key, head.fields, head.size, head.has_if_none_match}, out, then);
    if (done.answered > 0 || done.begun) return done;
  }
  const auto found = find_route(*service_, key);
  if (found.problem || !found.route->forward_headers.empty()) return {};
  const auto got = service_->cache->peek(found.key, *found.route, [&] { return read_request_for(found, head); });
  if (!got) return {};
  const auto a = answer_for(head, *got);
  append_head(out, a, date_.at(worker_.sockets.now().wall), head.http_1_1, keep_alive);
  if (head.method == http_method::get && has_body(a.status)) out.append(a.body());
  count(*found.route->stats, got->counted, started);
  outcome done;
  done.answered = head.size;
  return done;
}

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
  std::optional<engine::cache::seen_in_store> seen;
  // Attempts are answer_plain()'s. The configuration may have changed since.
  if (auto* tried = dynamic_cast<l2_hit*>(r.attempt.get()); tried != nullptr && tried->is_about(s, found.key)) seen = std::move(tried->seen);
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
