// The simulation: the real engine, several daemons in one process, on virtual time, with seeded faults; checkers hold what the
// contract says must always hold. The same seed gives the same history, event for event.
//
//   sim --seeds N [--from S]   runs N seeds; prints the first that breaks something, and what; exit code 1
//   sim --seed S [--trace 1]   replays one, and prints its hash, and what happened
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/compose.hpp"
#include "tests/sim/model_redis.hpp"

namespace asidecar::sim {
namespace {

using std::chrono::seconds;

constexpr int keys = 3;
constexpr milliseconds lock_ttl{500};
constexpr milliseconds lock_wait{600};
constexpr milliseconds lock_wait_calm{10'000};  // longer than any load: then nobody loads without the lock
constexpr milliseconds hearing_max{25};  // how long news may travel, and a lost backplane go unnoticed

constexpr int foreign = -1;  // no daemon of ours

std::string key_of(int n) { return "k:" + std::to_string(n); }

// What is true, and what was promised.
struct truth {
  struct promise {
    int version;            // everything before it is invalid
    steady_time when;       // since this answer
    int daemon;             // of this daemon
  };
  std::map<std::string, int> version;  // at the origin
  std::map<std::string, std::vector<promise>> promises;
  std::map<std::string, std::vector<std::pair<steady_time, steady_time>>> invalidations;  // from, to
  std::uint64_t load_errors = 0;
  steady_time last_load_error{};
};

struct failure {
  std::string what;
};

[[noreturn]] void broken(std::string what) { throw failure{std::move(what)}; }

class simulation;

class model_loader final : public engine::loader {
 public:
  model_loader(simulation& s, int daemon) : sim_(s), daemon_(daemon) {}
  task<engine::load_outcome> load(engine::load_request request) override;

 private:
  simulation& sim_;
  int daemon_;
};

struct quiet final : engine::event_sink {
  void event(engine::severity, std::string_view, std::initializer_list<engine::event_field>) override {}
};

// One daemon, or what is left of it.
struct node {
  std::unique_ptr<runtime::worker> worker;
  std::unique_ptr<engine::shared_state> shared;
  model_redis::listener ears;
  engine::route_stats stats;
  quiet log;
  std::shared_ptr<engine::cache> cache;
  std::map<std::string, std::vector<steady_time>> loading;  // loads under way, by when they began
};

class simulation {
 public:
  simulation(std::uint64_t seed, bool traced) : world_(seed), redis_(world_), traced_(traced) {
    if (world_.chance(0.6)) faults_ = {world_.unit() * 0.1, world_.unit() * 0.1, world_.unit() * 0.1, 0.02};
    origin_fails_ = world_.chance(0.4) ? world_.unit() * 0.3 : 0;
    backplane_breaks_ = world_.chance(0.5);
    l1_ = world_.chance(0.7);
    tagged_ = world_.chance(0.5);
    quiet_ = world_.chance(0.25);
    rules_.ttl = seconds(2);
    rules_.timeout = milliseconds(1000);
    if (world_.chance(0.5)) rules_.stale_if_error = seconds(5);
    if (world_.chance(0.5)) rules_.stale_while_revalidate = seconds(1);
    if (world_.chance(0.3)) rules_.soft_timeout = milliseconds(20);
    for (int i = 0; i < 3; ++i) nodes_.push_back(make_node(i));
  }
  ~simulation() {
    for (auto& n : nodes_) n->cache.reset();
  }

  void run() {
    for (int i = 0; i < 6; ++i) driver_->tasks.spawn(client(i));
    for (int i = 0; i < 2 && !quiet_; ++i) driver_->tasks.spawn(writer(i));
    if (!quiet_) driver_->tasks.spawn(foreign_writer());
    if (backplane_breaks_) driver_->tasks.spawn(breaker());
    driver_->tasks.spawn(evictor());
    world_.run_until(world_.now() + seconds(20));
    over_ = true;
    world_.run_until(world_.now() + seconds(60));
    for (auto& n : nodes_) {
      if (n->shared->flights.size() != 0) broken("a flight never ended");
      if (!n->loading.empty()) broken("a load never ended");
    }
    if (reads_ < 50) broken("the simulation did nothing");
  }
  std::uint64_t hash() const { return world_.hash(); }

  // --- the origin

  task<engine::load_outcome> load(int daemon, std::string key, steady_time deadline) {
    auto& n = *nodes_[static_cast<std::size_t>(daemon)];
    check_single_load(daemon, key);
    const auto began = world_.now();
    n.loading[key].push_back(began);
    trace("load on %d of %s begins", daemon, key.c_str());
    const auto bell = n.worker->time->make_alarm();
    co_await bell->wait_until(began + world_.between(1, 60));
    const int version = truth_.version[key];
    trace("load on %d of %s reads %d", daemon, key.c_str(), version);
    const auto ready = world_.now() + world_.between(1, world_.chance(0.1) ? 1500 : 60);
    const bool late = ready > deadline;
    co_await bell->wait_until(std::min(ready, deadline));
    auto& list = n.loading[key];
    list.erase(std::find(list.begin(), list.end(), began));
    if (list.empty()) n.loading.erase(key);
    trace("load on %d of %s ends%s", daemon, key.c_str(), late ? ", late" : "");
    if (late || world_.chance(origin_fails_)) {
      ++truth_.load_errors;
      truth_.last_load_error = world_.now();
      if (late) co_return engine::load_error::timed_out("late");
      co_return engine::load_error::failed("told to");
    }
    engine::loaded out;
    out.body = std::to_string(version);
    out.content_type = "text/plain";
    co_return out;
  }

 private:
  bool calm() const noexcept { return !faults_.any() && faults_.slow <= 0; }

  std::unique_ptr<node> make_node(int i) {
    auto n = std::make_unique<node>();
    n->worker = world_.make_worker(static_cast<std::size_t>(i));
    n->shared = std::make_unique<engine::shared_state>(l1_ ? 1 << 20 : 0);
    n->ears.shared = n->shared.get();
    n->ears.home = n->worker.get();
    n->ears.up = true;
    redis_.listen(n->ears);
    engine::cache_times times;
    times.lock_ttl = lock_ttl;
    times.lock_wait = calm() && quiet_ ? lock_wait_calm : lock_wait;
    times.own_fills_are_heard = true;
    n->cache = std::make_shared<engine::cache>(*n->worker, *n->shared, make_model_store(world_, redis_, *n->worker, n->ears, faults_, lock_ttl), times, n->log);
    auto key = core::key_template::parse("k:{n}");
    engine::route r{"r", std::move(boost::variant2::get<0>(key))};
    r.rules = rules_;
    if (tagged_) {
      auto all = core::tag_template::parse("all");
      r.tags.push_back({std::move(boost::variant2::get<0>(all)), {}});
    }
    r.load = std::make_unique<model_loader>(*this, i);
    r.stats = &n->stats;
    n->cache->routes.push_back(std::move(r));
    return n;
  }

  template <class... Args>
  void trace(const char* format, Args... args) {
    if (!traced_) return;
    std::printf("%8lld ms  ", static_cast<long long>(std::chrono::duration_cast<milliseconds>(world_.now().time_since_epoch() - std::chrono::hours(1)).count()));
    std::printf(format, args...);
    std::printf("\n");
  }

  task<void> pause(int low, int high) {
    const auto bell = driver_->time->make_alarm();
    co_await bell->wait_until(world_.now() + world_.between(low, high));
  }

  // --- clients

  task<void> client(int) {
    while (!over_) {
      co_await pause(0, 60);
      const int daemon = static_cast<int>(world_.draw(3));
      const int n = static_cast<int>(world_.draw(keys));
      auto& at = *nodes_[static_cast<std::size_t>(daemon)];
      at.worker->tasks.spawn(read(daemon, key_of(n), std::to_string(n)));
    }
  }

  task<void> read(int daemon, std::string key, std::string param) {
    auto& n = *nodes_[static_cast<std::size_t>(daemon)];
    engine::read_request request;
    request.to = &n.cache->routes.front();
    request.key = key;
    request.params.push_back(param);
    if (!quiet_ && world_.chance(0.05)) request.directives.no_cache = true;
    const auto began = world_.now();
    const auto errors_before = truth_.load_errors;
    const bool heard = n.shared->l1_trusted;
    const auto got = co_await n.cache->read(std::move(request));
    ++reads_;
    trace("read on %d of %s: %s (%s%s%s)", daemon, key.c_str(), got.value ? std::string(got.value->body()).c_str() : "error", std::string(got.status.detail).c_str(),
          got.status.stored ? " stored" : "", got.status.collapsed ? " collapsed" : "");
    world_.note(got.value ? std::hash<std::string_view>{}(got.value->body()) : 7);
    if (got.error) {
      if (truth_.load_errors == errors_before && got.error->what != engine::load_error::kind::timeout) broken("5.1: a read failed although no load did: " + got.error->detail);
      co_return;
    }
    if (!got.value) broken("a read without value and error");
    // An L1 that does not hear answers only while Redis cannot be reached either; what it held from before stands in, by
    // stale_if_error, only when the origin has failed too.
    const bool stands_in = rules_.stale_if_error > milliseconds(0) && began - truth_.last_load_error <= engine::recent_failures::pause;
    const bool away = got.status.detail == "redis-down" || (got.status.detail == "L1" && (stands_in || !(heard && n.shared->l1_trusted)));
    check_promises(daemon, key, std::stoi(std::string(got.value->body())), began, got.status.detail, away);
  }

  // Writes the origin, then invalidates at some daemon, in one of the ways there are.
  task<void> writer(int) {
    while (!over_) {
      co_await pause(5, 400);
      const int n = static_cast<int>(world_.draw(keys));
      const auto key = key_of(n);
      const int daemon = static_cast<int>(world_.draw(3));
      const int version = ++truth_.version[key];
      co_await pause(0, 5);
      nodes_[static_cast<std::size_t>(daemon)]->worker->tasks.spawn(invalidate(daemon, key, version));
    }
  }

  task<void> invalidate(int daemon, std::string key, int version) {
    auto& n = *nodes_[static_cast<std::size_t>(daemon)];
    using mode = engine::cache::mode;
    engine::cache::count done;
    const auto how = world_.draw(4);
    trace("invalidation on %d of %s to %d begins, way %d", daemon, key.c_str(), version, static_cast<int>(how));
    // A pattern or a tag is about all keys.
    std::vector<std::pair<std::string, std::size_t>> places;
    for (int i = 0; i < keys; ++i) {
      if (key_of(i) != key && how > 1) continue;
      auto& list = truth_.invalidations[key_of(i)];
      places.emplace_back(key_of(i), list.size());
      list.push_back({world_.now(), steady_time::max()});
    }
    if (how == 0) done = co_await n.cache->invalidate_matching("k:*", mode::purge);
    else if (how == 1 && tagged_) done = co_await n.cache->invalidate_tags(std::vector<std::string>(1, "all"), mode::purge);
    else done = co_await n.cache->invalidate(std::vector<std::string>(1, key), mode::purge);
    for (const auto& [name, place] : places) truth_.invalidations[name][place].second = world_.now();
    world_.note(done ? 1 : 2);
    trace("invalidation on %d of %s to %d: %s", daemon, key.c_str(), version, done ? "done" : "unconfirmed");
    if (done) truth_.promises[key].push_back({version, world_.now(), daemon});
  }

  // An app of another language, which writes the origin and Redis and knows nothing of locks: so only where nobody is loading.
  task<void> foreign_writer() {
    while (!over_) {
      co_await pause(20, 300);
      const auto key = key_of(static_cast<int>(world_.draw(keys)));
      const bool busy = redis_.locked(key) || std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& n) { return n->loading.count(key) > 0; });
      if (busy || tagged_) continue;
      const int version = ++truth_.version[key];
      engine::loaded value;
      value.body = std::to_string(version);
      const auto made = engine::compose(value, rules_, nullptr, driver_->time->wall_now(), core::microseconds(0), 1);
      redis_.set(key, made.value->bytes(), milliseconds(2000));
      trace("a foreign SET of %s to %d", key.c_str(), version);
      truth_.promises[key].push_back({version, world_.now(), foreign});
    }
  }

