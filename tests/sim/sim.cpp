// The simulation: the real engine, several daemons in one process, on virtual time, with seeded faults; checkers hold what the
// contract says must always hold. The same seed gives the same history, event for event.
//
//   sim --seeds N [--from S]   runs N seeds; prints the first that breaks something, and what; exit code 1
//   sim --seed S [--trace 1]   replays one, and prints its hash, and what happened
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/compose.hpp"
#include "daemon/engine/warmup.hpp"
#include "daemon/engine/write_behind.hpp"
#include "tests/sim/model_connection.hpp"
#include "tests/sim/model_journal.hpp"
#include "tests/sim/model_origin.hpp"
#include "tests/sim/model_redis.hpp"
#include "tests/sim/truth.hpp"

namespace asidecar::sim {
namespace {

constexpr int keys = 3;
constexpr int daemons = 3;

std::string key_of(int n) { return model_origin::key_of(std::to_string(n)); }

struct quiet final : engine::event_sink {
  void event(engine::severity, std::string_view, std::initializer_list<engine::event_field>) override {}
};

// One daemon, or what is left of it.
struct node {
  visitor me;
  std::unique_ptr<runtime::worker> worker;
  std::unique_ptr<engine::shared_state> shared;
  std::shared_ptr<model_connection> connection;
  model_redis::listener ears;
  engine::route_stats stats;
  engine::warm_stats warm_stats;
  engine::write_behind_stats behind_stats;
  quiet log;
  std::shared_ptr<engine::cache> cache;
  std::shared_ptr<engine::writes_in_doubt> doubts;
  std::shared_ptr<engine::recent_invalidations> recent;
  std::shared_ptr<engine::write_behind> behind;
  std::shared_ptr<engine::warmup> warm;

  void stop() {
    doubts->stop();
    recent->stop();
    if (behind) behind->stop();
    if (warm) warm->stop();
  }
};

// How the records of a seed are written through the daemons.
enum class record_writes { none, invalidate, through, behind, values };  // values: PUT /v1/keys, by the app itself

class simulation {
 public:
  simulation(std::uint64_t seed, bool traced)
      : world_(seed), redis_(world_), traced_(traced), faults_(draw_faults(world_)), truth_(world_, !faults_.any(), world_.chance(0.2)),
        origin_(world_, truth_, *driver_, [this](const std::string& what) { trace(what); }) {
    origin_.fails = world_.chance(0.4) ? world_.unit() * 0.3 : 0;
    backplane_breaks_ = world_.chance(0.5);
    crashes_ = world_.chance(0.3);
    warms_ = world_.chance(0.3);
    l1_ = world_.chance(0.7);
    tagged_ = world_.chance(0.5);
    if (!truth_.quiet()) records_ = std::array{record_writes::none, record_writes::invalidate, record_writes::through, record_writes::behind, record_writes::values}[world_.draw(5)];
    // Repeated is what a living daemon has invalidated; not what was PUT, journaled, or written past the daemons. Leases are lost with the rest.
    const bool repeatable = !truth_.quiet() && records_ != record_writes::values && records_ != record_writes::behind;
    restarts_ = repeatable && !crashes_ && !warms_ && world_.chance(0.3);
    rules_.ttl = seconds(2);
    rules_.timeout = milliseconds(1000);
    if (world_.chance(0.5)) rules_.stale_if_error = seconds(5);
    if (world_.chance(0.5)) rules_.stale_while_revalidate = seconds(1);
    if (world_.chance(0.3)) rules_.soft_timeout = milliseconds(20);
    truth_.journal.settled = [this](const engine::journaled_write& w, int daemon, bool dead) { on_settled(w, daemon, dead); };
    for (int i = 0; i < daemons; ++i) nodes_.push_back(make_node(i));
  }
  ~simulation() {
    for (auto& n : nodes_) n->cache.reset();
    for (auto& n : graveyard_) n->cache.reset();
  }

