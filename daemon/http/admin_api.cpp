#include "daemon/http/admin_api.hpp"

#include "daemon/http/dashboard.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;
using proto::http_method;

constexpr std::string_view explain_path = "/v1/explain/";
constexpr std::string_view warm_path = "/v1/warm/";

answer text(std::string_view type, std::string body) {
  answer a;
  a.add("Content-Type", type);
  a.add("Cache-Control", "no-store");
  a.text = std::move(body);
  return a;
}

std::string_view path_of(const request& r) { return r.head.target.substr(0, r.head.target.find('?')); }

}  // namespace

std::optional<answer> admin_api::refuse(const request& r, std::uint64_t& body_bytes_max) {
  body_bytes_max = 64 * 1024;
  const auto path = path_of(r);
  return from_.who()->refuse(r.head, r.over_tcp, path != "/livez" && path != "/readyz");
}

task<answer> admin_api::handle(const request& r) {
  const auto path = path_of(r);
  const bool reads = r.head.method == http_method::get || r.head.method == http_method::head;
  if (path == "/metrics/cache/reset") {
    if (r.head.method != http_method::post) co_return not_allowed("POST");
    from_.reset_cache_metrics();
    co_return no_content();
  }
  if (r.head.target.starts_with(explain_path)) {
    if (!reads) co_return not_allowed("GET, HEAD");
    co_return co_await from_.explain(r, explain_path);
  }
  if (path.starts_with(warm_path)) {
    if (r.head.method != http_method::post) co_return not_allowed("POST");
    std::string name(path.substr(warm_path.size()));
    co_return co_await from_.warm(std::move(name));
  }
  const bool known = path == "/livez" || path == "/readyz" || path == "/metrics" || path == "/metrics/cache" || path == "/config" || path == "/";
  if (!known) co_return problem(problems::not_found, "no such path; see /livez, /readyz, /metrics, /metrics/cache, /config, /v1/explain/{key} and /v1/warm/{name}");
  if (!reads) co_return not_allowed("GET, HEAD");
  if (path == "/livez") co_return text("text/plain", "ok\n");
  if (path == "/readyz") {
    auto a = text("text/plain", from_.ready() ? "ready\n" : "not ready\n");
    if (!from_.ready()) a.status = 503;
    co_return a;
  }
  if (path == "/") {
    auto page = text("text/html; charset=utf-8", std::string(dashboard_page));
    page.add("Content-Security-Policy", dashboard_policy);
    page.add("X-Content-Type-Options", "nosniff");
    co_return page;
  }
  if (path == "/metrics") co_return text("text/plain; version=0.0.4; charset=utf-8", from_.prometheus());
  if (path == "/metrics/cache") co_return text("application/json", from_.cache_metrics());
  co_return text("application/yaml", from_.configuration());
}

}  // namespace asidecar::http
