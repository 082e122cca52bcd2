#include "daemon/origin/postgres_queries.hpp"

#include <algorithm>

#include "daemon/origin/postgres_answers.hpp"

namespace asidecar::origin {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using runtime::steady_time;
using runtime::task;
using std::chrono::microseconds;

namespace {

constexpr std::uint64_t batched_bytes_max = std::uint64_t(256) << 10;  // of one value; larger ones are asked for alone
constexpr microseconds batch_time_max{50'000};  // slow queries gain nothing from sharing, and lose the other connections

// PostgreSQL renders the JSON itself, so that every type is right. "t.*" is the row also when a column is called t.
// A text that is too large stays there: libpq would hold all of it before anybody could look at its size.
std::string as_json(const std::string& query, config::row_mode rows, std::uint64_t bytes_max) {
  const std::string text = rows == config::row_mode::one ? "SELECT row_to_json(t.*)::text AS j FROM (" + query + ") AS t LIMIT 1"
                                                         : "SELECT coalesce(json_agg(row_to_json(t.*)), '[]'::json)::text AS j FROM (" + query + ") AS t";
  return "SELECT CASE WHEN octet_length(s.j) <= " + std::to_string(bytes_max) + " THEN s.j ELSE '" + too_large_mark + "' END FROM (" + text + ") AS s";
}

// `query` has asidecar_k.p1 … in place of its parameters; `types` are those of the parameters.
std::string as_batch(const std::string& query, config::row_mode rows, std::uint64_t bytes_max, const std::vector<std::string>& types) {
  std::string arrays;
  std::string names;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto number = std::to_string(i + 1);
    arrays.append(i == 0 ? "$" : ", $").append(number).append("::").append(types[i]).append("[]");
    names.append("p").append(number).append(", ");
  }
  return "SELECT asidecar_k.ord, (" + as_json(query, rows, bytes_max) + ") FROM unnest(" + arrays + ") WITH ORDINALITY AS asidecar_k(" + names +
         "ord) ORDER BY 1";
}

// A text as an element of an array literal.
void append_element(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  out.push_back('"');
}

}  // namespace

postgres_queries::postgres_queries(std::shared_ptr<postgres_pool> pool, rules r)
    : pool_(std::move(pool)), rules_(std::move(r)), single_(pool_->keep({as_json(rules_.sql.text("$"), rules_.rows, rules_.response_max)})),
      may_batch_(rules_.batch_max > 1 && !rules_.positions.empty()) {}

task<load_outcome> postgres_queries::load(load_request request) {
  postgres_params params;
  for (const auto position : rules_.positions) params.emplace_back(request.params.at(position));
  if (!may_batch_) co_return co_await run_single(params, request.deadline);
  if (running_ < parallel() && queue_.empty()) {
    ++running_;
    const auto began = pool_->worker().time->now();
    auto outcome = co_await run_single(params, request.deadline);
    learn(std::chrono::duration_cast<microseconds>(pool_->worker().time->now() - began), 1);
    --running_;
    begin_next();
    co_return outcome;
  }
  const auto me = std::make_shared<waiter>();
  me->params = std::move(params);
  me->deadline = request.deadline;
  me->bell = pool_->worker().time->make_alarm();
  queue_.push_back(me);
  while (!me->outcome) {
    const bool over = co_await me->bell->wait_until(request.deadline);
    if (over) break;
  }
  if (me->outcome) co_return std::move(*me->outcome);
  std::erase(queue_, me);
  co_return load_error::timed_out("PostgreSQL: took too long");
}

// Loads only read, so that another time does no harm.
task<load_outcome> postgres_queries::run_single(const postgres_params& params, steady_time deadline) {
  auto got = co_await pool_->ask(single_, params, deadline);
  // Each connection may turn out to be gone, when all were cut at once.
  const int tries_max = std::max(postgres_tries_max, static_cast<int>(pool_->size()) + 1);
  for (int tries = 1; tries < tries_max && worth_another_try(got) && pool_->worker().time->now() < deadline; ++tries)
    got = co_await pool_->ask(single_, params, deadline);
  co_return translate(std::move(got), rules_.content_type);
}

void postgres_queries::answer(waiter& w, load_outcome outcome) {
  w.outcome.emplace(std::move(outcome));
  w.bell->ring();
}

// Fast queries take turns, so that batches grow: two at a time only when more wait than one batch can hold. Slow ones use all
// connections.
std::size_t postgres_queries::parallel() const {
  if (batch_limit() < rules_.batch_max) return pool_->size();
  return std::min(pool_->size(), 1 + queue_.size() / rules_.batch_max);
}

// Deals the queue out over the queries that may run now.
void postgres_queries::begin_next() {
  auto& tasks = pool_->worker().tasks;
  while (!queue_.empty() && running_ < parallel()) {
    const auto idle = parallel() - running_;
    ++running_;
    const auto share = std::min((queue_.size() + idle - 1) / idle, batch_limit());
    std::vector<waiter_ptr> some;
    while (some.size() < share && !queue_.empty() && !queue_.front()->alone) {
      some.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    if (some.empty()) {
      some.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    if (some.size() == 1) tasks.spawn(run_alone(shared_from_this(), some.front()));
    else tasks.spawn(run_batch(shared_from_this(), std::move(some)));
  }
}

task<void> postgres_queries::run_alone([[maybe_unused]] self_ptr self, waiter_ptr w) {
  const auto began = pool_->worker().time->now();
  auto outcome = co_await run_single(w->params, w->deadline);
  learn(std::chrono::duration_cast<microseconds>(pool_->worker().time->now() - began), 1);
  answer(*w, std::move(outcome));
  --running_;
  begin_next();
}

task<void> postgres_queries::run_batch([[maybe_unused]] self_ptr self, std::vector<waiter_ptr> all) {
  if (batch_ == nullptr) {
    co_await learn_types(*all.front());
    if (all.front()->outcome) all.erase(all.begin());
  }
  postgres_answer got;
  if (batch_ != nullptr && !all.empty()) got = co_await ask_batch(all);
  const bool whole = got.what == postgres_answer::outcome::rows && got.rows.size() == all.size();
  // What PostgreSQL cannot run in this form (say, LIMIT with a parameter) is asked for key by key from now on.
  if (got.what == postgres_answer::outcome::refused && (got.sqlstate.starts_with("42") || got.sqlstate.starts_with("0A"))) may_batch_ = false;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!whole || (got.rows[i] && got.rows[i]->starts_with(too_large_mark))) {
      all[i]->alone = true;
      queue_.push_front(all[i]);
      continue;
    }
    postgres_answer own;
    own.what = postgres_answer::outcome::rows;
    own.rows.push_back(std::move(got.rows[i]));
    answer(*all[i], translate(std::move(own), rules_.content_type));
  }
  --running_;
  begin_next();
}

task<postgres_answer> postgres_queries::ask_batch(const std::vector<waiter_ptr>& all) {
  auto& time = *pool_->worker().time;
  steady_time deadline{};
  for (const auto& w : all) deadline = std::max(deadline, w->deadline);
  std::vector<std::string> arrays(rules_.positions.size(), "{");
  for (const auto& w : all)
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (arrays[i].size() > 1) arrays[i].push_back(',');
      append_element(arrays[i], *w->params[i]);
    }
  postgres_params params;
  for (auto& a : arrays) params.emplace_back(a + '}');
  const auto began = time.now();
  auto got = co_await pool_->ask(*batch_, params, deadline);
  if (got.what == postgres_answer::outcome::rows) learn(std::chrono::duration_cast<microseconds>(time.now() - began), all.size());
  co_return got;
}

// Asks for the first key alone, and then what the server took its parameters for.
task<void> postgres_queries::learn_types(waiter& first) {
  auto got = co_await pool_->ask_with_types(single_, first.params, first.deadline);
  if (got.types.size() == rules_.positions.size() && batch_ == nullptr)
    batch_ = &pool_->keep({as_batch(rules_.sql.text("asidecar_k.p"), rules_.rows, std::min(batched_bytes_max, rules_.response_max), got.types)});
  if (got.answer.what == postgres_answer::outcome::rows) answer(first, translate(std::move(got.answer), rules_.content_type));
}

std::size_t postgres_queries::batch_limit() const {
  if (!may_batch_ || key_us_ <= 0) return 1;
  const auto fitting = static_cast<double>(batch_time_max.count()) / key_us_;
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::min(fitting, 1e6)), 1, rules_.batch_max);
}

void postgres_queries::learn(microseconds took, std::size_t keys) {
  const double now = std::max(1.0, static_cast<double>(took.count()) / static_cast<double>(keys));
  key_us_ = key_us_ <= 0 ? now : 0.7 * key_us_ + 0.3 * now;
}

}  // namespace asidecar::origin