  void run() {
    for (int i = 0; i < 6; ++i) driver_->tasks.spawn(client());
    if (records_ == record_writes::values) {
      driver_->tasks.spawn(value_writer());
    } else if (!truth_.quiet()) {
      for (int i = 0; i < 2; ++i) driver_->tasks.spawn(writer());
      if (!restarts_) driver_->tasks.spawn(foreign_writer());
    }
    if (backplane_breaks_) driver_->tasks.spawn(breaker());
    if (crashes_) driver_->tasks.spawn(killer());
    if (restarts_) driver_->tasks.spawn(restarter());
    driver_->tasks.spawn(evictor());
    world_.run_until(world_.now() + seconds(20));
    over_ = true;
    faults_ = {};
    origin_.fails = 0;
    world_.run_until(world_.now() + seconds(60));
    for (int i = 0; i < daemons; ++i)
      for (int n = 0; n < keys; ++n) spawn_on(i, read(at(i), n));
    world_.run_until(world_.now() + seconds(20));
    if (records_ == record_writes::behind) truth_.check_journal_at_the_end();
    for (auto& n : nodes_) n->stop();
    world_.run_until(world_.now() + seconds(20));
    for (int i = 0; i < daemons; ++i) check_ended(at(i));
    if (reads_ < 50) broken("the simulation did nothing");
    // What the dead were at is taken apart; they are heard by nobody any more.
    for (auto& n : graveyard_) {
      n->stop();
      world_.thaw(*n->worker);
    }
    world_.run_until(world_.now() + seconds(60));
  }
  std::uint64_t hash() const { return world_.hash(); }

 private:
  static faults draw_faults(world& w) {
    if (!w.chance(0.6)) return {};
    return {w.unit() * 0.1, w.unit() * 0.1, w.unit() * 0.1, 0.02};
  }

  node& at(int i) { return *nodes_[static_cast<std::size_t>(i)]; }
  int any_daemon() { return static_cast<int>(world_.draw(daemons)); }
  int any_key() { return static_cast<int>(world_.draw(keys)); }
  void spawn_on(int daemon, task<void> work) { at(daemon).worker->tasks.spawn(std::move(work)); }

  std::unique_ptr<node> make_node(int i) {
    auto n = std::make_unique<node>();
    n->worker = world_.make_worker(static_cast<std::size_t>(i));
    n->me.daemon = i;
    n->me.home = n->worker.get();
    truth_.visitors.push_back(&n->me);
    n->shared = std::make_unique<engine::shared_state>(l1_ ? 1 << 20 : 0);
    n->connection = std::make_shared<model_connection>(world_, *n->worker, faults_);
    n->ears.shared = n->shared.get();
    n->ears.home = n->worker.get();
    n->ears.up = true;
    redis_.listen(n->ears);
    engine::cache_terms terms;
    terms.lock_ttl = lock_ttl;
    terms.lock_wait = truth_.calm() && truth_.quiet() ? lock_wait_calm : lock_wait;
    terms.own_fills_are_heard = true;
    terms.longest_write = model_origin::longest_write;
    n->cache = std::make_shared<engine::cache>(*n->worker, *n->shared, make_model_store(redis_, n->connection, *n->worker, n->ears, lock_ttl), terms, n->log);
    n->doubts = std::make_shared<engine::writes_in_doubt>(*n->worker, [n = n.get()] { return n->cache; }, n->log);
    n->cache->use_doubts(n->doubts);
    n->recent = std::make_shared<engine::recent_invalidations>(*n->worker, [n = n.get()] { return n->cache; }, n->log);
    n->recent->store_is_up(redis_.run_id(), false);
    n->cache->use_recent(n->recent);
    auto key = core::key_template::parse("k:{n}");
    engine::route r{"r", boost::variant2::get<0>(key)};
    r.rules = rules_;
    if (tagged_) {
      auto all = core::tag_template::parse("all");
      r.tags.push_back({std::move(boost::variant2::get<0>(all)), {}});
    }
    r.load = origin_.loader(n->me);
    if (records_ != record_writes::none && records_ != record_writes::values) r.records.put = origin_.writer(n->me, records_ == record_writes::behind);
    r.stats = &n->stats;
    n->cache->routes.push_back(std::move(r));
    if (records_ == record_writes::behind) use_write_behind(*n);
    if (warms_) {
      engine::warmup::parts parts{"w", engine::warmup::schedule::interval, seconds(3), 2, false, boost::variant2::get<0>(key), origin_.query(n->me, keys),
                                  make_model_lease(redis_, n->connection, "warm"), &n->warm_stats};
      n->warm = std::make_shared<engine::warmup>(*n->worker, std::move(parts), [this, n = n.get()](std::string_view k) { return target(*n, k); }, n->log);
      n->warm->start(true);
    }
    return n;
  }

  void use_write_behind(node& n) {
    n.cache->use_journal(make_model_journal(redis_, truth_.journal, n.connection, n.me.daemon));
    n.behind = std::make_shared<engine::write_behind>(*n.worker, [&n] { return n.cache; }, n.behind_stats, n.log);
    n.behind->start();
  }

  static std::optional<engine::warmup::target> target(node& n, std::string_view key) { return engine::warmup::target{n.cache, request_for(n, key)}; }

