#include "daemon/observe/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <cstdio>
#include <deque>
#include <limits>

#include "proto/text.hpp"

namespace asidecar::observe {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using labels = std::vector<ClientMetric::Label>;

class families {
 public:
  MetricFamily& family(const char* name, const char* help, MetricType type) {
    all_.push_back({name, help, type, {}});
    return all_.back();
  }
  void counter(MetricFamily& f, labels l, double value) {
    ClientMetric m;
    m.label = std::move(l);
    m.counter.value = value;
    f.metric.push_back(std::move(m));
  }
  void gauge(MetricFamily& f, labels l, double value) {
    ClientMetric m;
    m.label = std::move(l);
    m.gauge.value = value;
    f.metric.push_back(std::move(m));
  }
  std::string text() const { return prometheus::TextSerializer().Serialize({all_.begin(), all_.end()}); }

 private:
  std::deque<MetricFamily> all_;  // references to families stay valid while more are added
};

using route_list = std::vector<std::unique_ptr<engine::route_stats>>;

template <class Read>
double sum(const route_list& list, Read read) {
  std::uint64_t total = 0;
  for (const auto& s : list)
    if (s) total += read(*s);
  return static_cast<double>(total);
}

ClientMetric histogram(const std::string& route, const route_list& list) {
  using engine::route_stats;
  ClientMetric m;
  m.label = {{"route", route}};
  std::uint64_t cumulative = 0;
  for (std::size_t b = 0; b <= runtime::latency_histogram::buckets; ++b) {
    cumulative += static_cast<std::uint64_t>(sum(list, [b](const route_stats& s) { return s.latency.count(b); }));
    const bool last = b == runtime::latency_histogram::buckets;
    const double bound = last ? std::numeric_limits<double>::infinity() : static_cast<double>(runtime::latency_histogram::upper_bound_us(b)) / 1e6;
    m.histogram.bucket.push_back({cumulative, bound});
  }
  m.histogram.sample_count = cumulative;
  m.histogram.sample_sum = sum(list, [](const route_stats& s) { return s.latency.sum_ns(); }) / 1e9;
  return m;
}

template <class Stats, class Read>
double sum_of(const std::vector<Stats>& all, Read read) {
  double total = 0;
  for (const auto& s : all) total += static_cast<double>(read(s));
  return total;
}

}  // namespace

engine::route_stats& metrics::route(const std::string& name, std::size_t worker) {
  const std::lock_guard hold(mutex_);
  auto& list = routes_[name];
  if (list.size() < stores_.size()) list.resize(stores_.size());
  if (!list[worker]) list[worker] = std::make_unique<engine::route_stats>();
  return *list[worker];
}

std::shared_ptr<engine::origin_stats> metrics::origin(const std::string& name) {
  const std::lock_guard hold(mutex_);
  auto& slot = origins_[name];
  if (!slot) slot = std::make_shared<engine::origin_stats>();
  return slot;
}

engine::warm_stats& metrics::warm(const std::string& name) {
  const std::lock_guard hold(mutex_);
  auto& slot = warms_[name];
  if (!slot) slot = std::make_unique<engine::warm_stats>();
  return *slot;
}

void metrics::gauge(std::string name, std::string help, std::function<double()> read) {
  const std::lock_guard hold(mutex_);
  gauges_.push_back({std::move(name), std::move(help), std::move(read)});
}

