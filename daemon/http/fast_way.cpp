// The fast way of the data API (docs/ARCHITECTURE.md): a hit without a coroutine, in L1 on the spot, in Redis when its reply comes.
#include "daemon/http/data_api.hpp"
#include "daemon/http/key_text.hpp"

namespace asidecar::http {
namespace {

using engine::read_result;
using proto::http_method;

constexpr std::size_t copied_max = 16 * 1024;
constexpr std::string_view get_key_start = "GET /v1/keys/";

}  // namespace

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

// Attempts are answer_plain()'s. The configuration may have changed since.
std::optional<engine::cache::seen_in_store> data_api::seen_by(under_way* attempt, const service_ptr& s, std::string_view key) {
  auto* const hit = dynamic_cast<l2_hit*>(attempt);
  if (hit == nullptr || !hit->is_about(s, key)) return std::nullopt;
  return std::move(hit->seen);
}

}  // namespace asidecar::http
