// PostgreSQL origins: what a load is as SQL, and which of this thread's connections takes it.
#include <algorithm>
#include <list>
#include <stdexcept>

#include "daemon/core/sql_template.hpp"
#include "daemon/origin/origin.hpp"
#include "daemon/origin/postgres_connection.hpp"

namespace asidecar::origin {
namespace {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using engine::loaded;
using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

constexpr int tries_max = 3;  // a server that restarts takes its connections away one after the other
constexpr milliseconds server_grace{1000};  // how much longer than ours the server's own timeout is

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
  return "SELECT CASE WHEN octet_length(s.j) <= " + std::to_string(bytes_max) + " THEN s.j END FROM (" + text + ") AS s";
}

struct load_query {
  postgres_statement statement;
  std::vector<std::size_t> positions;  // of each parameter in load_request::params
  std::string content_type;
};

class postgres_origin final : public origin {
 public:
  postgres_origin(runtime::worker& w, const config::origin_settings& settings, std::size_t connections);
  ~postgres_origin() override;

  std::unique_ptr<engine::loader> make_loader(const config::route_settings& route,
                                              const core::key_template& key) override;
  void stop() override;

  task<load_outcome> load(const load_query& q, load_request request);

 private:
  using connection_ptr = std::shared_ptr<postgres_connection>;

  task<postgres_answer> ask(const postgres_statement& s, const std::vector<std::string>& params,
                            steady_time deadline);
  connection_ptr least_loaded() const;
  bool connecting() const;
  load_outcome translate(postgres_answer answer, const std::string& content_type) const;

  runtime::worker& worker_;
  const std::uint64_t response_max_;
  std::shared_ptr<postgres_target> target_ = std::make_shared<postgres_target>();
  std::list<load_query> queries_;  // stays in place: connections know statements by address
  std::vector<connection_ptr> connections_;
  std::vector<runtime::alarm*> waiting_;  // for a connection to come up, or to fail
  bool stopped_ = false;
};

class postgres_loader final : public engine::loader {
 public:
  postgres_loader(postgres_origin& from, const load_query& q) : origin_(from), query_(q) {}
  task<load_outcome> load(load_request request) override { return origin_.load(query_, std::move(request)); }

 private:
  postgres_origin& origin_;
  const load_query& query_;
};

postgres_origin::postgres_origin(runtime::worker& w, const config::origin_settings& settings,
                                 std::size_t connections)
    : worker_(w), response_max_(settings.max_response) {
  target_->url = settings.postgres;
  const auto changed = [this] {
    for (auto* bell : waiting_) bell->ring();
  };
  for (std::size_t i = 0; i < std::max<std::size_t>(1, connections); ++i) {
    connections_.push_back(std::make_shared<postgres_connection>(w, target_, changed));
    connections_.back()->start();
  }
}

postgres_origin::~postgres_origin() { stop(); }

void postgres_origin::stop() {
  stopped_ = true;
  for (auto& c : connections_) c->stop();
  for (auto* bell : waiting_) bell->ring();
}

std::unique_ptr<engine::loader> postgres_origin::make_loader(const config::route_settings& route,
                                                             const core::key_template& key) {
  const auto parsed = core::sql_template::parse(route.load);
  const auto* sql = boost::variant2::get_if<core::sql_template>(&parsed);
  if (sql == nullptr) throw std::runtime_error("route " + route.name + ": its load does not parse");
  load_query q;
  q.statement = {as_json(sql->text('$'), route.rows, response_max_)};
  q.content_type = route.content_type;
  for (const auto& name : sql->params()) q.positions.push_back(key.param_index(name).value());
  target_->statement_timeout = std::max(target_->statement_timeout, route.rules.timeout + server_grace);
  queries_.push_back(std::move(q));
  return std::make_unique<postgres_loader>(*this, queries_.back());
}

postgres_origin::connection_ptr postgres_origin::least_loaded() const {
  connection_ptr best;
  for (const auto& c : connections_)
    if (c->current() == postgres_connection::state::up && (!best || c->load() < best->load())) best = c;
  return best;
}

bool postgres_origin::connecting() const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [](const auto& c) { return c->current() == postgres_connection::state::connecting; });
}

// Waits for a connection while one is being tried. When all tries failed a moment ago, so does this.
task<postgres_answer> postgres_origin::ask(const postgres_statement& s,
                                           const std::vector<std::string>& params, steady_time deadline) {
  postgres_answer answer;
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

task<load_outcome> postgres_origin::load(const load_query& q, load_request request) {
  std::vector<std::string> params;
  for (const auto position : q.positions) params.push_back(request.params.at(position));
  auto answer = co_await ask(q.statement, params, request.deadline);
  // Loads only read, so that another time does no harm.
  for (int tries = 1;
       tries < tries_max && worth_another_try(answer) && worker_.time->now() < request.deadline; ++tries)
    answer = co_await ask(q.statement, params, request.deadline);
  co_return translate(std::move(answer), q.content_type);
}

load_outcome postgres_origin::translate(postgres_answer answer, const std::string& content_type) const {
  switch (answer.what) {
    case postgres_answer::outcome::timeout:
      return load_error::timed_out("PostgreSQL: " + (answer.message.empty() ? "took too long" : answer.message));
    case postgres_answer::outcome::lost:
      return load_error::failed("PostgreSQL: " + answer.message);
    case postgres_answer::outcome::refused: {
      const auto detail =
          "PostgreSQL: " + (answer.sqlstate.empty() ? "" : "SQLSTATE " + answer.sqlstate + ' ') +
          answer.message;
      if (is_bad_value(answer.sqlstate))
        return load_error::bad_key(detail);
      // Class 22, data exception: this key's row, not the server.
      if (answer.sqlstate.starts_with("22")) return load_error::refused(detail);
      return load_error::failed(detail);
    }
    case postgres_answer::outcome::rows:
      break;
  }
  loaded out;
  out.content_type = content_type;
  if (answer.null) return load_error::refused("PostgreSQL: the result is larger than max_response");
  if (!answer.text) {
    out.what = loaded::outcome::no_record;
    return out;
  }
  out.body = std::move(*answer.text);
  return out;
}

}  // namespace

std::shared_ptr<origin> make_postgres_origin(runtime::worker& worker, const config::origin_settings& settings,
                                             std::size_t connections) {
  return std::make_shared<postgres_origin>(worker, settings, connections);
}

}  // namespace asidecar::origin