  static engine::read_request request_for(const node& n, std::string_view key) {
    engine::read_request out;
    out.to = &n.cache->routes.front();
    out.key = key;
    out.params.emplace_back(key.substr(2));
    return out;
  }

  void trace(const std::string& what) const {
    if (!traced_) return;
    const auto since = std::chrono::duration_cast<milliseconds>(world_.now().time_since_epoch() - std::chrono::hours(1));
    std::printf("%8lld ms  %s\n", static_cast<long long>(since.count()), what.c_str());
  }

  task<void> pause(int low, int high) {
    const auto bell = driver_->time->make_alarm();
    co_await bell->wait_until(world_.now() + world_.between(low, high));
  }

  static void check_ended(const node& n) {
    const auto who = "daemon " + std::to_string(n.me.daemon);
    if (n.shared->flights.size() != 0) broken("a flight of " + who + " never ended");
    if (!n.me.loading.empty()) broken("a load of " + who + " never ended");
    if (n.warm_stats.running) broken("a warm-up of " + who + " never ended");
    if (!n.worker->tasks.empty()) broken("something of " + who + " never ended");
  }

  // --- clients

  task<void> client() {
    while (!over_) {
      co_await pause(0, 60);
      const int daemon = any_daemon();
      spawn_on(daemon, read(at(daemon), any_key()));
    }
  }

  task<void> read(node& n, int number) {
    const int daemon = n.me.daemon;
    const auto key = key_of(number);
    auto request = request_for(n, key);
    if (!truth_.quiet() && world_.chance(0.05)) request.directives.no_cache = true;
    const auto began = world_.now();
    const auto errors_before = truth_.load_errors;
    const bool heard = n.shared->l1_trusted;
    std::optional<engine::cache::seen_in_store> known;
    if (world_.chance(0.2)) {  // as mget does
      auto looked = co_await n.cache->look_in_store(std::vector<engine::read_request>(1, request));
      known = std::move(looked.front());
    }
    const auto got = co_await n.cache->read(std::move(request), std::move(known));
    if (!n.me.alive) co_return;
    ++reads_;
    const std::string body(got.value ? got.value->body() : "error");
    trace("read on " + std::to_string(daemon) + " of " + key + ": " + body + " (" + std::string(got.status.detail) + (got.status.stored ? " stored" : "") +
          (got.status.collapsed ? " collapsed)" : ")"));
    world_.note(std::hash<std::string>{}(body));
    if (got.error) {
      if (truth_.load_errors == errors_before && got.error->what != engine::load_error::kind::timeout) broken("5.1: a read failed although no load did: " + got.error->detail);
      co_return;
    }
    if (!got.value) broken("a read without value and error");
    // An L1 that does not hear answers only while Redis cannot be reached either; what it held from before stands in, by
    // stale_if_error, only when the origin has failed too.
    const bool stands_in = rules_.stale_if_error > milliseconds(0) && began - truth_.last_load_error <= engine::recent_failures::pause;
    const bool away = got.status.detail == "redis-down" || (got.status.detail == "L1" && (stands_in || !(heard && n.shared->l1_trusted)));
    truth_.check_answer(daemon, key, std::stoi(body), began, got.status.detail, away);
  }

  // Writes a record at some daemon, or writes the origin itself and invalidates.
  task<void> writer() {
    while (!over_) {
      co_await pause(5, 400);
      const int daemon = any_daemon();
      const int n = any_key();
      const bool by_record = records_ != record_writes::none && world_.chance(0.7);
      if (!by_record) {
        const int version = ++truth_.version[key_of(n)];
        co_await pause(0, 5);
        spawn_on(daemon, invalidate(at(daemon), key_of(n), version));
      } else if (records_ == record_writes::behind) {
        spawn_on(daemon, journal(at(daemon), n, "body " + std::to_string(++bodies_)));
      } else {
        spawn_on(daemon, write(at(daemon), n, "body " + std::to_string(++bodies_)));
      }
    }
  }

  task<void> invalidate(node& n, std::string key, int version) {
    using mode = engine::cache::mode;
    const int daemon = n.me.daemon;
    engine::cache::count done;
    const auto how = world_.draw(4);
    const auto what = "invalidation on " + std::to_string(daemon) + " of " + key + " to " + std::to_string(version) + ", way " + std::to_string(how);
    trace(what + " begins");
    std::vector<truth::disturbance> disturbed;
    for (int i = 0; i < keys; ++i)  // a pattern or a tag is about all keys
      if (how <= 1 || key_of(i) == key) disturbed.push_back(truth_.disturb(key_of(i), daemon));
    if (how == 0) done = co_await n.cache->invalidate_matching("k:*", mode::purge);
    else if (how == 1 && tagged_) done = co_await n.cache->invalidate_tags(std::vector<std::string>(1, "all"), mode::purge);
    else done = co_await n.cache->invalidate(std::vector<std::string>(1, key), mode::purge);
    if (!n.me.alive) co_return;
    for (const auto& d : disturbed) truth_.settle(d);
    world_.note(done ? 1 : 2);
    trace(what + (done ? " done" : " unconfirmed"));
    if (done) truth_.promise(key, version, daemon);
  }