std::string metrics::prometheus_text() const {
  using engine::origin_stats;
  using engine::route_stats;
  const std::lock_guard hold(mutex_);
  families out;
  auto& requests = out.family("asidecar_requests_total", "Reads by route and result.", MetricType::Counter);
  auto& latency = out.family("asidecar_request_duration_seconds", "Time from a read's head to its answer.", MetricType::Histogram);
  auto& loads = out.family("asidecar_loads_total", "Loads begun, also those refused by a full queue or an open breaker.", MetricType::Counter);
  auto& coalesced = out.family("asidecar_coalesced_total", "Reads that shared another request's load.", MetricType::Counter);
  auto& waits = out.family("asidecar_lock_waits_total", "Loads that found the fill lock held by another instance.", MetricType::Counter);
  for (const auto& [name, list] : routes_) {
    for (std::size_t i = 0; i < engine::read_result_names.size(); ++i)
      out.counter(requests, {{"route", name}, {"result", std::string(engine::read_result_names[i])}}, sum(list, [i](const route_stats& s) { return s.results[i].value(); }));
    latency.metric.push_back(histogram(name, list));
    out.counter(loads, {{"route", name}}, sum(list, [](const route_stats& s) { return s.loads.value(); }));
    out.counter(coalesced, {{"route", name}}, sum(list, [](const route_stats& s) { return s.coalesced.value(); }));
    out.counter(waits, {{"route", name}}, sum(list, [](const route_stats& s) { return s.lock_waits.value(); }));
  }
  auto& up = out.family("asidecar_origin_up", "1 when the last call succeeded.", MetricType::Gauge);
  auto& in_flight = out.family("asidecar_origin_in_flight", "Calls running now.", MetricType::Gauge);
  auto& queued = out.family("asidecar_origin_queued", "Loads waiting for a place.", MetricType::Gauge);
  auto& breaker = out.family("asidecar_origin_breaker_state", "0 closed, 1 half-open, 2 open.", MetricType::Gauge);
  auto& calls = out.family("asidecar_origin_calls_total", "Calls made.", MetricType::Counter);
  auto& errors = out.family("asidecar_origin_errors_total", "Calls that failed or timed out.", MetricType::Counter);
  auto& refused = out.family("asidecar_origin_refused_total", "Loads refused: breaker open or queue full.", MetricType::Counter);
  for (const auto& [name, s] : origins_) {
    const labels l{{"origin", name}};
    out.gauge(up, l, s->up ? 1 : 0);
    out.gauge(in_flight, l, static_cast<double>(s->in_flight));
    out.gauge(queued, l, static_cast<double>(s->queued));
    out.gauge(breaker, l, static_cast<double>(static_cast<int>(s->breaker.load())));
    out.counter(calls, l, static_cast<double>(s->loads));
    out.counter(errors, l, static_cast<double>(s->errors));
    out.counter(refused, l, static_cast<double>(s->refused));
  }
  if (has_store_) {
    bool all_up = true;
    for (const auto& s : stores_) all_up = all_up && s.up > 0;
    out.gauge(out.family("asidecar_redis_up", "1 when every thread is connected.", MetricType::Gauge), {}, all_up ? 1 : 0);
    out.counter(out.family("asidecar_redis_commands_total", "Commands sent.", MetricType::Counter), {}, sum_of(stores_, [](const auto& s) { return s.commands.value(); }));
    out.counter(out.family("asidecar_redis_errors_total", "Error replies.", MetricType::Counter), {}, sum_of(stores_, [](const auto& s) { return s.errors.value(); }));
    out.counter(out.family("asidecar_redis_timeouts_total", "Operations past store.timeout.", MetricType::Counter), {}, sum_of(stores_, [](const auto& s) { return s.timeouts.value(); }));
    out.counter(out.family("asidecar_redis_reconnects_total", "Connection attempts after the first.", MetricType::Counter), {}, sum_of(stores_, [](const auto& s) { return s.reconnects.value(); }));
    out.gauge(out.family("asidecar_backplane_up", "1 when this instance hears what others publish.", MetricType::Gauge), {}, backplane_.up > 0 ? 1 : 0);
    out.counter(out.family("asidecar_backplane_reconnects_total", "Connection attempts after the first.", MetricType::Counter), {}, static_cast<double>(backplane_.reconnects.value()));
  }
  if (has_store_) {
    out.gauge(out.family("asidecar_write_behind_pending", "Journaled writes that are not yet applied, in the fleet.", MetricType::Gauge), {}, static_cast<double>(behind_.pending.load()));
    out.counter(out.family("asidecar_write_behind_applied_total", "Journaled writes applied by this instance.", MetricType::Counter), {}, static_cast<double>(behind_.applied.value()));
    out.counter(out.family("asidecar_write_behind_retries_total", "Attempts after the first.", MetricType::Counter), {}, static_cast<double>(behind_.retries.value()));
    out.counter(out.family("asidecar_write_behind_dead_letters_total", "Journaled writes given up, with the reason, to the stream of dead letters.", MetricType::Counter), {}, static_cast<double>(behind_.dead.value()));
  }
  if (!warms_.empty()) {
    auto& runs = out.family("asidecar_warm_runs_total", "Warm-ups that ran to their end in this instance.", MetricType::Counter);
    auto& keys = out.family("asidecar_warm_keys_total", "Keys of warm-ups, by result.", MetricType::Counter);
    auto& running = out.family("asidecar_warm_running", "1 while it runs in this instance.", MetricType::Gauge);
    for (const auto& [name, s] : warms_) {
      out.counter(runs, {{"warm", name}}, static_cast<double>(s->runs.value()));
      out.counter(keys, {{"warm", name}, {"result", "warmed"}}, static_cast<double>(s->warmed.value()));
      out.counter(keys, {{"warm", name}, {"result", "failed"}}, static_cast<double>(s->failed.value()));
      out.gauge(running, {{"warm", name}}, s->running ? 1 : 0);
    }
  }
  out.counter(out.family("asidecar_connections_accepted_total", "Client connections accepted.", MetricType::Counter), {}, sum_of(servers_, [](const auto& s) { return s.accepted.value(); }));
  out.counter(out.family("asidecar_connections_refused_total", "Client connections over the limit.", MetricType::Counter), {}, sum_of(servers_, [](const auto& s) { return s.refused.value(); }));
  out.counter(out.family("asidecar_bad_requests_total", "Requests refused by the framing gate.", MetricType::Counter), {}, sum_of(servers_, [](const auto& s) { return s.bad_requests.value(); }));
  out.gauge(out.family("asidecar_connections_open", "Client connections open now.", MetricType::Gauge), {}, sum_of(servers_, [](const auto& s) { return s.open.load(); }));
  for (const auto& g : gauges_) out.gauge(out.family(g.name.c_str(), g.help.c_str(), MetricType::Gauge), {}, g.read());
  return out.text();
}

