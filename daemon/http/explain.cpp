// GET /v1/explain/{key} of the admin API: what each tier holds of a key.
#include <boost/json.hpp>

#include "daemon/http/data_api.hpp"
#include "daemon/http/key_text.hpp"

namespace asidecar::http {
namespace {

namespace json = boost::json;
namespace problems = proto::problems;

json::string text(std::string_view t) { return json::string(t.data(), t.size()); }

json::object describe(const engine::value& v, core::wall_time now) {
  const auto& life = v.life();
  const auto left = life.freshness_left(now).count();
  json::object out;
  out["state"] = left > 0 ? "fresh" : now < life.dead_at() ? "stale" : "dead";
  out["negative"] = life.negative;
  out["ageMs"] = (now - life.created).count();
  out["ttlMs"] = left;
  out["staleWhileRevalidateMs"] = life.stale_while_revalidate.count();
  out["staleIfErrorMs"] = life.stale_if_error.count();
  out["loadTimeUs"] = life.load_time.count();
  out["bytes"] = v.body().size();
  out["etag"] = text(v.content().etag);
  out["contentType"] = text(v.content().content_type);
  return out;
}

std::string_view name_of(core::standing s) {
  switch (s) {
    case core::standing::current: return "current";
    case core::standing::unheard: return "unheard";
    case core::standing::outdated: return "outdated";
  }
  return "";
}

}  // namespace

task<answer> data_api::explain(const request& r, std::string_view path) {
  const auto s = service_;
  const auto key = proto::percent_decode(r.head.target.substr(path.size()));
  if (!s || !key) co_return problem(problems::bad_key, "the key holds a '%' that is not followed by two hex digits");
  auto found = find_route(*s, *key);
  if (found.problem) co_return std::move(*found.problem);
  auto asked = read_request_for(found, r.head);
  const auto cached_key = asked.key;
  const auto e = co_await s->cache->explain(std::move(asked));
  const auto now = worker_.time->wall_now();
  json::object out;
  out["key"] = text(cached_key.substr(0, cached_key.find('\0')));
  out["route"] = text(found.route->name);
  out["origin"] = found.route->origin.empty() ? json::value(nullptr) : json::value(text(found.route->origin));
  json::array tags;
  for (const auto& tag : e.tags)
    if (!tag.starts_with('\0')) tags.push_back(text(tag));
  out["tags"] = std::move(tags);
  out["loading"] = e.loading;
  out["l1"] = nullptr;
  if (e.l1) {
    auto held = describe(*e.l1, now);
    held["standing"] = text(name_of(e.l1_standing));
    out["l1"] = std::move(held);
  }
  out["l2"] = nullptr;
  out["lock"] = nullptr;
  if (e.store_configured) {
    out["redis"] = e.l2.up ? "up" : "down";
    out["redisKey"] = text(s->prefix + cached_key);
    if (e.l2.found) {
      auto held = describe(*e.l2.found, now);
      held["storedBytes"] = e.stored.bytes;
      held["redisTtlMs"] = e.stored.value_ttl_ms ? json::value(*e.stored.value_ttl_ms) : json::value(nullptr);
      out["l2"] = std::move(held);
    }
    if (e.stored.lock_ttl_ms) out["lock"] = json::object{{"ttlMs", *e.stored.lock_ttl_ms}};
  }
  co_return http::json(json::serialize(out));
}

}  // namespace asidecar::http
