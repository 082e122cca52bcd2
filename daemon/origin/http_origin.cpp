// HTTP origins: what a load is as a request, and what the answer means to a shared cache (RFC 9111, RFC
// 5861).
#include <algorithm>
#include <stdexcept>

#include "config/addresses.hpp"
#include "daemon/core/http_template.hpp"
#include "daemon/origin/http_client.hpp"
#include "daemon/origin/origin.hpp"
#include "proto/cache_control.hpp"
#include "proto/http_date.hpp"
#include "proto/record.hpp"
#include "proto/text.hpp"

namespace asidecar::origin {
namespace {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using engine::loaded;
using runtime::task;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t age_max = 1ULL << 31;  // RFC 9111, section 1.2.2

// Every field line of that name, without the blanks around it.
template <class Sink>
void for_each_line(const http_response& r, std::string_view name, Sink sink) {
  for (const auto& [field, value] : r.headers)
    if (proto::iequals(field, name)) sink(proto::trim(value));
}

// A metadata text the record can hold; longer ones are as good as absent.
std::string kept(const http_response& r, std::string_view name) {
  const auto* text = r.find(name);
  return text == nullptr || text->size() > proto::record_text_max ? std::string() : *text;
}

// How long the answer is fresh from its creation; unset when the origin does not say.
std::optional<seconds> explicit_freshness(const http_response& r, const proto::response_directives& said,
                                          runtime::wall_time now) {
  if (said.no_cache) return seconds(0);
  if (said.s_maxage) return said.s_maxage;
  if (said.max_age) return said.max_age;
  const auto* expires = r.find("expires");
  if (expires == nullptr) return std::nullopt;
  const auto end = proto::parse_http_date(proto::trim(*expires));
  if (!end) return seconds(0);  // also "0", which means the past (section 5.3)
  const auto* date = r.find("date");
  const auto written = date == nullptr ? std::nullopt : proto::parse_http_date(proto::trim(*date));
  return std::max(seconds(0), *end - written.value_or(std::chrono::floor<seconds>(now)));
}

// All requests of a key are alike in what is forwarded, which is part of the key, and in Accept-Encoding,
// which is ours.
bool varies_unseen(const http_response& r, const std::vector<std::string>& forwarded) {
  bool unseen = false;
  for_each_line(r, "vary", [&](std::string_view names) {
    while (!names.empty()) {
      const auto comma = std::min(names.find(','), names.size());
      const auto name = proto::trim(names.substr(0, comma));
      names.remove_prefix(std::min(comma + 1, names.size()));
      const bool seen = name.empty() || proto::iequals(name, "accept-encoding") ||
                        std::any_of(forwarded.begin(), forwarded.end(),
                                    [&](const auto& f) { return proto::iequals(f, name); });
      unseen = unseen || !seen;
    }
  });
  return unseen;
}

void obey(const http_response& r, const std::vector<std::string>& forwarded, runtime::wall_time now,
          loaded& out) {
  proto::response_directives said;
  for_each_line(r, "cache-control", [&](std::string_view line) { proto::parse_cache_control(line, said); });
  out.storable = !said.no_store && !said.is_private && !varies_unseen(r, forwarded);
  out.fresh_for = explicit_freshness(r, said, now);
  out.stale_while_revalidate = said.stale_while_revalidate;
  out.stale_if_error = said.stale_if_error;
  if (said.must_revalidate || said.no_cache)
    out.stale_while_revalidate = out.stale_if_error = milliseconds(0);
  if (const auto* age = r.find("age"))
    out.age = seconds(std::min(proto::parse_decimal(proto::trim(*age)).value_or(0), age_max));
}

class http_origin final : public origin {
 public:
  http_origin(std::shared_ptr<http_client> c, runtime::worker& w) : client_(std::move(c)), worker_(w) {}
  ~http_origin() override { client_->stop(); }

  std::unique_ptr<engine::loader> make_loader(const config::route_settings& route,
                                              const core::key_template& key) override;
  std::unique_ptr<engine::writer> make_writer(const config::route_settings& route, const std::string& statement) override;
  void stop() override { client_->stop(); }

 private:
  std::shared_ptr<http_client> client_;
  runtime::worker& worker_;
};

class http_loader final : public engine::loader {
 public:
  struct terms {
    core::http_template request;
    std::vector<std::size_t> positions;  // of each placeholder in load_request::params
    std::vector<std::string> forwarded;
    bool obeys;
  };
  http_loader(std::shared_ptr<http_client> c, runtime::worker& w, terms t)
      : client_(std::move(c)), worker_(w), terms_(std::move(t)) {}

  task<load_outcome> load(load_request request) override;

 private:
  load_outcome translate(http_response r, bool conditional) const;