void metrics::totals::add(const engine::route_stats& s) {
  using engine::read_result;
  const auto of = [&](read_result r) { return s.results[static_cast<std::size_t>(r)].value(); };
  hits += of(read_result::l1) + of(read_result::l2) + of(read_result::stale) + of(read_result::negative);
  misses += of(read_result::miss);
  errors += of(read_result::error);
  latency_ns += s.latency.sum_ns();
}

void metrics::totals::subtract(const totals& t) {
  hits -= t.hits;
  misses -= t.misses;
  errors -= t.errors;
  latency_ns -= t.latency_ns;
}

std::string metrics::totals::json() const {
  const auto total = hits + misses + errors;
  const double rate = hits + misses == 0 ? 0 : 100.0 * static_cast<double>(hits) / static_cast<double>(hits + misses);
  const double average = total == 0 ? 0 : static_cast<double>(latency_ns) / 1e6 / static_cast<double>(total);
  char text[256];
  const int n = std::snprintf(text, sizeof text, R"("hits":%llu,"misses":%llu,"errors":%llu,"hitRate":"%.2f%%","avgLatencyMs":"%.2f","totalRequests":%llu)",
                              static_cast<unsigned long long>(hits), static_cast<unsigned long long>(misses), static_cast<unsigned long long>(errors), rate, average,
                              static_cast<unsigned long long>(total));
  return {text, static_cast<std::size_t>(n)};
}

std::map<std::string, metrics::totals> metrics::totals_by_route() const {
  std::map<std::string, totals> out;
  for (const auto& [name, list] : routes_)
    for (const auto& s : list)
      if (s) out[name].add(*s);
  return out;
}

std::string metrics::cache_json() const {
  const std::lock_guard hold(mutex_);
  totals all;
  std::string by_route;
  for (auto& [name, t] : totals_by_route()) {
    auto since = t;
    if (const auto base = base_.find(name); base != base_.end()) since.subtract(base->second);
    all.hits += since.hits;
    all.misses += since.misses;
    all.errors += since.errors;
    all.latency_ns += since.latency_ns;
    if (!by_route.empty()) by_route.push_back(',');
    by_route.push_back('"');
    proto::append_json_escaped(by_route, name);
    by_route.append("\":{").append(since.json()).append("}");
  }
  return "{" + all.json() + ",\"routes\":{" + by_route + "}}";
}

void metrics::reset_cache() {
  const std::lock_guard hold(mutex_);
  base_ = totals_by_route();
}

}  // namespace asidecar::observe
