// PUT and DELETE /v1/records/{key}: the origin is written, by the route's strategy.
#include <boost/json.hpp>
#include <charconv>

#include "daemon/http/data_api.hpp"
#include "daemon/http/key_text.hpp"

namespace asidecar::http {
namespace {

namespace problems = proto::problems;
constexpr std::string_view body_prefix = "body.";
constexpr std::string_view write_id_param = "write.id";

// The member that "body.a.b" names; null when there is none.
const boost::json::value* member_of(const boost::json::value& body, std::string_view path) {
  const auto* at = &body;
  path.remove_prefix(body_prefix.size());
  while (at != nullptr && !path.empty()) {
    const auto dot = std::min(path.find('.'), path.size());
    const auto* object = at->if_object();
    at = object == nullptr ? nullptr : object->if_contains(boost::json::string_view(path.data(), dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return at;
}

// As the text of a parameter: what SQL reads as the same value.
std::optional<std::string> as_param(const boost::json::value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return std::nullopt;
    case boost::json::kind::string: return std::string(v.get_string().data(), v.get_string().size());
    case boost::json::kind::double_: {  // the shortest text that reads as the same number
      char digits[32];
      return std::string(digits, std::to_chars(digits, digits + sizeof digits, v.get_double()).ptr);
    }
    default: return boost::json::serialize(v);
  }
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out.append(out.empty() ? "'" : ", '").append(name).append("'");
  return out;
}

}  // namespace

// The values of an operation's placeholders, or what is wrong with the request.
std::optional<answer> data_api::bind_params(const found_route& found, const engine::writer& by, std::string_view body, std::string_view write_id,
                                            std::vector<std::optional<std::string>>& out) {
  boost::json::value parsed;
  const auto& names = by.params();
  if (std::any_of(names.begin(), names.end(), [](const auto& n) { return n.starts_with(body_prefix); })) {
    boost::json::error_code ec;
    boost::json::parse_options limits;
    limits.max_depth = 100;
    parsed = boost::json::parse(boost::json::string_view(body.data(), body.size()), ec, {}, limits);
    if (ec || !parsed.is_object()) return problem(problems::bad_request, "the body must be a JSON object");
  }
  std::vector<std::string> missing;
  for (const auto& name : names) {
    if (const auto index = found.route->key.param_index(name)) {
      out.emplace_back(found.captures.values[*index]);
    } else if (name.starts_with(body_prefix)) {
      const auto* member = member_of(parsed, name);
      if (member == nullptr) missing.push_back(name.substr(body_prefix.size()));
      else out.push_back(as_param(*member));
      if (member != nullptr && member->is_string() && member->get_string().find('\0') != boost::json::string::npos)
        return problem(problems::bad_request, "a text of the body holds a NUL character");
    } else {
      out.emplace_back(write_id);
    }
  }
  if (!missing.empty()) return problem(problems::bad_request, "the body lacks " + quoted_list(missing));
  return std::nullopt;
}

task<answer> data_api::write_record(service_ptr s, const request& r) {
  const auto method = r.head.method;
  const auto key = proto::percent_decode(r.head.target.substr(records_path.size()));
  if (!key) co_return problem(problems::bad_key, "the key holds a '%' that is not followed by two hex digits");
  auto found = find_route(*s, *key);
  if (found.problem) co_return std::move(*found.problem);
  const auto& records = found.route->records;
  std::string allowed;
  if (records.put) allowed = "PUT";
  if (records.remove) allowed.append(allowed.empty() ? "DELETE" : ", DELETE");
  if (allowed.empty()) {
    auto a = problem(problems::method_not_allowed, "the route has no 'write': its records cannot be written");
    a.add("Allow", "");
    co_return a;
  }
  auto* by = method == proto::http_method::put ? records.put.get() : method == proto::http_method::delete_ ? records.remove.get() : nullptr;
  if (by == nullptr) co_return not_allowed(allowed);
  engine::write_request what;
  const auto id = worker_.random->token();
  if (auto wrong = bind_params(found, *by, r.body, id, what.params)) co_return std::move(*wrong);
  what.body = r.body;
  what.content_type = r.head.content_type;
  what.deadline = worker_.time->now() + found.route->rules.timeout;
  auto to = read_request_for(found, r.head);
  to.key = to.key.substr(0, to.key.find('\0'));
  if (records.behind) co_return co_await write_behind(s, found, *by, std::move(what), method == proto::http_method::delete_, std::move(to.key));
  using strategy = engine::cache::write_strategy;
  const auto how = records.through && method == proto::http_method::put ? strategy::through : strategy::invalidate;
  const auto done = co_await s->cache->write(std::move(to), *by, std::move(what), how);
  if (done.store_down) co_return store_is_down();
  if (done.error) {
    const bool body_refused = method == proto::http_method::put && done.error->what == engine::load_error::kind::bad_key && done.error->got == engine::load_error::progress::refused;
    if (body_refused) co_return problem(problems::bad_request, "the origin cannot take a value of this write: wrong type or out of range");
    co_return error_answer(*done.error);
  }
  if (done.unconfirmed) {
    auto a = problem(problems::store_down, "the origin was written, but Redis did not confirm that the old value is gone; write again, or DELETE the key");
    a.add("Retry-After", "1");
    co_return a;
  }
  if (!done.result.touched) co_return problem(problems::no_record, "there is no such record");
  if (!done.result.body) co_return no_content();
  answer a;
  a.add("Content-Type", done.result.content_type.empty() ? "application/json" : done.result.content_type);
  a.text = *done.result.body;
  co_return a;
}

// Acknowledged once it is in the journal; whoever holds the lease applies it.
task<answer> data_api::write_behind(service_ptr s, const found_route& found, const engine::writer& by, engine::write_request what,
                                    bool removes, std::string key) {
  engine::journaled_write w;
  w.route = found.route->name;
  w.removes = removes;
  w.key = std::move(key);
  w.content_type = what.content_type;
  w.body = std::move(what.body);
  for (std::size_t i = 0; i < by.params().size(); ++i)
    if (by.params()[i] != write_id_param) w.params.emplace_back(by.params()[i], what.params[i]);
  const auto done = co_await s->cache->journal()->append(w);
  using state = engine::write_journal::append_state;
  if (done.state == state::down) co_return store_is_down();
  if (done.state == state::full) {
    auto a = problem(problems::overloaded, "too many writes wait for the origin");
    a.add("Retry-After", "1");
    co_return a;
  }
  if (s->appended) s->appended();
  // What was loaded before answers nobody from here on. Whoever applies the write invalidates again, so this need not be confirmed.
  co_await s->cache->invalidate_record(std::move(w.key), !found.route->forward_headers.empty());
  auto a = json("{\"id\":\"" + done.id + "\"}");
  a.status = 202;
  co_return a;
}

}  // namespace asidecar::http
