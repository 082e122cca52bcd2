// Each check_… takes the path of what it looks at, so that its errors stand where the option does.
#include "config/check.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "config/addresses.hpp"
#include "daemon/core/http_template.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/core/sql_template.hpp"
#include "daemon/core/tag_template.hpp"
#include "proto/record.hpp"
#include "proto/redis_keys.hpp"
#include "proto/text.hpp"

namespace asidecar::config {
namespace {

using names = std::vector<std::string>;

// Framing belongs to the connection; conditions and ranges would make the cache hold an answer meant for one
// client.
// clang-format off
constexpr std::string_view never_forwarded[] = {
    "host", "connection", "content-length", "transfer-encoding", "keep-alive", "proxy-connection", "te", "trailer",
    "upgrade", "expect", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"};
// clang-format on

class checker {
 public:
  checker(const settings& s, findings& found) : s_(s), found_(found) {
    for (const auto& o : s.origins) origin_names_.push_back(o.name);
  }

  void run() {
    check_listen();
    if (s_.store) check_store(*s_.store);
    for (std::size_t i = 0; i < s_.origins.size(); ++i)
      check_origin(s_.origins[i], element_path("origins", i));
    check_unique(s_.routes, "routes");
    check_unique(s_.warm, "warm");
    for (std::size_t i = 0; i < s_.routes.size(); ++i) check_route(s_.routes[i], element_path("routes", i));
    check_shadowed();
    for (std::size_t i = 0; i < s_.warm.size(); ++i) check_warm(s_.warm[i], element_path("warm", i));
  }

 private:
  void check_listen() {
    const auto& l = s_.listen;
    const auto visible = [](char c) { return c > ' ' && c < 0x7F; };
    if (!std::all_of(l.token.begin(), l.token.end(), visible))
      fail("listen.token", "expected printable ASCII without spaces, as a request header can carry it");
    if (l.data.empty()) fail("listen.data", "expected at least one address");
    std::map<std::string, std::string> taken;  // by whom
    for (std::size_t i = 0; i < l.data.size(); ++i)
      check_address(l.data[i], element_path("listen.data", i), taken);
    if (l.admin != "off") check_address(l.admin, "listen.admin", taken);
  }

  void check_store(const store_settings& s) {
    if (found_.broken("store.redis")) return;
    const auto url = parse_redis_url(s.redis);
    if (!url) return;
    const bool watched = !url->sentinels.empty();
    const std::array<std::pair<std::string_view, const std::string*>, 3> files{{{"store.ca", &s.ca}, {"store.cert", &s.cert}, {"store.key", &s.key}}};
    for (const auto& [path, file] : files)
      if (!url->tls && !file->empty()) fail(std::string(path), std::string("only a rediss:// store uses it") + (watched ? "; Sentinel over TLS is not supported" : ""));
    if (!watched && !s.sentinel_password.empty()) fail("store.sentinel_password", "only a redis-sentinel:// store uses it");
    if (s.cert.empty() != s.key.empty())
      fail(s.cert.empty() ? "store.key" : "store.cert", "a certificate and its key are needed together: store.cert and store.key");
  }

  void check_address(const std::string& text, const std::string& path,
                     std::map<std::string, std::string>& taken) {
    if (found_.broken(path)) return;
    const auto address = parse_listen_address(text);
    if (!address) return;
    const auto canonical =
        address->unix_path.empty() ? address->ip + ' ' + std::to_string(address->port) : address->unix_path;
    const auto [first, is_new] = taken.try_emplace(canonical, path);
    if (!is_new) fail(path, quoted(text) + " is already the address of " + first->second);
    const bool guarded = !s_.listen.token.empty() || found_.broken("listen.token");
    if (address->loopback || guarded || s_.listen.insecure || found_.broken("listen.insecure")) return;
    fail(path,
         quoted(text) + " is not a loopback address, so listen.token is needed (or listen.insecure: true)");
  }

  void check_origin(const origin_settings& o, const std::string& path) {
    constexpr std::array<std::string_view, 3> kinds{"postgres", "http", "sqlite"};
    const std::array<const std::string*, 3> values{&o.postgres, &o.http, &o.sqlite};
    std::string last;
    std::size_t set = 0;
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      const auto option = path + '.' + std::string(kinds[k]);
      if (found_.broken(option)) return;
      if (values[k]->empty()) continue;
      ++set;
      last = option;
    }
    if (set != 1)
      fail(set == 0 ? path : last,
           "origin " + quoted(o.name) + " needs exactly one of postgres, http and sqlite");
  }

  template <class Element>
  void check_unique(const std::vector<Element>& elements, std::string_view list) {
    std::map<std::string, std::size_t> first;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const auto path = element_path(list, i) + ".name";
      if (found_.broken(path)) continue;
      const auto [at, is_new] = first.try_emplace(elements[i].name, i);
      if (is_new) continue;
      const auto line = found_.where(element_path(list, at->second) + ".name").line + 1;
      fail(path, "name " + quoted(elements[i].name) + " is already used at line " + std::to_string(line));
    }
  }