  // The backplane's connections come and go.
  task<void> breaker() {
    while (!over_) {
      co_await pause(50, 1500);
      auto& n = *nodes_[world_.draw(3)];
      if (!n.ears.up) continue;
      n.ears.up = false;
      ++n.ears.connection;
      trace("backplane of %d breaks", static_cast<int>(n.worker->index));
      n.worker->tasks.spawn(lose_and_find(n));
    }
  }
  task<void> lose_and_find(node& n) {
    const auto bell = n.worker->time->make_alarm();
    co_await bell->wait_until(world_.now() + world_.between(0, 5));
    n.shared->store_unheard();
    co_await bell->wait_until(world_.now() + world_.between(10, 500));
    n.ears.up = true;
    const auto connection = n.ears.connection;
    co_await bell->wait_until(world_.now() + world_.between(0, 3));
    if (n.ears.connection != connection) co_return;  // lost again already
    trace("backplane of %d is back", static_cast<int>(n.worker->index));
    n.shared->store_heard();
  }

  task<void> evictor() {
    while (!over_) {
      co_await pause(100, 1000);
      if (world_.chance(faults_.eviction * 5)) redis_.remove(key_of(static_cast<int>(world_.draw(keys))));
    }
  }

  // --- checkers

  // 5.3, 5.6: nothing from before an invalidation is served after it: at once on that instance, and everywhere from Redis or the
  // origin; from another's L1, once the news can have arrived.
  void check_promises(int daemon, const std::string& key, int version, steady_time began, std::string_view detail, bool away) {
    for (const auto& p : truth_.promises[key]) {
      if (version >= p.version) continue;
      if (p.daemon != daemon && away) continue;  // promised only while Redis can be reached
      const bool strict = p.daemon == daemon || detail != "L1";
      if (began <= (strict ? p.when : p.when + hearing_max)) continue;
      broken("5.3: " + key + " was invalidated up to version " + std::to_string(p.version) + " by daemon " + std::to_string(p.daemon) + ", but daemon " +
             std::to_string(daemon) + " later answered " + std::to_string(version) + " (" + std::string(detail) + ") to a read that began " +
             std::to_string(std::chrono::duration_cast<milliseconds>(world_.now() - began).count()) + " ms ago");
    }
  }

