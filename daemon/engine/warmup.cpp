#include "daemon/engine/warmup.hpp"

#include <algorithm>
#include <boost/json.hpp>

namespace asidecar::engine {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

constexpr milliseconds turn_ttl{30'000};
constexpr milliseconds query_max{60'000};

// The keys of the rows, or which column is missing.
struct named_keys {
  std::vector<std::string> keys;
  std::string missing;
};

std::string as_text(const json::value& v) {
  if (v.is_string()) return {v.get_string().data(), v.get_string().size()};
  return json::serialize(v);
}

named_keys keys_of(const json::array& rows, const core::key_template& key) {
  named_keys out;
  for (const auto& row : rows) {
    std::vector<std::string> values;
    for (const auto& p : key.params()) {
      const auto* column = row.is_object() ? row.get_object().if_contains(json::string_view(p.name.data(), p.name.size())) : nullptr;
      if (column == nullptr) {
        out.missing = p.name;
        return out;
      }
      values.push_back(as_text(*column));
    }
    out.keys.push_back(key.format(values));
  }
  return out;
}

}  // namespace

struct warmup::progress {
  std::vector<std::string> keys;
  std::size_t next = 0;
  std::size_t readers = 0;
  result so_far;
  std::unique_ptr<runtime::alarm> done;
};

warmup::warmup(runtime::worker& w, parts p, find_target find, event_sink& events)
    : worker_(w), parts_(std::move(p)), find_(std::move(find)), events_(events), bell_(w.time->make_alarm()) {}

void warmup::start(bool at_startup) {
  if (parts_.when == schedule::manual || (parts_.when == schedule::startup && !at_startup)) {
    has_run_ = true;  // nothing to wait for
    return;
  }
  worker_.tasks.spawn(live(shared_from_this(), at_startup));
}

void warmup::stop() {
  stopped_ = true;
  bell_->ring();
}

task<void> warmup::live([[maybe_unused]] std::shared_ptr<warmup> self, bool now) {
  while (!stopped_) {
    if (now) co_await run();
    has_run_ = true;
    now = true;
    if (parts_.when != schedule::interval || stopped_) co_return;
    co_await bell_->wait_until(worker_.time->now() + parts_.every);
  }
}

task<warmup::result> warmup::run() {
  result out;
  out.what = result::outcome::busy;
  if (running_) co_return out;
  running_ = true;
  parts_.stats->running = true;
  const auto token = worker_.random->token();
  bool mine = true;
  if (parts_.turn) {
    const auto taken = co_await parts_.turn->take(token, turn_ttl);
    mine = taken != answer::no;  // without Redis each warms for itself
  }
  if (mine) {
    const std::shared_ptr<runtime::alarm> stop = worker_.time->make_alarm();
    if (parts_.turn) worker_.tasks.spawn(keep_turn(shared_from_this(), token, stop));
    out = co_await run_in_turn();
    if (out.what != result::outcome::done) events_.event(severity::warn, "a warm-up failed", {{"warm", name()}, {"why", out.why}});
    stop->ring();
    if (parts_.turn) co_await parts_.turn->release(token);
  }
  running_ = false;
  parts_.stats->running = false;
  co_return out;
}

task<warmup::result> warmup::run_in_turn() {
  result out;
  out.what = result::outcome::unfit;
  load_request asked;
  asked.deadline = worker_.time->now() + query_max;
  auto outcome = co_await parts_.query->load(std::move(asked));
  if (const auto* error = std::get_if<load_error>(&outcome)) {
    out.what = result::outcome::query_failed;
    out.why = error->detail;
    co_return out;
  }
  json::error_code ec;
  const auto rows = json::parse(std::get<loaded>(outcome).body, ec);
  if (ec || !rows.is_array()) {
    out.why = "the query's result is no list of rows";
    co_return out;
  }
  auto named = keys_of(rows.get_array(), parts_.key);
  if (!named.missing.empty()) {
    out.why = "the query's rows have no column '" + named.missing + "', which the key names";
    co_return out;
  }
  const auto began = worker_.time->now();
  events_.event(severity::info, "warming", {{"warm", name()}, {"keys", std::to_string(named.keys.size())}});
  out = co_await warm(std::move(named.keys));
  const auto took = std::chrono::duration_cast<milliseconds>(worker_.time->now() - began);
  events_.event(severity::info, "warmed", {{"warm", name()}, {"keys", std::to_string(out.keys)}, {"warmed", std::to_string(out.warmed)},
                                                   {"failed", std::to_string(out.failed)}, {"ms", std::to_string(took.count())}});
  parts_.stats->runs.add();
  co_return out;
}

task<warmup::result> warmup::warm(std::vector<std::string> keys) {
  const auto p = std::make_shared<progress>();
  p->keys = std::move(keys);
  p->done = worker_.time->make_alarm();
  p->readers = std::min<std::size_t>(parts_.concurrency, p->keys.size());
  p->so_far.keys = p->keys.size();
  for (std::size_t i = p->readers; i > 0; --i) worker_.tasks.spawn(read_keys(shared_from_this(), p));
  while (p->readers > 0) co_await p->done->wait_until(runtime::steady_time::max());
  co_return p->so_far;
}

// A warm-up is a read like any other: what is cached already costs a look, concurrent misses share queries.
task<void> warmup::read_keys([[maybe_unused]] std::shared_ptr<warmup> self, std::shared_ptr<progress> p) {
  while (p->next < p->keys.size() && !stopped_) {
    const auto& key = p->keys[p->next++];
    auto at = find_(key);
    bool good = false;
    if (at) {
      const auto got = co_await at->in->read(std::move(at->request));
      good = !got.error;
    }
    (good ? p->so_far.warmed : p->so_far.failed) += 1;
    (good ? parts_.stats->warmed : parts_.stats->failed).add();
  }
  if (--p->readers == 0) p->done->ring();
}

task<void> warmup::keep_turn([[maybe_unused]] std::shared_ptr<warmup> self, std::string token, std::shared_ptr<runtime::alarm> stop) {
  for (;;) {
    const bool due = co_await stop->wait_until(worker_.time->now() + turn_ttl / 3);
    if (!due) co_return;
    co_await parts_.turn->renew(token, turn_ttl);
  }
}

}  // namespace asidecar::engine