  // PUT /v1/records, by the strategies invalidate and through.
  task<void> write(node& n, int number, std::string body) {
    using strategy = engine::cache::write_strategy;
    const auto key = key_of(number);
    engine::write_request what;
    what.params.emplace_back(std::to_string(number));
    what.body = body;
    what.deadline = world_.now() + rules_.timeout;
    const auto disturbed = truth_.disturb(key, n.me.daemon);
    const auto how = records_ == record_writes::through ? strategy::through : strategy::invalidate;
    const auto done = co_await n.cache->write(request_for(n, key), *n.cache->routes.front().records.put, std::move(what), how);
    if (!n.me.alive) co_return;
    const bool good = !done.error && !done.store_down && !done.unconfirmed;
    truth_.settle(disturbed, good ? milliseconds(0) : model_origin::longest_write + seconds(10));  // the value is removed again until that is confirmed
    world_.note(good ? 3 : 4);
    trace("write on " + std::to_string(n.me.daemon) + " of " + key + " (" + body + ") " + (good ? "done" : "in doubt"));
    if (good) truth_.promise(key, std::stoi(*done.result.body), n.me.daemon);
  }

  // The same by write-behind.
  task<void> journal(node& n, int number, std::string body) {
    engine::journaled_write w;
    w.route = "r";
    w.key = key_of(number);
    w.body = body;
    w.params.emplace_back("n", std::to_string(number));
    journaled_[body] = truth_.disturb(w.key, truth::foreign);
    const auto done = co_await n.cache->journal()->append(w);
    if (!n.me.alive) co_return;
    const bool good = done.state == engine::write_journal::append_state::appended;
    trace("journal on " + std::to_string(n.me.daemon) + " of " + w.key + " (" + body + ") " + (good ? "acknowledged" : "in doubt"));
    if (truth_.journal.ids.count(body) == 0) truth_.settle(journaled_[body]);
    if (!good) co_return;
    truth_.acknowledged(body);
    n.behind->wake();
  }

  // An entry has left the journal.
  void on_settled(const engine::journaled_write& w, int daemon, bool dead) {
    trace("write of " + w.key + " (" + w.body + ") leaves the journal" + (dead ? ", dead" : ""));
    truth_.settle(journaled_[w.body]);
    if (!dead) truth_.promise(w.key, truth_.version_of(w.body), daemon);
  }

  // An app that writes the origin and then the cache, one after the other: of two at once either may come last.
  task<void> value_writer() {
    while (!over_) {
      co_await pause(5, 200);
      auto& n = at(any_daemon());
      const auto ended = std::make_shared<bool>(false);
      n.worker->tasks.spawn(put_value(n, any_key(), ended));
      while (!*ended && n.me.alive) co_await pause(1, 5);
    }
  }

  task<void> put_value(node& n, int number, std::shared_ptr<bool> ended) {
    const auto key = key_of(number);
    const int version = ++truth_.version[key];
    const auto disturbed = truth_.disturb(key, n.me.daemon);
    auto given = std::make_unique<engine::loaded>();
    given->body = std::to_string(version);
    given->content_type = "text/plain";
    const bool done = co_await n.cache->put(request_for(n, key), std::move(given)) == engine::cache::put_outcome::done;
    *ended = true;
    if (!n.me.alive) co_return;
    truth_.settle(disturbed);
    trace("PUT on " + std::to_string(n.me.daemon) + " of " + key + " as " + std::to_string(version) + (done ? " done" : " unconfirmed"));
    if (done) truth_.promise(key, version, n.me.daemon);
  }

  // An app of another language, which writes the origin and Redis and knows nothing of locks: so only where nobody is loading.
  task<void> foreign_writer() {
    while (!over_) {
      co_await pause(20, 300);
      const auto key = key_of(any_key());
      const bool busy = redis_.locks().find(key) != nullptr || std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& n) { return n->me.loading.count(key) > 0; });
      if (busy || tagged_ || records_ != record_writes::none) continue;
      const int version = ++truth_.version[key];
      engine::loaded value;
      value.body = std::to_string(version);
      const auto made = engine::compose(value, rules_, nullptr, driver_->time->wall_now(), core::microseconds(0), 1);
      redis_.set(key, made.value->encoded(), milliseconds(2000));
      trace("a foreign SET of " + key + " to " + value.body);
      truth_.promise(key, version, truth::foreign);
    }
  }