  // The origin of that name; nullptr when there is none or it is broken, with the error reported.
  const origin_settings* find_origin(const std::string& name, const std::string& path) {
    if (name.empty() || found_.broken(path) || found_.broken("origins")) return nullptr;
    const auto* const o = s_.find_origin(name);
    if (o == nullptr) {
      fail(path, "there is no origin " + quoted(name) + spelling_hint(name, origin_names_));
      return nullptr;
    }
    const auto at = element_path("origins", static_cast<std::size_t>(o - s_.origins.data()));
    for (const auto* const kind : {"", ".postgres", ".http", ".sqlite"})
      if (found_.broken(at + kind)) return nullptr;
    return o;
  }

  // The placeholders a route's templates may use; nullopt when its key is broken.
  std::optional<names> check_key(const std::string& text, const std::string& path) {
    if (found_.broken(path)) return std::nullopt;
    const auto parsed = core::key_template::parse(text);
    if (report(parsed, path)) return std::nullopt;
    names out;
    for (const auto& p : boost::variant2::get<0>(parsed).params()) out.push_back(p.name);
    return out;
  }

  void check_route(const route_settings& r, const std::string& path) {
    if (found_.broken(path)) return;
    const auto params = check_key(r.key, path + ".key");
    check_pairing(r, path);
    check_effect(r, path);
    const auto* const origin = find_origin(r.origin, path + ".origin");
    if (origin != nullptr && !r.load.empty()) check_load(*origin, r.load, path + ".load", params);
    check_tags(r, path, params);
    check_forwarded(r, path, origin);
    if (r.write) check_write(r, path + ".write", origin, params);
  }

  void check_pairing(const route_settings& r, const std::string& path) {
    for (const auto* const option : {".origin", ".load", ".put"})
      if (found_.broken(path + option)) return;
    if (r.origin.empty() && !r.load.empty())
      fail(path + ".load", "'load' needs an 'origin'");
    else if (!r.origin.empty() && r.load.empty())
      fail(path + ".origin", "a route with an 'origin' needs a 'load'");
    else if (r.origin.empty() && !r.put)
      fail(path, "a route needs an 'origin' with a 'load', or 'put: true'");
  }

  // What could only be a misunderstanding.
  void check_effect(const route_settings& r, const std::string& path) {
    if (r.put && r.rules.ttl == milliseconds(0) && !found_.broken(path + ".ttl"))
      fail(path + ".put", "a value that is PUT would never be served: ttl is 0s");
    const std::string prefix = s_.store ? s_.store->prefix : "";
    const auto begin = r.key.substr(0, r.key.find('{'));
    if (!found_.broken("store.prefix") && !found_.broken(path + ".key") && proto::names_internal(prefix + begin))
      fail(path + ".key", "keys under 'asidecar:' in Redis are the daemon's own; choose another key or store.prefix");
    if (r.origin.empty() || found_.broken(path + ".origin")) return;
    const auto* const o = s_.find_origin(r.origin);
    if (o == nullptr) return;
    if (!o->is_sql() && r.rows == row_mode::many && !found_.broken(path + ".rows"))
      fail(path + ".rows", "only a route with an SQL origin has rows");
    if (o->is_sql() && r.cache_control == origin_cache_control::ignore && !found_.broken(path + ".cache_control"))
      fail(path + ".cache_control", "only a route with an HTTP origin has a Cache-Control to ignore");
  }

