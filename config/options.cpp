// The declarations: name, help and bounds of every option. The defaults are the initializers in settings.hpp.
#include <algorithm>

#include "config/addresses.hpp"
#include "config/option.hpp"

namespace asidecar::config {
namespace {

using std::chrono::days;
using std::chrono::hours;

constexpr milliseconds zero{0};
constexpr milliseconds year = days(366);
constexpr std::uint64_t gib = std::uint64_t(1) << 30;

std::optional<std::string> anything(std::string_view) { return std::nullopt; }

std::optional<std::string> check_name(std::string_view name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  if (name.empty() || name.size() > 64 || name.find_first_not_of(allowed) != std::string_view::npos)
    return "expected a name of 1 to 64 letters, digits, '_', '-' or '.'";
  return std::nullopt;
}

std::optional<std::string> check_header_name(std::string_view name) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  if (name.empty() || name.size() > 64 || name.find_first_not_of(allowed) != std::string_view::npos)
    return "expected the name of a request header";
  return std::nullopt;
}

std::optional<std::string> check_content_type(std::string_view type) {
  const auto slash = type.find('/');
  const bool printable = std::all_of(type.begin(), type.end(), [](char c) { return c >= ' ' && c < 0x7F; });
  if (slash == std::string_view::npos || slash == 0 || !printable || type.size() > 255) return "expected a media type such as application/json";
  return std::nullopt;
}

void describe_policy(option_visitor& v, core::policy& p) {
  v.duration({"ttl", "How long a value is fresh. 0s stores nothing."}, p.ttl, zero, year);
  v.number({"ttl_jitter", "Share in [0,1) by which each TTL is shortened at random, so that keys filled together do not expire together."},
           p.ttl_jitter, 0, 1);
  v.duration({"negative_ttl", "How long \"no such record\" is remembered; 0s: not at all."}, p.negative_ttl, zero, year);
  v.duration({"stale_while_revalidate", "For so long after the TTL a stale value is served while it is refreshed behind (RFC 5861)."},
             p.stale_while_revalidate, zero, year);
  v.duration({"stale_if_error", "For so long after the TTL a stale value stands in when the origin fails (RFC 5861)."}, p.stale_if_error, zero, year);
  v.number({"early_refresh_beta", "XFetch beta: larger refreshes earlier before expiry; 0 turns early refresh off."}, p.early_refresh_beta, 0, 100);
  v.duration({"soft_timeout", "With a stale value at hand, wait at most so long for the origin; 0s: not used."}, p.soft_timeout, zero, hours(1));
  v.duration({"timeout", "Hard limit of one load."}, p.timeout, milliseconds(1), hours(1));
  v.size({"max_value", "Larger values are served but not stored."}, p.max_value, gib / 2);
  v.size({"compress_above", "Values from this size on are compressed (zstd) in Redis; 0: never."}, p.compress_above, gib);
  v.integer({"batch", "PostgreSQL: at most so many waiting loads of a route share one query; 1: off."}, p.batch, 1, 1024);
}

void describe_listen(option_visitor& v, listen_settings& l) {
  v.texts({"data", "Where the data API listens: IP:port, localhost:port or unix:/path.sock; one or several."}, l.data, check_listen_address);
  v.text({"admin", "Where the admin API listens; \"off\" for none."}, l.admin, check_admin_address);
  v.secret({"token", "Bearer token that every call but /livez and /readyz must carry."}, l.token);
  v.texts({"hosts", "Host names, besides IP addresses and localhost, that a request's Host may name (DNS rebinding)."}, l.hosts, check_host_name);
  v.flag({"insecure", "Allow a non-loopback address without a token."}, l.insecure);
  v.integer({"max_connections", "Connections beyond this are answered 503 and closed."}, l.max_connections, 1, 1'000'000);
}

void describe_store(option_visitor& v, store_settings& s) {
  v.url({"redis", "redis://[user:password@]host[:port][/db]; rediss://… the same over TLS; redis+unix://[user:password@]/path[?db=0]; "
                  "redis-sentinel://[user:password@]host[:port],…/master[/db]: user and password are the servers'.", true}, s.redis, check_redis_url);
  v.text({"ca", "PEM file of the certificate authorities for rediss; empty: the system's."}, s.ca, anything);
  v.text({"cert", "PEM file of the certificate, with its chain, to show a rediss server that asks for one; needs store.key."}, s.cert, anything);
  v.text({"key", "PEM file of that certificate's private key, not encrypted."}, s.key, anything);
  v.secret({"sentinel_password", "Password of the Sentinels themselves; the one in the URL is for the Redis servers."}, s.sentinel_password);
  v.text({"prefix", "The value of key K is at the Redis key <prefix>K."}, s.prefix, check_prefix);
  v.choice({"format", "record keeps metadata with the value; raw is the plain body, shared with other apps."}, s.format, {"record", "raw"});
  v.duration({"timeout", "Budget of one Redis operation; past it the request goes on without Redis."}, s.timeout, milliseconds(1), std::chrono::minutes(1));
  v.section({"lock", "The fill lock: one load per key in the fleet."}, [&](option_visitor& in) {
    in.duration({"ttl", "A holder that dies is replaced after this; renewed while its load runs."}, s.lock_ttl, milliseconds(50), hours(1));
    in.duration({"wait", "The longest a waiter waits before it loads by itself."}, s.lock_wait, zero, hours(1));
  });
  v.choice({"backplane", "How this instance hears of changes: tracking (CLIENT TRACKING: of any writer), pubsub (of instances, and apps that publish on cache:invalidate), off (not at all: L1 goes by l1.ttl)."}, s.backplane, {"tracking", "pubsub", "off"});
  v.size({"journal_max", "Write-behind: what the journal and its dead letters may take in Redis; beyond, writes are answered 503; 0: no limit."}, s.journal_max, 64 * gib);
}

void describe_origin(option_visitor& v, origin_settings& o) {
  v.url({"postgres", "Connection URL of a PostgreSQL database."}, o.postgres, check_postgres_url);
  v.url({"http", "Base URL of an HTTP upstream: http:// or https://."}, o.http, check_http_url);
  v.text({"sqlite", "Path of an SQLite database file, opened read-only."}, o.sqlite, anything);
  v.integer({"connections", "Connections kept to the origin; 0: 4 for SQL, 32 for HTTP."}, o.connections, 0, 10'000);
  v.integer({"max_in_flight", "Loads that may run at the same time."}, o.max_in_flight, 1, 100'000);
  v.integer({"queue", "Loads that may wait for a place; beyond it the answer is 503."}, o.queue, 0, 1'000'000);
  v.section({"breaker", "Circuit breaker."}, [&](option_visitor& in) {
    in.integer({"failures", "Failures in a row that open it; 0: never."}, o.breaker_failures, 0, 1'000'000);
    in.duration({"open", "How long it stays open before one trial load."}, o.breaker_open, milliseconds(1), hours(24));
  });
  v.integer({"retries", "How often a failed load is tried again within its timeout."}, o.retries, 0, 10);
  v.text({"ca", "PEM file of the certificate authorities for https; empty: the system's."}, o.ca, anything);
  v.size({"max_response", "A larger answer of the origin is an error."}, o.max_response, gib);
  v.duration({"delay", "Added before each load, to see a slow origin in demos and tests."}, o.delay, zero, std::chrono::minutes(1));
}

void describe_write(option_visitor& v, write_settings& w) {
  v.choice({"strategy", "invalidate: the origin, then the cache is emptied; through: what the origin returned becomes the value; behind: acknowledged once it is in a Redis stream, applied later."}, w.strategy, {"invalidate", "through", "behind"});
  v.text({"put", "Statement or request of PUT /v1/records/{key}; placeholders: the key's, {body.member}, {write.id}."}, w.put, anything);
  v.text({"delete", "Statement or request of DELETE /v1/records/{key}."}, w.remove, anything);
}

void describe_route(option_visitor& v, route_settings& r) {
  v.text({"name", "Name in metrics and logs.", true}, r.name, check_name);
  v.text({"key", "Key template: {name} matches [^:/]+; also {name:int}, {name:uuid}, {name:rest}.", true}, r.key, anything);
  v.text({"origin", "Name of the origin; absent: the app fills the cache itself (put: true)."}, r.origin, check_name);
  v.text({"load", "SQL query, or 'GET /path', with placeholders of the key."}, r.load, anything);
  v.choice({"rows", "SQL: one JSON object and 404 when there is no row, or many as a JSON array."}, r.rows, {"one", "many"});
  v.choice({"cache_control", "HTTP: obey the response's Cache-Control, or ignore it."}, r.cache_control, {"obey", "ignore"});
  v.texts({"forward_headers", "HTTP: request headers sent on; each becomes part of the cache key."}, r.forward_headers, check_header_name);
  v.flag({"put", "Allow PUT /v1/keys/{key}."}, r.put);
  v.text({"content_type", "Content-Type of values that carry none: SQL results and format: raw."}, r.content_type, check_content_type);
  v.texts({"tags", "Tags of the route's values, with placeholders of the key; POST /v1/invalidate takes them."}, r.tags, anything);
  v.optional_section(
      {"write", "Enables /v1/records for this route."}, r.write.has_value(), [&] { r.write.emplace(); },
      [&](option_visitor& in) { describe_write(in, *r.write); });
  describe_policy(v, r.rules);
}

void describe_warm(option_visitor& v, warm_settings& w) {
  v.text({"name", "Name in metrics, logs and POST /v1/warm/{name}.", true}, w.name, check_name);
  v.text({"origin", "The SQL origin that runs the query.", true}, w.origin, check_name);
  v.text({"query", "Its rows become keys.", true}, w.query, anything);
  v.text({"key", "Key template whose placeholders are the query's columns.", true}, w.key, anything);
  v.text({"when", "startup, an interval such as 10m, or manual."}, w.when, check_warm_schedule);
  v.integer({"concurrency", "Loads at the same time."}, w.concurrency, 1, 1024);
  v.flag({"before_ready", "/readyz answers 503 until it has run."}, w.before_ready);
}

template <class T>
option_visitor::elements elements_of(std::vector<T>& items, const T& prototype, void (*inside)(option_visitor&, T&)) {
  return {items.size(), [&items, prototype](std::size_t n) { items.assign(n, prototype); },
          [&items, inside](option_visitor& v, std::size_t i) { inside(v, items[i]); }};
}

}  // namespace

void describe(option_visitor& v, settings& s) {
  v.section({"listen", "Listening sockets and who may use them."}, [&](option_visitor& in) { describe_listen(in, s.listen); });
  v.integer_or_auto({"threads", "Worker threads; auto: the CPUs this process may use."}, s.threads, 256);
  v.optional_section(
      {"store", "Redis, the second level (L2). Without it values live in L1 only."}, s.store.has_value(), [&] { s.store.emplace(); },
      [&](option_visitor& in) { describe_store(in, *s.store); });
  v.section({"l1", "The in-memory first level."}, [&](option_visitor& in) {
    in.size({"size", "Bytes it may use; 0: off, every request checks Redis (64MiB when there is no store)."}, s.l1.size, 1024 * gib);
    in.duration({"ttl", "Upper bound of a value's life in L1."}, s.l1.ttl, milliseconds(1), year);
  });
  v.section({"defaults", "Policy of every route; each key may be given per route too."}, [&](option_visitor& in) { describe_policy(in, s.defaults); });
  auto origins = elements_of<origin_settings>(s.origins, {}, describe_origin);
  origins.set_name = [&](std::size_t i, std::string name) { s.origins[i].name = std::move(name); };
  origins.name = [&](std::size_t i) { return s.origins[i].name; };
  v.map({"origins", "Where values come from, by name. Each has exactly one of postgres, http and sqlite."}, origins);
  route_settings route;
  route.rules = s.defaults;
  v.list({"routes", "Tried in order; the first whose key template matches the whole key wins."}, elements_of(s.routes, route, describe_route));
  v.list({"warm", "Queries whose rows name keys that are loaded ahead, by one instance at a time."}, elements_of<warm_settings>(s.warm, {}, describe_warm));
  v.section({"log", "Logging, to stderr."}, [&](option_visitor& in) {
    in.choice({"level", "Least severe level that is written."}, s.log.level, {"trace", "debug", "info", "warn", "error"});
    in.choice({"format", "text, or one JSON object per line."}, s.log.format, {"text", "json"});
  });
}

const origin_settings* settings::find_origin(const std::string& name) const noexcept {
  const auto found = std::find_if(origins.begin(), origins.end(), [&](const auto& o) { return o.name == name; });
  return found == origins.end() ? nullptr : &*found;
}

}  // namespace asidecar::config
