#include "daemon/app/service.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "config/units.hpp"
#include "daemon/origin/origin.hpp"
#include "daemon/redis/journal.hpp"
#include "daemon/redis/lease.hpp"
#include "daemon/redis/store.hpp"
#include "proto/redis_keys.hpp"

namespace asidecar::app {
namespace {

template <class T>
class stopped_at_end final : public stoppable {
 public:
  explicit stopped_at_end(std::shared_ptr<T> t) : held_(std::move(t)) {}
  stopped_at_end(const stopped_at_end&) = delete;
  stopped_at_end& operator=(const stopped_at_end&) = delete;
  ~stopped_at_end() override { held_->stop(); }
  void stop() override { held_->stop(); }

 private:
  std::shared_ptr<T> held_;
};

// A write waits for its turn for as long as its timeout; one whose connection was lost then goes on in the server for as long as that
// again and its grace of 1 s, after up to 5 s in which the network may still deliver it.
constexpr std::chrono::seconds origin_grace{7};

// Connections of an origin are dealt out to the threads; each has at least one.
std::size_t share_of(std::size_t connections, std::size_t worker, std::size_t workers) {
  return std::max<std::size_t>(1, connections / workers + (worker < connections % workers ? 1 : 0));
}

std::shared_ptr<origin::origin> make_origin(runtime::worker& worker, const config::origin_settings& o, std::size_t workers) {
  const auto share = share_of(o.connections, worker.index, workers);
  if (!o.postgres.empty()) return origin::make_postgres_origin(worker, o, share);
  if (!o.http.empty()) return origin::make_http_origin(worker, o, share);
  return origin::make_sqlite_origin(worker, o);
}

std::uint32_t next_number() {
  static std::atomic<std::uint32_t> last{0};
  return ++last;
}

std::uint64_t largest_value(const config::settings& s) {
  std::uint64_t largest = s.defaults.max_value;
  for (const auto& r : s.routes) largest = std::max(largest, r.rules.max_value);
  return largest;
}

redis::connection::terms redis_terms(const config::settings& s, std::string name, std::shared_ptr<redis::server_finder> finder) {
  const auto url = config::parse_redis_url(s.store->redis);
  if (!url) throw std::runtime_error("store.redis is not a Redis URL");
  // Other writers may keep larger values than ours; what is beyond even this is treated as a broken connection.
  constexpr std::uint64_t reply_bytes = std::uint64_t(64) << 20;
  return {.url = *url,
          .timeout = s.store->timeout,
          .reply_max = std::max(reply_bytes, 2 * largest_value(s)),
          .name = std::move(name),
          .tls = {s.store->ca, s.store->cert, s.store->key},
          .finder = std::move(finder)};
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

engine::route make_route(const config::route_settings& r) {
  auto parsed = core::key_template::parse(r.key);
  auto* key = boost::variant2::get_if<core::key_template>(&parsed);
  if (key == nullptr) throw std::runtime_error("route " + r.name + ": its key template does not parse");
  engine::route out{r.name, std::move(*key), r.rules, r.origin, r.put, r.content_type};
  for (const auto& h : r.forward_headers) out.forward_headers.push_back(lower(h));
  for (const auto& t : r.tags) {
    auto tag = core::tag_template::parse(t);
    engine::route::tag made{std::move(boost::variant2::get<0>(tag)), {}};
    for (const auto& name : made.text.params()) made.positions.push_back(out.key.param_index(name).value());
    out.tags.push_back(std::move(made));
  }
  return out;
}

// Its query is a route of its own, as it were: one without a key, whose value is the list of rows.
engine::warmup::parts make_warm(const config::warm_settings& w, const config::settings& s, runtime::worker& worker, const generation& from, origin::origin& o,
                        const std::shared_ptr<redis::connection>& store, observe::metrics& metrics) {
  config::route_settings query;
  query.name = w.name;
  query.load = w.query;
  query.rows = config::row_mode::many;
  query.rules.timeout = std::chrono::minutes(1);
  auto none = core::key_template::parse("warm");
  auto key = core::key_template::parse(w.key);
  const auto every = config::parse_duration(w.when);
  using schedule = engine::warmup::schedule;
  const auto when = every ? schedule::interval : w.when == "manual" ? schedule::manual : schedule::startup;
  engine::warmup::parts out{w.name, when, every.value_or(core::milliseconds(0)), w.concurrency, w.before_ready, std::move(boost::variant2::get<0>(key)),
                            nullptr, nullptr, &metrics.warm(w.name)};
  out.query = origin::guarded(from.guards.at(w.origin), worker, o.make_loader(query, boost::variant2::get<0>(none)));
  if (store) out.turn = std::make_unique<redis::lease>(store, proto::warm_lease_name(s.store->prefix, w.name));
  return out;
}

}  // namespace

generation::generation(config::settings s, observe::metrics& m) : settings(std::move(s)), number(next_number()) {
  for (const auto& o : settings.origins) guards[o.name] = origin::make_guard(o, m.origin(o.name));
  who = std::make_shared<http::admission>(settings.listen.token, settings.listen.hosts);
}

std::shared_ptr<redis::sentinels> make_sentinels(const config::settings& s, runtime::worker& home, engine::event_sink& events) {
  if (!s.store) return nullptr;
  const auto terms = redis_terms(s, "sentinel", nullptr);
  return terms.url.sentinels.empty() ? nullptr : std::make_shared<redis::sentinels>(home, terms, s.store->sentinel_password, events);
}

std::shared_ptr<redis::backplane> make_backplane(const config::settings& s, std::shared_ptr<redis::server_finder> finder, runtime::worker& home,
                                                 engine::shared_state& shared, observe::metrics& metrics, engine::event_sink& events) {
  if (!s.store) return nullptr;
  return std::make_shared<redis::backplane>(home, redis_terms(s, "backplane", std::move(finder)), *s.store, s.l1.size > 0, shared, metrics.backplane(), events);
}

service make_service(const generation& from, runtime::worker& worker, std::size_t workers, const lasting& process, observe::metrics& metrics,
                     engine::event_sink& events) {
  const auto& s = from.settings;
  service out;
  std::unique_ptr<engine::l2_store> store;
  engine::cache_terms terms;
  terms.l1_ttl = s.l1.ttl;
  terms.generation = from.number;
  terms.longest_write = core::milliseconds(0);
  for (const auto& r : s.routes)
    if (r.write) terms.longest_write = std::max(terms.longest_write, 2 * r.rules.timeout + origin_grace);
  std::vector<std::shared_ptr<void>> resources;
  const auto keep = [&](auto& resource) {
    using kind = typename std::remove_reference_t<decltype(resource)>::element_type;
    const auto kept = std::make_shared<stopped_at_end<kind>>(resource);
    resources.push_back(kept);
    out.resources.push_back(kept);
  };
  if (s.store) {
    out.store = std::make_shared<redis::connection>(worker, redis_terms(s, "redis", process.finder), metrics.store(worker.index), events);
    out.store->when_up([recent = process.recent, was_up = false](std::string_view run_id) mutable { recent->store_is_up(run_id, std::exchange(was_up, true)); });
    keep(out.store);
    store = redis::make_store(worker, out.store, process.backplane, *s.store);
    terms.own_fills_are_heard = s.store->backplane == config::backplane_kind::tracking;
    terms.lock_ttl = s.store->lock_ttl;
    terms.lock_wait = s.store->lock_wait;
  }
  metrics.set_has_store(s.store.has_value());
  auto cache = std::make_shared<engine::cache>(worker, process.shared, std::move(store), terms, events);
  cache->use_doubts(process.doubts);
  cache->use_recent(process.recent);
  std::map<std::string, std::shared_ptr<origin::origin>> origins;
  for (const auto& o : s.origins) {
    auto made = make_origin(worker, o, workers);
    keep(made);
    origins.emplace(o.name, std::move(made));
  }
  for (const auto& r : s.routes) {
    auto route = make_route(r);
    route.stats = &metrics.route(r.name, worker.index);
    if (!r.origin.empty()) {
      auto& o = *origins.at(r.origin);
      const auto& g = from.guards.at(r.origin);
      route.load = origin::guarded(g, worker, o.make_loader(r, route.key));
      if (r.write) {
        const auto writer = [&](const std::string& text) { return text.empty() ? nullptr : origin::guarded(g, worker, o.make_writer(r, text)); };
        route.records = {writer(r.write->put), writer(r.write->remove), r.write->strategy == config::write_strategy::through,
                         r.write->strategy == config::write_strategy::behind};
      }
    }
    cache->routes.push_back(std::move(route));
  }
  // Also for routes that write otherwise by now: what was acknowledged under another configuration is still applied.
  const bool writes = std::any_of(cache->routes.begin(), cache->routes.end(), [](const engine::route& r) { return r.records.put || r.records.remove; });
  if (writes && s.store) cache->use_journal(redis::make_journal(out.store, s.store->prefix, s.store->journal_max));
  if (worker.index == 0)
    for (const auto& w : s.warm) out.warm.push_back(make_warm(w, s, worker, from, *origins.at(w.origin), out.store, metrics));
  cache->resources = std::move(resources);
  if (out.store) out.store->start();
  auto data = std::make_shared<http::data_service>();
  data->cache = std::move(cache);
  data->who = from.who;
  if (s.store) data->prefix = s.store->prefix;
  data->appended = process.journal_appended;
  data->raw_values = s.store && s.store->format == config::value_format::raw;
  out.data = std::move(data);
  return out;
}

}  // namespace asidecar::app