  void check_load(const origin_settings& o, const std::string& load, const std::string& path,
                  const std::optional<names>& params) {
    if (found_.broken(path)) return;
    if (o.is_sql()) {
      check_reads(load, path);
      return check_sql(load, path, params);
    }
    const auto parsed = core::http_template::parse(load);
    if (report(parsed, path)) return;
    const auto& request = boost::variant2::get<0>(parsed);
    if (request.method() != "GET") fail(path, "expected a GET request, found " + request.method());
    check_placeholders(request.params(), path, params);
  }

  // A load stands in a FROM clause, so only what returns rows can work there.
  void check_reads(const std::string& sql, const std::string& path) {
    constexpr std::array<std::string_view, 4> words{"SELECT", "WITH", "VALUES", "TABLE"};
    const auto word = core::first_word(sql);
    for (const auto known : words)
      if (proto::iequals(word, known)) return;
    fail(path, "expected a query that begins with SELECT, WITH, VALUES or TABLE, found " + quoted(word));
  }

  void check_sql(const std::string& sql, const std::string& path, const std::optional<names>& params) {
    const auto parsed = core::sql_template::parse(sql);
    if (report(parsed, path)) return;
    const auto& statement = boost::variant2::get<0>(parsed);
    check_placeholders(statement.params(), path, params);
    for (const auto& q : statement.quoted()) {
      const bool known = q.name.starts_with("body.") || (params && std::find(params->begin(), params->end(), q.name) != params->end());
      if (known)
        fail(path, "the placeholder {" + q.name + "} inside quotes would be text, not a parameter; take it out of the quotes (at offset " +
                       std::to_string(q.offset) + ')');
    }
  }

  void check_write(const route_settings& r, const std::string& path, const origin_settings* origin,
                   std::optional<names> params) {
    if (found_.broken(path)) return;
    const auto parent = path.substr(0, path.rfind('.'));
    if (r.origin.empty() && !found_.broken(parent + ".origin")) fail(path, "'write' needs an 'origin'");
    if (r.write->put.empty() && r.write->remove.empty() && !found_.broken(path + ".put") &&
        !found_.broken(path + ".delete"))
      fail(path, "'write' needs a 'put' or a 'delete'");
    if (origin != nullptr && !origin->sqlite.empty()) fail(path, "an sqlite origin is opened read-only; records need postgres or http");
    if (r.write->strategy == write_strategy::behind && !s_.store && !found_.broken("store"))
      fail(path + ".strategy", "behind keeps its journal in Redis: it needs a 'store'");
    if (r.write->strategy == write_strategy::through && r.rows == row_mode::many && !found_.broken(path + ".strategy"))
      fail(path + ".strategy", "through stores the returned row as the value, but this route's value is a list of rows");
    if (params) params->push_back("write.id");
    const std::array<std::pair<std::string, const std::string*>, 2> templates{
        {{path + ".put", &r.write->put}, {path + ".delete", &r.write->remove}}};
    for (const auto& [at, text] : templates) {
      if (origin == nullptr || text->empty() || found_.broken(at)) continue;
      if (origin->is_sql())
        check_sql(*text, at, params);
      else
        check_write_request(*text, at, params);
    }
  }

  void check_write_request(const std::string& text, const std::string& path,
                           const std::optional<names>& params) {
    const auto parsed = core::http_template::parse(text);
    if (report(parsed, path)) return;
    const auto& request = boost::variant2::get<0>(parsed);
    if (request.method() == "GET") fail(path, "expected a request that writes, found GET");
    check_placeholders(request.params(), path, params);
  }

  void check_placeholders(const names& used, const std::string& path, const std::optional<names>& params) {
    if (!params) return;
    const bool writing = std::find(params->begin(), params->end(), "write.id") != params->end();
    for (const auto& name : used) {
      if (std::find(params->begin(), params->end(), name) != params->end()) continue;
      if (writing && name.starts_with("body.")) continue;
      fail(path, "placeholder " + quoted('{' + name + '}') + " is not in the key template" +
                     spelling_hint(name, *params));
    }
  }

