// PostgreSQL origins: what a load is as SQL, alone and in a batch, and what its answer means.
//
// Miss batching: loads of one route that wait at the same moment share one query. Nothing is delayed for it: a query leaves at
// once while none of this route's is under way, and a batch is whatever queued up meanwhile. The batch runs the
// route's own query once per key, as a correlated subquery over the keys, so that LIMIT, ORDER BY and aggregates mean what they
// meant; planning, parsing and the round trip are shared. A batch that fails is answered key by key, so that one bad value fails alone.
#include <algorithm>
#include <array>
#include <deque>
#include <stdexcept>

#include "daemon/core/sql_template.hpp"
#include "daemon/origin/origin.hpp"
#include "daemon/origin/postgres_pool.hpp"
#include "proto/text.hpp"

namespace asidecar::origin {
namespace {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using engine::loaded;
using runtime::steady_time;
using runtime::task;
using std::chrono::microseconds;

constexpr int tries_max = 3;  // a server that restarts takes its connections away one after the other
constexpr std::uint64_t batched_bytes_max = std::uint64_t(256) << 10;  // of one value; larger ones are asked for alone
constexpr microseconds batch_time_max{50'000};  // slow queries gain nothing from sharing, and lose the other connections
constexpr char too_large_mark = '!';            // no JSON begins with it

// The server refuses the value itself: its syntax, range, date, bytes.
bool is_bad_value(const std::string& sqlstate) {
  constexpr std::array codes{"22P02", "22003", "22007", "22008", "22021", "22P03"};
  return std::find(codes.begin(), codes.end(), sqlstate) != codes.end();
}

// Not this query's fault: a cancel meant for the one before it, or a prepared statement the server forgot or
// outgrew.
bool worth_another_try(const postgres_answer& a) {
  if (a.what == postgres_answer::outcome::lost) return true;
  if (a.what != postgres_answer::outcome::refused) return false;
  const bool stale_plan = a.sqlstate == "0A000" && a.message.find("cached plan") != std::string::npos;
  return stale_plan || a.sqlstate == "57014" || a.sqlstate == "26000";
}

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

load_outcome translate(postgres_answer answer, const std::string& content_type) {
  switch (answer.what) {
    case postgres_answer::outcome::timeout:
      return load_error::timed_out("PostgreSQL: " + (answer.message.empty() ? "took too long" : answer.message));
    case postgres_answer::outcome::lost:
      return load_error::failed("PostgreSQL: " + answer.message);
    case postgres_answer::outcome::refused: {
      const auto detail =
          "PostgreSQL: " + (answer.sqlstate.empty() ? "" : "SQLSTATE " + answer.sqlstate + ' ') + answer.message;
      if (is_bad_value(answer.sqlstate)) return load_error::bad_key(detail);
      // Class 22, data exception: this key's row, not the server.
      if (answer.sqlstate.starts_with("22")) return load_error::refused(detail);
      return load_error::failed(detail);
    }
    case postgres_answer::outcome::rows:
      break;
  }
  loaded out;
  out.content_type = content_type;
  if (answer.rows.empty() || !answer.rows.front()) {
    out.what = loaded::outcome::no_record;
    return out;
  }
  auto& text = *answer.rows.front();
  if (text.starts_with(too_large_mark)) return load_error::refused("PostgreSQL: the result is larger than max_response");
  out.body = std::move(text);
  return out;
}

// Loads of one route on one thread.
class route_queries : public std::enable_shared_from_this<route_queries> {
 public:
  struct rules {
    core::sql_template sql;
    std::vector<std::size_t> positions;  // of each parameter in load_request::params
    config::row_mode rows;
    std::string content_type;
    std::uint64_t response_max;
    std::size_t batch_max;
  };
  route_queries(std::shared_ptr<postgres_pool> pool, rules r)
      : pool_(std::move(pool)), rules_(std::move(r)), single_(pool_->keep({as_json(rules_.sql.text("$"), rules_.rows, rules_.response_max)})),
        may_batch_(rules_.batch_max > 1 && !rules_.positions.empty()) {}

  task<load_outcome> load(load_request request);

 private:
  // A load in the queue. Shared by whoever waits and whoever runs it.
  struct waiter {
    postgres_params params;
    steady_time deadline;
    std::unique_ptr<runtime::alarm> bell;
    std::optional<load_outcome> outcome;
    bool alone = false;  // not in a batch: one with it has failed
  };
  using waiter_ptr = std::shared_ptr<waiter>;

  task<load_outcome> run_single(const postgres_params& params, steady_time deadline);
  using self_ptr = std::shared_ptr<route_queries>;
  task<void> run_alone(self_ptr self, waiter_ptr w);
  task<void> run_batch(self_ptr self, std::vector<waiter_ptr> all);
  task<void> learn_types(waiter& first);
  task<postgres_answer> ask_batch(const std::vector<waiter_ptr>& all);
  void answer(waiter& w, load_outcome outcome);
  void begin_next();
  std::size_t parallel() const;
  std::size_t batch_limit() const;
  void learn(microseconds took, std::size_t keys);

  std::shared_ptr<postgres_pool> pool_;
  const rules rules_;
  const postgres_statement& single_;
  const postgres_statement* batch_ = nullptr;  // once the types are known
  bool may_batch_;
  std::size_t running_ = 0;  // queries under way
  std::deque<waiter_ptr> queue_;
  double key_us_ = 0;        // what one key takes, learnt; 0: not yet
};

task<load_outcome> route_queries::load(load_request request) {
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
task<load_outcome> route_queries::run_single(const postgres_params& params, steady_time deadline) {
  auto got = co_await pool_->ask(single_, params, deadline);
  for (int tries = 1; tries < tries_max && worth_another_try(got) && pool_->worker().time->now() < deadline; ++tries)
    got = co_await pool_->ask(single_, params, deadline);
  co_return translate(std::move(got), rules_.content_type);
}

void route_queries::answer(waiter& w, load_outcome outcome) {
  w.outcome.emplace(std::move(outcome));
  w.bell->ring();
}

// Fast queries take turns, so that batches grow: two at a time only when more wait than one batch can hold. Slow ones use all
// connections.
std::size_t route_queries::parallel() const {
  if (batch_limit() < rules_.batch_max) return pool_->size();
  return std::min(pool_->size(), 1 + queue_.size() / rules_.batch_max);
}

// Deals the queue out over the queries that may run now.
void route_queries::begin_next() {
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

task<void> route_queries::run_alone([[maybe_unused]] self_ptr self, waiter_ptr w) {
  const auto began = pool_->worker().time->now();
  auto outcome = co_await run_single(w->params, w->deadline);
  learn(std::chrono::duration_cast<microseconds>(pool_->worker().time->now() - began), 1);
  answer(*w, std::move(outcome));
  --running_;
  begin_next();
}

task<void> route_queries::run_batch([[maybe_unused]] self_ptr self, std::vector<waiter_ptr> all) {
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

task<postgres_answer> route_queries::ask_batch(const std::vector<waiter_ptr>& all) {
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
task<void> route_queries::learn_types(waiter& first) {
  auto got = co_await pool_->ask_with_types(single_, first.params, first.deadline);
  if (got.types.size() == rules_.positions.size() && batch_ == nullptr)
    batch_ = &pool_->keep({as_batch(rules_.sql.text("asidecar_k.p"), rules_.rows, std::min(batched_bytes_max, rules_.response_max), got.types)});
  if (got.answer.what == postgres_answer::outcome::rows) answer(first, translate(std::move(got.answer), rules_.content_type));
}

std::size_t route_queries::batch_limit() const {
  if (!may_batch_ || key_us_ <= 0) return 1;
  const auto fitting = static_cast<double>(batch_time_max.count()) / key_us_;
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::min(fitting, 1e6)), 1, rules_.batch_max);
}

void route_queries::learn(microseconds took, std::size_t keys) {
  const double now = std::max(1.0, static_cast<double>(took.count()) / static_cast<double>(keys));
  key_us_ = key_us_ <= 0 ? now : 0.7 * key_us_ + 0.3 * now;
}

class postgres_loader final : public engine::loader {
 public:
  explicit postgres_loader(std::shared_ptr<route_queries> of) : of_(std::move(of)) {}
  task<load_outcome> load(load_request request) override {
    const auto keep = of_;
    co_return co_await keep->load(std::move(request));
  }

 private:
  std::shared_ptr<route_queries> of_;
};

// What a write is as SQL: with RETURNING (or as a query that calls a function) its first row comes back as JSON.
class postgres_writer final : public engine::writer {
 public:
  postgres_writer(std::shared_ptr<postgres_pool> pool, const core::sql_template& sql, std::string content_type)
      : pool_(std::move(pool)), params_(sql.params()), content_type_(std::move(content_type)), returns_(sql.returns_rows()), statement_(pool_->keep(as_write(sql))) {}

  const std::vector<std::string>& params() const noexcept override { return params_; }

  task<engine::write_outcome> write(engine::write_request request) override {
    const auto keep = pool_;
    auto got = co_await keep->ask_alone(statement_, request.params, request.deadline);
    // A statement that the server has forgotten, or that did not reach it, has done nothing yet.
    const auto undone = [](const postgres_answer& a) { return (a.what == postgres_answer::outcome::lost && !a.sent) || a.sqlstate == "26000"; };
    for (int tries = 1; tries < tries_max && undone(got); ++tries) got = co_await keep->ask_alone(statement_, request.params, request.deadline);
    engine::written out;
    if (got.what != postgres_answer::outcome::rows) {
      const auto code = got.sqlstate;
      const bool sent = got.sent;
      const bool answered = got.what == postgres_answer::outcome::refused && !got.sqlstate.empty() && !got.sqlstate.starts_with("57") && !got.sqlstate.starts_with("08");
      auto error = std::get<load_error>(translate(std::move(got), content_type_));
      error.sent = sent;
      // Rolled back: nothing was written.
      if (answered) error = std::move(error).said_no();
      const auto of = [&](std::initializer_list<std::string_view> classes) {
        return std::any_of(classes.begin(), classes.end(), [&](auto c) { return std::string_view(code).starts_with(c); });
      };
      // The data are to blame, not the server: bad values, constraints, views' checks, what a function raises.
      const bool data = of({"22", "23", "44", "P0"});
      if (data) error.origins_fault = false;
      // A server that cannot write at all for now: read-only, out of resources, broken. As good as not reached.
      if (answered && of({"25", "53", "58", "XX"})) error.sent = false;
      // Everything else may pass: lost races, a migration under way.
      error.may_pass = answered && !data;
      co_return error;
    }
    out.touched = returns_ ? !got.rows.empty() : got.touched > 0;
    if (!returns_ || got.rows.empty() || !got.rows.front()) co_return out;
    out.body = std::move(*got.rows.front());
    out.content_type = content_type_;
    co_return out;
  }

 private:
  static postgres_statement as_write(const core::sql_template& sql) {
    const auto text = sql.text("$");
    postgres_statement out;
    out.sql = text;
    const auto word = core::first_word(text);
    const bool query = proto::iequals(word, "SELECT") || proto::iequals(word, "VALUES");
    // No LIMIT: a query that calls a function per row must run to its end.
    if (query) out.sql = "SELECT row_to_json(asidecar_w.*)::text FROM (" + text + ") AS asidecar_w";
    else if (sql.returns_rows()) out.sql = "WITH asidecar_w AS (" + text + ") SELECT row_to_json(asidecar_w.*)::text FROM asidecar_w LIMIT 1";
    return out;
  }

  std::shared_ptr<postgres_pool> pool_;
  const std::vector<std::string> params_;
  const std::string content_type_;
  const bool returns_;
  const postgres_statement& statement_;
};

class postgres_origin final : public origin {
 public:
  postgres_origin(runtime::worker& w, const config::origin_settings& settings, std::size_t connections)
      : response_max_(settings.max_response), pool_(std::make_shared<postgres_pool>(w, settings.postgres, std::max<std::size_t>(1, connections))) {}
  ~postgres_origin() override { pool_->stop(); }

  std::unique_ptr<engine::loader> make_loader(const config::route_settings& route, const core::key_template& key) override {
    auto parsed = core::sql_template::parse(route.load);
    auto* sql = boost::variant2::get_if<core::sql_template>(&parsed);
    if (sql == nullptr) throw std::runtime_error("route " + route.name + ": its load does not parse");
    route_queries::rules r{std::move(*sql), {}, route.rows, route.content_type, response_max_, route.rules.batch};
    for (const auto& name : r.sql.params()) r.positions.push_back(key.param_index(name).value());
    pool_->allow(route.rules.timeout);
    return std::make_unique<postgres_loader>(std::make_shared<route_queries>(pool_, std::move(r)));
  }
  std::unique_ptr<engine::writer> make_writer(const config::route_settings& route, const std::string& statement) override {
    const auto parsed = core::sql_template::parse(statement);
    const auto* sql = boost::variant2::get_if<core::sql_template>(&parsed);
    if (sql == nullptr) throw std::runtime_error("route " + route.name + ": its write does not parse");
    pool_->allow(route.rules.timeout);
    return std::make_unique<postgres_writer>(pool_, *sql, route.content_type);
  }
  void stop() override { pool_->stop(); }

 private:
  const std::uint64_t response_max_;
  std::shared_ptr<postgres_pool> pool_;
};

}  // namespace

std::shared_ptr<origin> make_postgres_origin(runtime::worker& worker, const config::origin_settings& settings,
                                             std::size_t connections) {
  return std::make_shared<postgres_origin>(worker, settings, connections);
}

}  // namespace asidecar::origin