  // --- misfortune

  // The backplane's connections come and go.
  task<void> breaker() {
    while (!over_) {
      co_await pause(50, 1500);
      auto& n = at(any_daemon());
      if (!n.ears.up) continue;
      n.ears.up = false;
      ++n.ears.connection;
      trace("backplane of " + std::to_string(n.me.daemon) + " breaks");
      n.worker->tasks.spawn(lose_and_find(n));
    }
  }
  task<void> lose_and_find(node& n) {
    const auto bell = n.worker->time->make_alarm();
    co_await bell->wait_until(world_.now() + world_.between(0, 5));
    n.shared->store_unheard();
    co_await bell->wait_until(world_.now() + world_.between(10, 500));
    if (!n.me.alive) co_return;
    n.ears.up = true;
    const auto connection = n.ears.connection;
    co_await bell->wait_until(world_.now() + world_.between(0, 3));
    if (n.ears.connection != connection) co_return;  // lost again already
    trace("backplane of " + std::to_string(n.me.daemon) + " is back");
    n.shared->store_heard();
  }

  // Daemons are killed, in the middle of whatever they do, and others start in their place.
  task<void> killer() {
    while (!over_) {
      co_await pause(200, 4000);
      const int i = any_daemon();
      auto& n = at(i);
      trace("daemon " + std::to_string(i) + " is killed");
      world_.freeze(*n.worker);
      n.me.alive = false;
      n.connection->kill();
      n.ears.up = false;
      ++n.ears.connection;
      redis_.forget(n.ears);
      truth_.killed(i);
      graveyard_.push_back(std::move(nodes_[static_cast<std::size_t>(i)]));
      nodes_[static_cast<std::size_t>(i)] = make_node(i);
    }
  }

  // Redis starts again from what it had on disk.
  task<void> restarter() {
    while (!over_) {
      co_await pause(50, 2000);
      redis_.save();
      co_await pause(10, 2000);
      trace("redis restarts, from its disk");
      redis_.restart();
      truth_.forgetful_until = steady_time::max();
      std::vector<truth::disturbance> disturbed;
      for (int i = 0; i < keys; ++i) disturbed.push_back(truth_.disturb(key_of(i), truth::foreign));
      const auto left = std::make_shared<int>(daemons);
      for (auto& n : nodes_) {
        n->connection->cut();
        if (std::exchange(n->ears.up, false)) {
          ++n->ears.connection;
          n->worker->tasks.spawn(lose_and_find(*n));
        }
        n->worker->tasks.spawn(meet_again(*n, left));
      }
      while (*left > 0) co_await pause(5, 5);
      co_await pause(20, 20);  // for the news to arrive
      truth_.forgetful_until = world_.now();
      for (const auto& d : disturbed) truth_.settle(d);
      trace("all invalidations were repeated");
    }
  }
  task<void> meet_again(node& n, std::shared_ptr<int> left) {
    const auto bell = n.worker->time->make_alarm();
    while (!n.connection->up()) co_await bell->wait_until(world_.now() + milliseconds(1));
    n.recent->store_is_up(redis_.run_id(), true);
    while (n.recent->owes()) co_await bell->wait_until(world_.now() + milliseconds(1));
    --*left;
  }

  task<void> evictor() {
    while (!over_) {
      co_await pause(100, 1000);
      if (world_.chance(faults_.eviction * 5)) redis_.remove(key_of(any_key()));
    }
  }

  world world_;
  model_redis redis_;
  const bool traced_;
  faults faults_;
  truth truth_;
  std::unique_ptr<runtime::worker> driver_ = world_.make_worker(99);  // the origin and the clients
  model_origin origin_;
  bool backplane_breaks_ = false;
  bool crashes_ = false;
  bool restarts_ = false;
  bool warms_ = false;
  bool l1_ = true;
  bool tagged_ = false;
  record_writes records_ = record_writes::none;
  core::policy rules_;  // the same for all daemons
  bool over_ = false;
  std::uint64_t reads_ = 0;
  int bodies_ = 0;
  std::map<std::string, truth::disturbance> journaled_;  // by body
  std::vector<std::unique_ptr<node>> nodes_;
  std::vector<std::unique_ptr<node>> graveyard_;
};

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
