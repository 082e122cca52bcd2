#include "config/addresses.hpp"

#include <arpa/inet.h>
#include <libpq-fe.h>

#include <algorithm>
#include <array>
#include <memory>

#include "config/libpq.hpp"
#include "config/units.hpp"
#include "proto/http_head.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::config {
namespace {

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = proto::parse_decimal(text);
  if (!port || *port == 0 || *port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

std::string_view strip_brackets(std::string_view host) {
  return host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
}

bool is_loopback(const std::string& ip, bool& valid) {
  in_addr v4{};
  in6_addr v6{};
  valid = true;
  if (inet_pton(AF_INET, ip.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, ip.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  valid = false;
  return false;
}

// user[:password]@ off the front of `rest`, percent-decoded.
bool take_userinfo(std::string_view& rest, std::string& user, std::string& password) {
  const auto at = rest.substr(0, rest.find_first_of("/?")).rfind('@');
  if (at == std::string_view::npos) return true;
  const auto info = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  const auto colon = info.find(':');
  auto decoded_user = proto::percent_decode(info.substr(0, colon));
  auto decoded_password = proto::percent_decode(colon == std::string_view::npos ? "" : info.substr(colon + 1));
  if (!decoded_user || !decoded_password) return false;
  user = std::move(*decoded_user);
  password = std::move(*decoded_password);
  return true;
}

std::optional<host_port> parse_host_port(std::string_view text, std::uint16_t default_port) {
  std::string_view host;
  std::string_view port;
  if (!proto::split_authority(text, host, port)) return std::nullopt;
  const auto number = port.empty() ? default_port : parse_port(port);
  if (!number) return std::nullopt;
  return host_port{std::string(strip_brackets(host)), *number};
}

std::optional<std::uint32_t> parse_db(std::string_view text) {
  const auto number = proto::parse_decimal(text);
  if (!number || *number > 100'000) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

// What stands behind a slash; none, or nothing behind it: database 0.
std::optional<std::uint32_t> parse_db_path(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || slash + 1 == text.size()) return 0;
  return parse_db(text.substr(slash + 1));
}

bool take_scheme(std::string_view& text, std::string_view scheme) {
  if (!text.starts_with(scheme)) return false;
  text.remove_prefix(scheme.size());
  return true;
}

constexpr std::string_view listen_form = "expected IP:port, localhost:port or unix:/path.sock";

}  // namespace

std::optional<listen_address> parse_listen_address(std::string_view text) {
  listen_address out;
  if (text.starts_with("unix:")) {
    out.unix_path = text.substr(5);
    // sun_path holds 108 bytes with its end.
    if (out.unix_path.empty() || out.unix_path.front() != '/' || out.unix_path.size() > 107) return std::nullopt;
    return out;
  }
  std::string_view host;
  std::string_view port;
  if (!proto::split_authority(text, host, port)) return std::nullopt;
  const auto number = parse_port(port);
  if (!number) return std::nullopt;
  out.port = *number;
  out.ip = host == "localhost" ? "127.0.0.1" : strip_brackets(host);
  bool valid = false;
  out.loopback = is_loopback(out.ip, valid);
  if (!valid) return std::nullopt;
  return out;
}

namespace {

constexpr std::string_view sentinel_scheme = "redis-sentinel://";

// Behind the scheme: [user:password@]h1[:p1],h2[:p2]/master[/db]
std::optional<redis_url> parse_sentinel_url(std::string_view text) {
  constexpr std::uint16_t sentinel_port = 26379;
  constexpr std::size_t sentinels_max = 16;
  redis_url out;
  if (std::count(text.begin(), text.end(), '@') > 1) return std::nullopt;  // one for all; one in a password is written %40
  if (!take_userinfo(text, out.user, out.password)) return std::nullopt;
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  for (auto list = text.substr(0, slash);;) {
    const auto comma = list.find(',');
    const auto at = parse_host_port(list.substr(0, comma), sentinel_port);
    if (!at || out.sentinels.size() == sentinels_max) return std::nullopt;
    out.sentinels.push_back(*at);
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  const auto rest = text.substr(slash + 1);
  const auto db = parse_db_path(rest);
  out.master = rest.substr(0, rest.find('/'));
  const auto in_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; };
  if (out.master.empty() || !std::all_of(out.master.begin(), out.master.end(), in_name) || !db) return std::nullopt;
  out.db = *db;
  return out;
}

}  // namespace

std::string host_port::text() const { return (host.find(':') == std::string::npos ? host : '[' + host + ']') + ':' + std::to_string(port); }

std::optional<redis_url> parse_redis_url(std::string_view text) {
  redis_url out;
  if (take_scheme(text, "redis+unix://")) {
    if (!take_userinfo(text, out.user, out.password)) return std::nullopt;
    const auto query = text.find('?');
    const auto path = proto::percent_decode(text.substr(0, query));
    if (!path || path->empty() || path->front() != '/' || path->size() > 107) return std::nullopt;
    out.unix_path = *path;
    if (query == std::string_view::npos) return out;
    auto parameter = text.substr(query + 1);
    if (!take_scheme(parameter, "db=")) return std::nullopt;
    const auto db = parse_db(parameter);
    if (!db) return std::nullopt;
    out.db = *db;
    return out;
  }
  if (take_scheme(text, sentinel_scheme)) return parse_sentinel_url(text);
  out.tls = take_scheme(text, "rediss://");
  if (!out.tls && !take_scheme(text, "redis://")) return std::nullopt;
  if (!take_userinfo(text, out.user, out.password)) return std::nullopt;
  const auto at = parse_host_port(text.substr(0, text.find('/')), out.server.port);
  const auto db = parse_db_path(text);
  if (!at || !db) return std::nullopt;
  out.server = *at;
  out.db = *db;
  return out;
}

std::optional<http_url> parse_http_url(std::string_view text) {
  http_url out;
  if (take_scheme(text, "https://")) {
    out.tls = true;
    out.port = 443;
  } else if (!take_scheme(text, "http://")) {
    return std::nullopt;
  }
  const auto slash = text.find('/');
  out.authority = text.substr(0, slash);
  const auto at = parse_host_port(out.authority, out.port);
  if (!at) return std::nullopt;
  out.host = at->host;
  out.port = at->port;
  if (slash != std::string_view::npos) out.base_path = text.substr(slash);
  while (out.base_path.ends_with('/')) out.base_path.pop_back();
  for (const char c : out.base_path)
    if (c <= ' ' || c >= 0x7F || c == '?' || c == '#') return std::nullopt;
  return out;
}

std::optional<std::string> check_listen_address(std::string_view text) {
  if (parse_listen_address(text)) return std::nullopt;
  return std::string(listen_form);
}

std::optional<std::string> check_admin_address(std::string_view text) {
  if (text == "off" || parse_listen_address(text)) return std::nullopt;
  return std::string(listen_form) + ", or off";
}

std::optional<std::string> check_host_name(std::string_view text) {
  std::string_view host;
  std::string_view port;
  if (proto::split_authority(text, host, port) && port.empty() && host == text) return std::nullopt;
  return "expected a host name without port";
}

std::optional<std::string> check_redis_url(std::string_view text) {
  if (text.starts_with("redis-cluster://")) return "redis-cluster:// is not yet supported; use redis://, rediss://, redis-sentinel:// or redis+unix://";
  if (parse_redis_url(text)) return std::nullopt;
  if (text.starts_with(sentinel_scheme)) return "expected redis-sentinel://[user:password@]host[:port],host[:port]/master[/db]";
  return "expected redis://[user:password@]host[:port][/db], the same with rediss:// (TLS), redis+unix://[user:password@]/path[?db=0], "
         "or redis-sentinel://host[:port],host[:port]/master[/db]";
}

std::optional<std::string> check_http_url(std::string_view text) {
  if (parse_http_url(text)) return std::nullopt;
  return "expected http://host[:port][/base] or https://host[:port][/base]";
}

std::optional<std::string> check_postgres_url(std::string_view text) {
  if (const auto problem = load_libpq(); !problem.empty()) return "a PostgreSQL origin needs libpq (Debian: libpq5): " + problem;
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> parsed(PQconninfoParse(std::string(text).c_str(), &message),
                                                                             PQconninfoFree);
  const std::unique_ptr<char, void (*)(void*)> owned(message, PQfreemem);
  // libpq's message may quote the URL with its password, so it is not repeated.
  if (!parsed) return "expected a libpq connection URL such as postgresql://user@host:5432/db";
  return std::nullopt;
}

std::optional<std::string> check_prefix(std::string_view text) {
  if (text.size() > 256 || !proto::valid_utf8(text) || text.find('\0') != std::string_view::npos)
    return "expected at most 256 bytes of UTF-8";
  if (proto::names_internal(text)) return "the daemon keeps its own keys under 'asidecar:'; choose another prefix";
  return std::nullopt;
}

std::optional<std::string> check_warm_schedule(std::string_view text) {
  const auto interval = parse_duration(text);
  if (text == "startup" || text == "manual" || (interval && interval->count() >= 1000)) return std::nullopt;
  return "expected startup, manual or an interval of at least 1s";
}

namespace {

// libpq's form "host=h password='s e'", written anew from what libpq understood of it.
std::string redact_keywords(const std::string& text) {
  if (!load_libpq().empty()) return "***";
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> parsed(PQconninfoParse(text.c_str(), nullptr), PQconninfoFree);
  if (!parsed) return text.find("pass") == std::string::npos ? text : "***";
  std::string out;
  for (const auto* o = parsed.get(); o->keyword != nullptr; ++o) {
    if (o->val == nullptr) continue;
    const bool secret = std::string_view(o->keyword).find("pass") != std::string_view::npos;
    out.append(out.empty() ? "" : " ").append(o->keyword).append("='").append(secret ? "***" : o->val).append("'");
  }
  return out;
}

}  // namespace

// Errs on the side of hiding: whatever may be read as a password by anyone is one.
std::string redact_url(std::string_view text) {
  std::string out(text);
  constexpr std::array<std::string_view, 6> schemes{"postgres", "postgresql", "redis", "rediss", "http", "https"};
  const auto scheme = out.find("://");
  const auto kind = std::string_view(out).substr(0, scheme);
  const bool is_url = scheme != std::string::npos && (kind.starts_with("redis") || std::find(schemes.begin(), schemes.end(), kind) != schemes.end());
  if (!is_url) return redact_keywords(out);
  // Parameters, also with percent-encoded names: password, sslpassword, passfile
  for (auto query = out.find('?'); query != std::string::npos; query = out.find('&', query)) {
    ++query;
    const auto end = std::min(out.find('&', query), out.size());
    const auto equals = out.find('=', query);
    if (equals >= end) continue;
    const auto name = proto::percent_decode(std::string_view(out).substr(query, equals - query));
    if (!name || name->find("pass") != std::string::npos) out.replace(equals + 1, end - equals - 1, "***");
  }
  // A password with an unescaped '/', '?' or '@' still ends at the last '@'.
  const auto at = out.rfind('@');
  const auto colon = out.find(':', scheme + 3);
  if (at == std::string::npos || colon == std::string::npos || colon > at) return out;
  return out.substr(0, colon + 1) + "***" + out.substr(at);
}

}  // namespace asidecar::config