  // 5.2: a second load of a key, on one instance and in the fleet, only when an invalidation came in between.
  void check_single_load(int daemon, const std::string& key) {
    const auto& all = truth_.invalidations[key];
    for (int other = 0; other < 3; ++other) {
      if (other != daemon && !(calm() && quiet_)) continue;  // a lock may be lost, or waited for in vain
      const auto& n = *nodes_[static_cast<std::size_t>(other)];
      const auto at = n.loading.find(key);
      if (at == n.loading.end()) continue;
      for (const auto began : at->second) {
        const bool overtaken = std::any_of(all.begin(), all.end(), [&](const auto& i) { return i.second >= began - lock_wait - seconds(1); });
        if (!overtaken) broken("5.2: daemon " + std::to_string(daemon) + " loads " + key + " while daemon " + std::to_string(other) + " does");
      }
    }
  }

  world world_;
  model_redis redis_;
  faults faults_;
  double origin_fails_ = 0;
  bool backplane_breaks_ = false;
  bool l1_ = true;
  bool tagged_ = false;
  bool quiet_ = false;  // nothing is written or invalidated: then there is never a reason for two loads at once
  core::policy rules_;  // the same for all daemons
  bool over_ = false;
  const bool traced_;
  std::uint64_t reads_ = 0;
  truth truth_;
  std::unique_ptr<runtime::worker> driver_ = world_.make_worker(99);
  std::vector<std::unique_ptr<node>> nodes_;
};

task<engine::load_outcome> model_loader::load(engine::load_request request) {
  std::string key = "k:" + request.params.front();
  co_return co_await sim_.load(daemon_, std::move(key), request.deadline);
}

// nullopt: all held.
std::optional<std::string> run_seed(std::uint64_t seed, bool traced, std::uint64_t& hash) {
  try {
    simulation s(seed, traced);
    s.run();
    hash = s.hash();
  } catch (const failure& f) {
    return f.what;
  }
  return std::nullopt;
}

std::uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace
}  // namespace asidecar::sim

int main(int argc, char** argv) {
  using namespace asidecar::sim;
  std::uint64_t from = 1;
  std::uint64_t count = 200;
  bool replay = false;
  bool traced = false;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) from = number(argv[i + 1]), count = 1, replay = true;
    else if (std::strcmp(argv[i], "--trace") == 0) traced = true;
    else if (std::strcmp(argv[i], "--seeds") == 0) count = number(argv[i + 1]);
    else if (std::strcmp(argv[i], "--from") == 0) from = number(argv[i + 1]);
  }
  for (std::uint64_t seed = from; seed < from + count; ++seed) {
    std::uint64_t hash = 0;
    const auto wrong = run_seed(seed, traced, hash);
    if (wrong) {
      std::printf("seed %llu: %s\nreplay: sim --seed %llu\n", static_cast<unsigned long long>(seed), wrong->c_str(), static_cast<unsigned long long>(seed));
      return 1;
    }
    if (replay) std::printf("seed %llu: all held, hash %016llx\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(hash));
  }
  if (!replay) std::printf("%llu seeds: all held\n", static_cast<unsigned long long>(count));
  return 0;
}
