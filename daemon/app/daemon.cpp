#include "daemon/app/daemon.hpp"

#include <malloc.h>
#include <sys/resource.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdlib>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "config/config.hpp"
#include "daemon/app/service.hpp"
#include "daemon/engine/write_behind.hpp"
#include "daemon/http/admin_api.hpp"
#include "daemon/http/server.hpp"
#include "daemon/observe/log.hpp"
#include "daemon/runtime/cpu_quota.hpp"

namespace asidecar::app {
namespace {

using engine::severity;
using runtime::task;
constexpr std::chrono::seconds drain_time{10};
constexpr std::chrono::milliseconds first_connect_max{100};  // of start-up, for Redis
constexpr std::uint32_t admin_connections_max = 128;
constexpr std::chrono::seconds memory_looked_at_every{10};
constexpr std::size_t free_memory_kept = std::size_t(16) << 20;

// What the process may open from now on.
rlim_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return RLIM_INFINITY;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

// Everything of one thread.
struct lane {
  explicit lane(std::size_t index) : worker(index) {}
  runtime::worker worker;
  runtime::task_group lifecycle{worker.executor()};  // start, reload and stop themselves
  std::unique_ptr<http::data_api> api;
  std::unique_ptr<http::server> server;
  std::shared_ptr<engine::writes_in_doubt> doubts;
  std::shared_ptr<engine::recent_invalidations> recent;
  std::unique_ptr<runtime::alarm> stop_bell = worker.time->make_alarm();
  bool stopping = false;

  void use(const service& s) {
    std::erase_if(resources, [](const auto& r) { return r.expired(); });
    resources.insert(resources.end(), s.resources.begin(), s.resources.end());
  }
  std::vector<std::weak_ptr<stoppable>> resources;  // of all services that still have requests
  std::shared_ptr<generation> latest;               // begun on this lane: an older one that is slower comes too late
  std::uint32_t tags_version = 0;                   // of the configuration at work
};

class daemon {
 public:
  daemon(config::settings settings, std::string path);
  ~daemon();
  int run();

 private:
  void listen(const config::settings& s);
  void make_admin();
  void wait_for_signal();
  void reload();
  void stop();
  static const char* fixed_at_start(const config::settings& now, const config::settings& wanted);

  task<std::optional<service>> prepare(lane& l, std::shared_ptr<generation> g);
  void serve(lane& l, service s, bool at_startup);
  task<void> start_lane(lane& l, std::shared_ptr<generation> g);
  task<http::answer> run_warmup(std::string name);
  task<void> switch_lane(lane& l, std::shared_ptr<generation> g);
  task<void> stop_lane(lane& l);
  task<void> give_memory_back(lane& l);

