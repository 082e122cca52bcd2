// PostgreSQL origins: their loaders and writers.
#include <algorithm>
#include <stdexcept>

#include "daemon/core/sql_template.hpp"
#include "daemon/origin/origin.hpp"
#include "daemon/origin/postgres_answers.hpp"
#include "daemon/origin/postgres_pool.hpp"
#include "daemon/origin/postgres_queries.hpp"
#include "proto/text.hpp"

namespace asidecar::origin {
namespace {

using engine::load_error;
using runtime::task;

class postgres_loader final : public engine::loader {
 public:
  explicit postgres_loader(std::shared_ptr<postgres_queries> of) : of_(std::move(of)) {}
  task<engine::load_outcome> load(engine::load_request request) override {
    const auto keep = of_;
    co_return co_await keep->load(std::move(request));
  }

 private:
  std::shared_ptr<postgres_queries> of_;
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
    for (int tries = 1; tries < postgres_tries_max && undone(got); ++tries) got = co_await keep->ask_alone(statement_, request.params, request.deadline);
    engine::written out;
    if (got.what != postgres_answer::outcome::rows) {
      using progress = load_error::progress;
      const auto code = got.sqlstate;
      auto reached = !got.sent ? progress::not_sent : got.ended ? progress::ended : progress::unanswered;
      // Rolled back: nothing was written.
      const bool answered = got.what == postgres_answer::outcome::refused && !code.empty() && !code.starts_with("08") && (code == "57014" || !code.starts_with("57"));
      if (answered) reached = progress::refused;
      auto error = std::get<load_error>(translate(std::move(got), content_type_));
      const auto of = [&](std::initializer_list<std::string_view> classes) {
        return std::any_of(classes.begin(), classes.end(), [&](auto c) { return std::string_view(code).starts_with(c); });
      };
      // The data are to blame, not the server: bad values, constraints, views' checks, what a function raises.
      const bool data = of({"22", "23", "44", "P0"});
      if (data) error.origins_fault = false;
      // A server that cannot write at all for now: read-only, without disk or connections, failing disks. As good as not reached.
      if (answered && of({"25", "531", "533", "58"})) reached = progress::not_sent;
      error.got = reached;
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
    postgres_queries::rules r{std::move(*sql), {}, route.rows, route.content_type, response_max_, route.rules.batch};
    for (const auto& name : r.sql.params()) r.positions.push_back(key.param_index(name).value());
    pool_->allow(route.rules.timeout);
    return std::make_unique<postgres_loader>(std::make_shared<postgres_queries>(pool_, std::move(r)));
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