  void check_tags(const route_settings& r, const std::string& path, const std::optional<names>& params) {
    constexpr std::size_t most = proto::record_tags_max - 1;  // one is the cache's own, for variants
    if (r.tags.size() > most) fail(path + ".tags", "at most " + std::to_string(most) + " tags");
    if (!r.tags.empty() && s_.store && s_.store->format == value_format::raw)
      fail(path + ".tags", "tags need metadata beside the value: store.format must be record");
    for (std::size_t i = 0; i < r.tags.size(); ++i) {
      // A single text in place of a list has no element of its own; the error then falls back to the option.
      const auto at = element_path(path + ".tags", i);
      if (found_.broken(at)) continue;
      const auto& tag = r.tags[i];
      const auto parsed = core::tag_template::parse(tag);
      if (!report(parsed, at)) check_placeholders(boost::variant2::get<0>(parsed).params(), at, params);
    }
  }

  void check_forwarded(const route_settings& r, const std::string& path, const origin_settings* origin) {
    if (r.forward_headers.empty()) return;
    if (r.origin.empty() || (origin != nullptr && origin->is_sql()))
      fail(path + ".forward_headers", "only a route with an http origin can forward headers");
    for (std::size_t i = 0; i < r.forward_headers.size(); ++i)
      for (const auto name : never_forwarded)
        if (proto::iequals(r.forward_headers[i], name))
          fail(element_path(path + ".forward_headers", i),
               quoted(r.forward_headers[i]) + " cannot be forwarded");
  }

  void check_shadowed() {
    std::vector<std::optional<core::key_template>> keys;
    for (const auto& r : s_.routes) {
      auto parsed = core::key_template::parse(r.key);
      auto* const key = boost::variant2::get_if<core::key_template>(&parsed);
      for (std::size_t i = 0; key != nullptr && i < keys.size(); ++i) {
        // A cheap test first, for files with thousands of routes: only a key that begins alike can be
        // covered.
        const std::string_view earlier = s_.routes[i].key;
        if (!r.key.starts_with(earlier.substr(0, earlier.find('{')))) continue;
        if (!keys[i] || !keys[i]->covers(*key)) continue;
        const auto path = element_path("routes", keys.size()) + ".key";
        fail(path, "no key reaches this route: the earlier route " + quoted(s_.routes[i].name) +
                       " matches all of them");
        break;
      }
      keys.push_back(key == nullptr ? std::nullopt : std::optional(std::move(*key)));
    }
  }

  void check_warm(const warm_settings& w, const std::string& path) {
    if (found_.broken(path)) return;
    check_key(w.key, path + ".key");
    const auto* const origin = find_origin(w.origin, path + ".origin");
    if (origin != nullptr && !origin->is_sql())
      fail(path + ".origin", "a warm query needs a postgres or sqlite origin");
    if (found_.broken(path + ".query")) return;
    const auto parsed = core::sql_template::parse(w.query);
    if (!report(parsed, path + ".query") && !boost::variant2::get<0>(parsed).params().empty())
      fail(path + ".query", "a warm query has no key to take placeholders from");
  }

  // True when the template did not parse.
  template <class Template>
  bool report(const boost::variant2::variant<Template, core::template_error>& parsed,
              const std::string& path) {
    const auto* const error = boost::variant2::get_if<core::template_error>(&parsed);
    if (error != nullptr) fail(path, error->message + " (at offset " + std::to_string(error->offset) + ')');
    return error != nullptr;
  }

  void fail(const std::string& path, const std::string& problem) {
    const auto name = path.substr(path.rfind('.') + 1);
    found_.error_at(path, name.substr(0, name.find('[', 1)) + ": " + problem);
  }

  const settings& s_;
  findings& found_;
  names origin_names_;
};

}  // namespace

void check_settings(const settings& s, findings& found) {
  checker(s, found).run();
}

}  // namespace asidecar::config
