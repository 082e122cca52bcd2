#include "daemon/origin/postgres_pool.hpp"

#include <algorithm>

namespace asidecar::origin {

using runtime::steady_time;
using runtime::task;

namespace {

constexpr std::chrono::milliseconds server_grace{1000};  // how much longer than ours the server's own timeout is

constexpr std::chrono::milliseconds look_again{3};
constexpr std::chrono::milliseconds late_write_max{3000};
const std::string types_query = "SELECT array_to_string(parameter_types::text[], chr(10)) FROM pg_prepared_statements WHERE name = $1";

}  // namespace

postgres_pool::postgres_pool(runtime::worker& w, std::string url, std::size_t connections) : worker_(w),
      types_of_prepared_(keep({types_query})) {
  target_->url = std::move(url);
  const auto changed = [this] {
    for (auto* bell : waiting_) bell->ring();
  };
  for (std::size_t i = 0; i < connections; ++i) {
    connections_.push_back(std::make_shared<postgres_connection>(w, target_, changed));
    connections_.back()->start();
  }
}

void postgres_pool::stop() {
  stopped_ = true;
  for (auto& c : connections_) c->stop();
  for (auto* bell : waiting_) bell->ring();
}

void postgres_pool::allow(std::chrono::milliseconds statement_timeout) {
  target_->statement_timeout = std::max(target_->statement_timeout, statement_timeout + server_grace);
}

postgres_pool::connection_ptr postgres_pool::least_loaded() const {
  connection_ptr best;
  for (const auto& c : connections_)
    if (c->current() == postgres_connection::state::up && (!best || c->load() < best->load())) best = c;
  return best;
}

bool postgres_pool::connecting() const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [](const auto& c) { return c->current() == postgres_connection::state::connecting; });
}

task<postgres_answer> postgres_pool::ask(const postgres_statement& s, const postgres_params& params, steady_time deadline) {
  postgres_answer answer;
  answer.sent = false;
  std::unique_ptr<runtime::alarm> bell;
  while (!stopped_) {
    if (const auto c = least_loaded()) co_return co_await c->query(s, params, deadline);
    for (const auto& c : connections_) c->hurry();
    if (!connecting()) {
      answer.what = postgres_answer::outcome::refused;
      answer.message = "no connection: " + connections_.front()->trouble();
      co_return answer;
    }
    if (worker_.time->now() >= deadline) {
      answer.what = postgres_answer::outcome::timeout;
      answer.message = "no connection in time";
      co_return answer;
    }
    if (!bell) bell = worker_.time->make_alarm();
    waiting_.push_back(bell.get());
    co_await bell->wait_until(deadline);
    std::erase(waiting_, bell.get());
  }
  answer.message = "stopped";
  co_return answer;
}

task<postgres_answer> postgres_pool::ask_alone(const postgres_statement& s, const postgres_params& params, steady_time deadline) {
  const auto bell = worker_.time->make_alarm();
  postgres_answer answer;
  answer.sent = false;
  answer.what = postgres_answer::outcome::timeout;
  while (!stopped_) {
    auto c = least_loaded();
    if (c && c->load() == 0) {
      const auto before = c->done();
      answer = co_await c->query(s, params, deadline);
      // The connection cancels it, or is given up after a while.
      const auto patience = worker_.time->now() + late_write_max;
      while (answer.what == postgres_answer::outcome::timeout && c->load() > 0 && !c->done().beyond(before) && worker_.time->now() < patience)
        co_await bell->wait_until(worker_.time->now() + look_again);
      answer.ended = c->done().beyond(before);
      co_return answer;
    }
    if (!c) {
      for (const auto& one : connections_) one->hurry();
      if (!connecting()) {
        answer.what = postgres_answer::outcome::refused;
        answer.message = "no connection: " + connections_.front()->trouble();
        co_return answer;
      }
    }
    if (worker_.time->now() >= deadline) break;
    co_await bell->wait_until(std::min(deadline, worker_.time->now() + look_again));
  }
  answer.message = "no free connection in time";
  co_return answer;
}

task<postgres_pool::probed> postgres_pool::ask_with_types(const postgres_statement& s, const postgres_params& params, steady_time deadline) {
  probed out;
  const auto c = least_loaded();
  if (!c) co_return out;
  out.answer = co_await c->query(s, params, deadline);
  if (out.answer.what != postgres_answer::outcome::rows) co_return out;
  const postgres_params name{c->prepared_name(s)};
  const auto types = co_await c->query(types_of_prepared_, name, deadline);
  if (types.what != postgres_answer::outcome::rows || types.rows.empty() || !types.rows[0]) co_return out;
  std::string_view names = *types.rows[0];
  while (!names.empty()) {
    const auto end = std::min(names.find('\n'), names.size());
    out.types.emplace_back(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  co_return out;
}

}  // namespace asidecar::origin