  std::shared_ptr<http_client> client_;
  runtime::worker& worker_;
  terms terms_;
};

task<load_outcome> http_loader::load(load_request request) {
  std::vector<std::string_view> values;
  for (const auto position : terms_.positions) values.push_back(request.params.at(position));
  auto target = terms_.request.target(values);
  if (!target)
    co_return load_error::not_asked("the key would change the path's shape");
  http_request ask;
  ask.target = std::move(*target);
  ask.headers = std::move(request.headers);
  bool conditional = false;
  if (request.current && !request.current->content().negative) {
    const auto& known = request.current->content();
    if (!known.origin_etag.empty()) ask.headers.emplace_back("If-None-Match", known.origin_etag);
    if (!known.last_modified.empty()) ask.headers.emplace_back("If-Modified-Since", known.last_modified);
    conditional = !known.origin_etag.empty() || !known.last_modified.empty();
  }
  auto outcome = co_await client_->send(std::move(ask), request.deadline);
  if (auto* failure = std::get_if<http_failure>(&outcome))
  {
    const auto why = "HTTP: " + failure->detail;
    co_return failure->timeout ? load_error::timed_out(why) : failure->too_large ? load_error::refused(why) : load_error::failed(why);
  }
  co_return translate(std::move(std::get<http_response>(outcome)), conditional);
}

load_outcome http_loader::translate(http_response r, bool conditional) const {
  loaded out;
  switch (r.status) {
    case 200:
    case 203:
      break;
    case 404:
    case 410:
      out.what = loaded::outcome::no_record;
      break;
    case 304:
      if (conditional)
        out.what = loaded::outcome::not_modified;
      else
        return load_error::refused("HTTP 304 to a request without conditions");
      break;
    default:
      // It is about this request, and the upstream is well; but for 429, which asks to be left alone.
      if (r.status / 100 != 5 && r.status != 429) return load_error::refused("HTTP " + std::to_string(r.status));
      return load_error::failed("HTTP " + std::to_string(r.status));
  }
  if (terms_.obeys) obey(r, terms_.forwarded, worker_.time->wall_now(), out);
  if (out.what != loaded::outcome::value) return out;
  if (const auto* type = r.find("content-type"); type != nullptr && type->size() > proto::record_text_max)
    return load_error::refused("HTTP: a Content-Type that is too long");
  out.content_type = kept(r, "content-type");
  if (out.content_type.empty()) out.content_type = "application/octet-stream";
  out.content_encoding = kept(r, "content-encoding");
  out.etag = kept(r, "etag");
  out.last_modified = kept(r, "last-modified");
  out.body = std::move(r.body);
  return out;
}

class http_writer final : public engine::writer {
 public:
  http_writer(std::shared_ptr<http_client> c, core::http_template t) : client_(std::move(c)), request_(std::move(t)) {}

  const std::vector<std::string>& params() const noexcept override { return request_.params(); }
  task<engine::write_outcome> write(engine::write_request request) override;

 private:
  std::shared_ptr<http_client> client_;
  core::http_template request_;
};

task<engine::write_outcome> http_writer::write(engine::write_request request) {
  std::vector<std::string_view> values;
  for (const auto& p : request.params) values.emplace_back(p ? std::string_view(*p) : std::string_view());
  auto target = request_.target(values);
  if (!target) co_return load_error::not_asked("the key would change the path's shape");
  http_request ask;
  ask.method = request_.method();
  ask.target = std::move(*target);
  if (!request.content_type.empty()) ask.headers.emplace_back("Content-Type", request.content_type);
  ask.body = std::move(request.body);
  auto outcome = co_await client_->send(std::move(ask), request.deadline);
  if (auto* failure = std::get_if<http_failure>(&outcome)) {
    const auto why = "HTTP: " + failure->detail;
    auto error = failure->timeout ? load_error::timed_out(why) : load_error::failed(why);
    if (!failure->sent) error.got = load_error::progress::not_sent;
    if (failure->too_large) error.got = load_error::progress::ended;
    co_return error;
  }
  auto& r = std::get<http_response>(outcome);
  engine::written out;
  if (r.status == 404 || r.status == 410) co_return out;
  const auto said = "HTTP " + std::to_string(r.status);
  if (r.status / 100 == 4 && r.status != 408 && r.status != 425 && r.status != 429) co_return load_error::refused(said);
  if (r.status / 100 != 2) {
    auto error = load_error::failed(said);
    // A gateway says so of a backend that may go on.
    const bool gateway = r.status == 502 || r.status == 504;
    error.got = gateway ? load_error::progress::unanswered : load_error::progress::ended;
    error.may_pass = true;
    co_return error;
  }
  out.touched = true;
  if (r.status == 204 || r.body.empty()) co_return out;
  if (const auto* type = r.find("content-type")) out.content_type = *type;
  out.body = std::move(r.body);
  co_return out;
}

std::unique_ptr<engine::writer> http_origin::make_writer(const config::route_settings& route, const std::string& statement) {
  auto parsed = core::http_template::parse(statement);
  auto* request = boost::variant2::get_if<core::http_template>(&parsed);
  if (request == nullptr) throw std::runtime_error("route " + route.name + ": its write does not parse");
  return std::make_unique<http_writer>(client_, std::move(*request));
}

std::unique_ptr<engine::loader> http_origin::make_loader(const config::route_settings& route,
                                                         const core::key_template& key) {
  auto parsed = core::http_template::parse(route.load);
  auto* request = boost::variant2::get_if<core::http_template>(&parsed);
  if (request == nullptr || request->method() != "GET")
    throw std::runtime_error("route " + route.name + ": its load is no GET request");
  http_loader::terms t{std::move(*request),
                       {},
                       route.forward_headers,
                       route.cache_control == config::origin_cache_control::obey};
  for (const auto& name : t.request.params()) t.positions.push_back(key.param_index(name).value());
  return std::make_unique<http_loader>(client_, worker_, std::move(t));
}

}  // namespace

std::shared_ptr<origin> make_http_origin(runtime::worker& worker, const config::origin_settings& settings,
                                         std::size_t connections) {
  auto url = config::parse_http_url(settings.http);
  if (!url) throw std::runtime_error("origin " + settings.name + ": not an HTTP URL");
  const http_client::limits most{std::max<std::size_t>(1, connections), settings.max_response};
  return std::make_shared<http_origin>(
      std::make_shared<http_client>(worker, std::move(*url), settings.ca, most), worker);
}

}  // namespace asidecar::origin
