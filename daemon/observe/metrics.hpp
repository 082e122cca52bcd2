// Everything that is counted, and its two public forms: Prometheus text and /metrics/cache. Objects handed out stay valid for
// the life of the registry, across reloads. Registration takes a mutex; counting takes none.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/engine/loader.hpp"
#include "daemon/engine/stats.hpp"

namespace asidecar::observe {

// One listener thread's counters.
struct server_stats {
  runtime::counter accepted;
  runtime::counter refused;       // over the connection limit
  runtime::counter bad_requests;  // refused by the framing gate
  std::atomic<std::int64_t> open{0};
};

class metrics {
 public:
  explicit metrics(std::size_t workers) : servers_(workers), stores_(workers) {}

  engine::route_stats& route(const std::string& name, std::size_t worker);
  std::shared_ptr<engine::origin_stats> origin(const std::string& name);
  engine::store_stats& store(std::size_t worker) { return stores_[worker]; }
  engine::store_stats& backplane() { return backplane_; }
  engine::write_behind_stats& write_behind() { return behind_; }
  engine::warm_stats& warm(const std::string& name);
  server_stats& server(std::size_t worker) { return servers_[worker]; }

  // Gauges that something else knows.
  void gauge(std::string name, std::string help, std::function<double()> read);
  void set_has_store(bool has) { has_store_ = has; }

  std::string prometheus_text() const;
  std::string cache_json() const;  // GET /metrics/cache
  void reset_cache();              // its figures begin anew; Prometheus counters never go back

 private:
  struct totals {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t errors = 0;
    std::uint64_t latency_ns = 0;
    void add(const engine::route_stats& s);
    void subtract(const totals& t);
    std::string json() const;  // without braces
  };
  struct gauge_source {
    std::string name;
    std::string help;
    std::function<double()> read;
  };
  std::map<std::string, totals> totals_by_route() const;

  std::vector<server_stats> servers_;
  std::vector<engine::store_stats> stores_;
  engine::store_stats backplane_;
  engine::write_behind_stats behind_;
  std::atomic<bool> has_store_{false};
  mutable std::mutex mutex_;  // guards the maps below, not the counters in them
  std::map<std::string, std::vector<std::unique_ptr<engine::route_stats>>> routes_;
  std::map<std::string, std::shared_ptr<engine::origin_stats>> origins_;
  std::map<std::string, std::unique_ptr<engine::warm_stats>> warms_;
  std::vector<gauge_source> gauges_;
  std::map<std::string, totals> base_;  // what reset_cache() subtracts
};

}  // namespace asidecar::observe