  std::string path_;
  std::unique_ptr<observe::event_log> log_;
  observe::metrics metrics_;
  engine::shared_state shared_;
  std::vector<std::unique_ptr<lane>> lanes_;
  std::shared_ptr<redis::sentinels> sentinels_;  // null: the store's URL names its server; on the first lane
  std::shared_ptr<redis::backplane> backplane_;  // null without a store; likewise
  std::shared_ptr<engine::write_behind> behind_;  // likewise
  std::vector<std::shared_ptr<engine::warmup>> warm_;     // likewise, of the configuration at work
  std::shared_ptr<generation> current_;          // the first lane's thread only
  http::connection_limit data_limit_;
  http::connection_limit admin_limit_{admin_connections_max};
  observe::server_stats admin_stats_;
  std::unique_ptr<http::admin_api> admin_;
  std::unique_ptr<http::server> admin_server_;
  asio::signal_set signals_;
  std::atomic<std::size_t> started_{0};
  std::atomic<std::size_t> stopped_{0};
  std::atomic<bool> unfinished_{false};
  bool stopping_ = false;
  std::atomic<int> exit_code_{0};
};

bool tags_differ(const config::settings& now, const config::settings& wanted) {
  for (const auto& r : wanted.routes) {
    const auto same = std::find_if(now.routes.begin(), now.routes.end(), [&](const auto& one) { return one.key == r.key; });
    if (same != now.routes.end() && same->tags != r.tags) return true;
  }
  return false;
}

std::optional<engine::warmup::target> warm_target(const http::data_api& api, std::string_view key) {
  const auto service = api.service();
  if (!service) return std::nullopt;
  auto request = api.request_for(*service, key);
  if (!request) return std::nullopt;
  return engine::warmup::target{service->cache, std::move(*request)};
}

std::size_t worker_count(const config::settings& s) { return s.threads != 0 ? s.threads : runtime::usable_cpus(); }

std::vector<std::unique_ptr<lane>> make_lanes(std::size_t count) {
  std::vector<std::unique_ptr<lane>> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(std::make_unique<lane>(i));
  return out;
}

daemon::daemon(config::settings settings, std::string path)
    : path_(std::move(path)), log_(observe::make_log(settings.log)), metrics_(worker_count(settings)), shared_(settings.l1.size),
      lanes_(make_lanes(worker_count(settings))), data_limit_{settings.listen.max_connections},
      signals_(lanes_.front()->worker.context, SIGTERM, SIGINT, SIGHUP) {
  if (raise_descriptor_limit() < settings.listen.max_connections + 256)
    log_->event(severity::warn, "the limit of open files is below what listen.max_connections needs");
  listen(settings);
  auto& first = *lanes_.front();
  behind_ = std::make_shared<engine::write_behind>(first.worker, [&first] { return first.api->current(); }, metrics_.write_behind(), *log_);
  current_ = std::make_shared<generation>(std::move(settings), metrics_);
  sentinels_ = make_sentinels(current_->settings, first.worker, *log_);
  backplane_ = make_backplane(current_->settings, sentinels_, first.worker, shared_, metrics_, *log_);
  metrics_.gauge("asidecar_l1_bytes", "Bytes held in L1.", [this] { return static_cast<double>(shared_.l1.bytes()); });
  metrics_.gauge("asidecar_l1_entries", "Values held in L1.", [this] { return static_cast<double>(shared_.l1.entries()); });
  metrics_.gauge("asidecar_flights", "Loads under way.", [this] { return static_cast<double>(shared_.flights.size()); });
}

// The first thread's io_context goes last: what ends on the others may still post to it.
daemon::~daemon() {
  while (lanes_.size() > 1) lanes_.pop_back();
}

void daemon::listen(const config::settings& s) {
  std::vector<std::shared_ptr<http::listener>> data;
  for (const auto& address : s.listen.data) data.push_back(std::make_shared<http::listener>(address));
  for (auto& l : lanes_) {
    l->doubts = std::make_shared<engine::writes_in_doubt>(l->worker, [lane = l.get()] { return lane->api->current(); }, *log_);
    l->recent = std::make_shared<engine::recent_invalidations>(l->worker, [lane = l.get()] { return lane->api->current(); }, *log_);
    l->api = std::make_unique<http::data_api>(l->worker, metrics_.route("(none)", l->worker.index));
    l->server = std::make_unique<http::server>(l->worker, data, *l->api, data_limit_, metrics_.server(l->worker.index));
  }
  if (s.listen.admin == "off") return;
  make_admin();
  admin_server_ = std::make_unique<http::server>(lanes_.front()->worker, std::vector{std::make_shared<http::listener>(s.listen.admin)}, *admin_, admin_limit_, admin_stats_);
}

void daemon::make_admin() {
  http::admin_api::sources from;
  from.ready = [this] {
    const bool warm = std::none_of(warm_.begin(), warm_.end(), [](const auto& w) { return w->holds_up_readiness(); });
    return started_ == lanes_.size() && !stopping_ && warm;
  };
  from.warm = [this](std::string name) { return run_warmup(std::move(name)); };
  from.prometheus = [this] { return metrics_.prometheus_text(); };
  from.cache_metrics = [this] { return metrics_.cache_json(); };
  from.reset_cache_metrics = [this] { metrics_.reset_cache(); };
  from.configuration = [this] { return config::print_effective(current_->settings); };
  from.who = [this] { return current_->who; };
  from.explain = [this](const http::request& r, std::string_view path) { return lanes_.front()->api->explain(r, path); };
  admin_ = std::make_unique<http::admin_api>(std::move(from));
}

int daemon::run() {
  for (auto& l : lanes_) l->lifecycle.spawn(start_lane(*l, current_));
  wait_for_signal();
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < lanes_.size(); ++i) threads.emplace_back([&l = *lanes_[i]] { l.worker.context.run(); });
  lanes_.front()->worker.context.run();
  for (auto& t : threads) t.join();
  log_->event(severity::info, "stopped");
  if (unfinished_) {  // coroutines that hang cannot be taken apart safely, and need not be
    log_.reset();
    std::_Exit(exit_code_);
  }
  return exit_code_;
}

// Nothing when a newer configuration came meanwhile, or the end.
task<std::optional<service>> daemon::prepare(lane& l, std::shared_ptr<generation> g) {
  l.latest = g;
  const lasting process{shared_, sentinels_, backplane_, l.doubts, l.recent, [behind = behind_] { behind->wake(); }};
  std::optional<service> s = make_service(*g, l.worker, lanes_.size(), process, metrics_, *log_);
  l.use(*s);
  if (s->store) co_await s->store->wait_up(l.worker.time->now() + std::min(g->settings.store->timeout, first_connect_max));
  if (l.stopping || l.latest != g) s.reset();
  co_return s;
}

void daemon::serve(lane& l, service s, bool at_startup) {
  l.api->serve_with(s.data);
  if (l.worker.index != 0) return;
  behind_->wake();
  for (auto& w : warm_) w->stop();
  warm_.clear();
  for (auto& parts : s.warm) {
    const auto find = [api = l.api.get()](std::string_view key) { return warm_target(*api, key); };
    warm_.push_back(std::make_shared<engine::warmup>(l.worker, std::move(parts), find, *log_));
    warm_.back()->start(at_startup);
  }
}

task<void> daemon::start_lane(lane& l, std::shared_ptr<generation> g) {
  if (sentinels_ && l.worker.index == 0) sentinels_->start();
  if (backplane_ && l.worker.index == 0) backplane_->start();
  std::optional<service> s;
  while (!s && !l.stopping) {
    s = co_await prepare(l, g);
    g = l.latest;  // a reload came in between
  }
  if (l.stopping) co_return;
  serve(l, std::move(*s), true);
  try {
    l.server->start();
  } catch (const std::system_error& e) {
    log_->event(severity::error, "cannot serve", {{"why", e.what()}});
    exit_code_ = 1;
    asio::post(lanes_.front()->worker.executor(), [this] { if (!stopping_) stop(); });
    co_return;
  }
  if (l.worker.index == 0) {
    behind_->start();
    l.worker.tasks.spawn(give_memory_back(l));
  }
  if (++started_ < lanes_.size()) co_return;
  log_->event(severity::info, "ready", {{"data", g->settings.listen.data.front()}, {"admin", g->settings.listen.admin}});
  if (admin_server_) asio::post(lanes_.front()->worker.executor(), [this] { admin_server_->start(); });
}

// What a burst has left free in the heap goes back to the system, which malloc does by itself only at the heap's end.
task<void> daemon::give_memory_back(lane& l) {
  while (!l.stopping) {
    co_await l.stop_bell->wait_until(l.worker.time->now() + memory_looked_at_every);
    const auto heap = mallinfo2();
    if (heap.fordblks > free_memory_kept && heap.fordblks > heap.uordblks / 4) malloc_trim(free_memory_kept / 4);
  }
}

// Its outcome as an answer of the admin API.
task<http::answer> daemon::run_warmup(std::string name) {
  const auto at = std::find_if(warm_.begin(), warm_.end(), [&](const auto& w) { return w->name() == name; });
  if (at == warm_.end()) co_return http::problem(proto::problems::not_found, "there is no warm-up of that name");
  const auto w = *at;
  const auto r = co_await w->run();
  using outcome = engine::warmup::result::outcome;
  if (r.what == outcome::busy) co_return http::problem(proto::problems::conflict, "it is running already, here or in another instance");
  if (r.what == outcome::query_failed) co_return http::problem(proto::problems::origin_failed, "the warm-up could not run: its query failed; the log says why");
  if (r.what == outcome::unfit) co_return http::problem(proto::problems::bad_request, "the warm-up could not run: " + r.why);
  co_return http::json("{\"keys\":" + std::to_string(r.keys) + ",\"warmed\":" + std::to_string(r.warmed) + ",\"failed\":" + std::to_string(r.failed) + "}");
}

void daemon::wait_for_signal() {
  signals_.async_wait([this](error_code ec, int signal) {
    if (ec) return;
    if (signal == SIGHUP) reload();
    else stop();
    wait_for_signal();
  });
}

const char* daemon::fixed_at_start(const config::settings& now, const config::settings& wanted) {
  if (now.listen.data != wanted.listen.data) return "listen.data";
  if (now.listen.admin != wanted.listen.admin) return "listen.admin";
  if (now.listen.max_connections != wanted.listen.max_connections) return "listen.max_connections";
  if (now.threads != wanted.threads) return "threads";
  if (now.l1.size != wanted.l1.size || now.store.has_value() != wanted.store.has_value()) return "l1.size or the presence of store";
  const auto fixed = [](const config::store_settings& of) {
    return std::tie(of.redis, of.ca, of.cert, of.key, of.sentinel_password, of.prefix, of.format, of.backplane);
  };
  if (now.store && fixed(*now.store) != fixed(*wanted.store)) return "one of store.redis, ca, cert, key, sentinel_password, prefix, format and backplane";
  if (now.log.format != wanted.log.format) return "log.format";
  return nullptr;
}

void daemon::reload() {
  if (stopping_) return;
  if (path_.empty()) return log_->event(severity::warn, "nothing to reload: the demo's configuration is built in");
  auto loaded = config::load_file(path_);
  for (const auto& e : loaded.errors) log_->event(severity::error, "reload refused, the old configuration stays", {{"why", e.text()}});
  if (!loaded.value) return;
  if (const auto* fixed = fixed_at_start(current_->settings, *loaded.value); fixed != nullptr) {
    log_->event(severity::error, "reload refused, the old configuration stays", {{"why", std::string(fixed) + " cannot change while running; restart instead"}});
    return;
  }
  log_->set_level(loaded.value->log.level);
  auto next = std::make_shared<generation>(std::move(*loaded.value), metrics_);
  next->tags_version = current_->tags_version + (tags_differ(current_->settings, next->settings) ? 1 : 0);
  current_ = std::move(next);
  for (auto& l : lanes_)
    asio::post(l->worker.executor(), [this, lane = l.get(), g = current_] { lane->lifecycle.spawn(switch_lane(*lane, g)); });
  log_->event(severity::info, "configuration reloaded", {{"file", path_}});
}

task<void> daemon::switch_lane(lane& l, std::shared_ptr<generation> g) {
  auto s = co_await prepare(l, g);
  if (!s) co_return;
  serve(l, std::move(*s), false);
  if (std::exchange(l.tags_version, g->tags_version) == g->tags_version) co_return;
  // Copies in L1 carry the marks of the old tags, and until now this lane has made more of them.
  shared_.fence.move_all();
  shared_.flights.overtake_if([](const engine::flight&) { return true; });
  shared_.l1.erase_if([](std::string_view) { return true; });
}

void daemon::stop() {
  if (stopping_) std::_Exit(0);  // a second signal: at once, as is
  stopping_ = true;
  log_->event(severity::info, "draining");
  for (auto& l : lanes_) asio::post(l->worker.executor(), [this, lane = l.get()] { lane->lifecycle.spawn(stop_lane(*lane)); });
}

task<void> daemon::stop_lane(lane& l) {
  const auto deadline = l.worker.time->now() + drain_time;
  const bool first = l.worker.index == 0;
  l.stopping = true;
  if (first) {
    behind_->stop();
    for (auto& w : warm_) w->stop();
  }
  l.server->drain();
  co_await l.server->drained(deadline);
  if (first && admin_server_) {
    admin_server_->drain();
    co_await admin_server_->drained(std::min(deadline, l.worker.time->now() + std::chrono::seconds(1)));
  }
  // Whoever is left could not be served any more.
  l.server->abandon();
  if (first && admin_server_) admin_server_->abandon();
  l.doubts->stop();
  l.recent->stop();
  l.stop_bell->ring();
  l.api->serve_with(nullptr);
  if (backplane_ && first) backplane_->stop();
  if (sentinels_ && first) sentinels_->stop();
  const bool all_ended = co_await l.worker.tasks.join(*l.worker.time, deadline);
  if (!all_ended) {
    // What still waits for an origin or for Redis ends now, while there is a loop to run it.
    for (const auto& weak : l.resources)
      if (const auto r = weak.lock()) r->stop();
    const bool now_ended = co_await l.worker.tasks.join(*l.worker.time, l.worker.time->now() + std::chrono::seconds(1));
    if (!now_ended) unfinished_ = true;
  }
  ++stopped_;
  // The first lane has the signals: it goes last, so that a second one still ends the others at once.
  const auto bell = l.worker.time->make_alarm();
  while (first && stopped_ < lanes_.size() && l.worker.time->now() < deadline) co_await bell->wait_until(l.worker.time->now() + std::chrono::milliseconds(5));
  l.worker.sockets.stop();
  l.worker.timeouts.stop();
  l.worker.guard.reset();
  if (first) signals_.cancel();
  l.worker.context.stop();
}

}  // namespace

int run_daemon(config::settings settings, std::string path) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return daemon(std::move(settings), std::move(path)).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "asidecar: %s\n", e.what());
    return 1;
  }
}

}  // namespace asidecar::app
