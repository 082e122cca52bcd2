// SQLite origins: each thread's share is one read-only connection on a thread of its own, since SQLite
// blocks.
#include <sqlite3.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "daemon/core/sql_template.hpp"
#include "daemon/origin/origin.hpp"
#include "proto/text.hpp"

namespace asidecar::origin {
namespace {

using engine::load_error;
using engine::load_outcome;
using engine::load_request;
using engine::loaded;
using runtime::steady_time;
using runtime::task;

constexpr int steps_between_checks = 1000;  // virtual machine steps between two looks at the clock
constexpr std::chrono::milliseconds busy_pause{5};

load_error late() {
  return load_error::timed_out("SQLite took too long");
}

using statement = std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)>;

struct param {
  std::size_t position;  // in load_request::params
  bool integer;
};

// A route's load. Immutable but for `prepared`, which belongs to the database's thread.
struct query {
  std::string sql;
  std::vector<param> params;
  config::row_mode rows;
  statement prepared{nullptr, sqlite3_finalize};
};

void append_value(std::string& out, sqlite3_stmt* row, int column) {
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER:
      out.append(std::to_string(sqlite3_column_int64(row, column)));
      return;
    case SQLITE_FLOAT: {
      const double number = sqlite3_column_double(row, column);
      if (!std::isfinite(number)) break;
      char text[32];
      const auto end = std::to_chars(text, text + sizeof text, number).ptr;
      out.append(text, end);
      return;
    }
    case SQLITE_TEXT: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(row, column));
      out.push_back('"');
      proto::append_json_escaped(out, {text, static_cast<std::size_t>(sqlite3_column_bytes(row, column))});
      out.push_back('"');
      return;
    }
    case SQLITE_BLOB: {
      const auto* bytes = static_cast<const char*>(sqlite3_column_blob(row, column));
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(row, column));
      out.append(1, '"').append(proto::base64({bytes, size})).append(1, '"');
      return;
    }
    default:
      break;
  }
  out.append("null");
}

void append_row(std::string& out, sqlite3_stmt* row) {
  out.push_back('{');
  for (int i = 0; i < sqlite3_data_count(row); ++i) {
    if (i > 0) out.push_back(',');
    out.push_back('"');
    proto::append_json_escaped(out, sqlite3_column_name(row, i));
    out.append("\":");
    append_value(out, row, i);
  }
  out.push_back('}');
}

// The connection. Everything but interrupt() is called on its thread.
class database {
 public:
  database(std::string path, std::uint64_t response_max)
      : path_(std::move(path)), response_max_(response_max) {}

  load_outcome run(query& q, const std::vector<std::string>& params, steady_time deadline);
  void interrupt() noexcept { interrupted_ = true; }

 private:
  bool overdue() const noexcept { return interrupted_ || std::chrono::steady_clock::now() >= deadline_; }
  std::string open();
  load_outcome prepare_and_run(query& q, const std::vector<std::string>& params);
  bool bind(query& q, const std::vector<std::string>& params);
  load_outcome step(query& q);
  load_error error_now();

  const std::string path_;
  const std::uint64_t response_max_;
  std::atomic<bool> interrupted_{false};
  steady_time deadline_{};
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> handle_{nullptr, sqlite3_close_v2};
};

// What is wrong, or nothing.
std::string database::open() {
  sqlite3* opened = nullptr;
  const int status =
      sqlite3_open_v2(path_.c_str(), &opened, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  handle_.reset(opened);
  if (status != SQLITE_OK) {
    std::string why = opened == nullptr ? "out of memory" : sqlite3_errmsg(opened);
    handle_.reset();
    return why;
  }
  sqlite3_progress_handler(
      opened, steps_between_checks,
      [](void* self) { return static_cast<database*>(self)->overdue() ? 1 : 0; }, this);
  sqlite3_busy_handler(
      opened,
      [](void* self, int) {
        if (static_cast<database*>(self)->overdue()) return 0;
        std::this_thread::sleep_for(busy_pause);
        return 1;
      },
      this);
  return {};
}

load_outcome database::run(query& q, const std::vector<std::string>& params, steady_time deadline) {
  deadline_ = deadline;
  if (overdue()) return late();
  if (!handle_)
    if (auto why = open(); !handle_) return load_error::failed("SQLite: " + why);
  auto outcome = prepare_and_run(q, params);
  if (q.prepared) {
    sqlite3_reset(q.prepared.get());
    sqlite3_clear_bindings(q.prepared.get());
  }
  return outcome;
}

load_outcome database::prepare_and_run(query& q, const std::vector<std::string>& params) {
  if (!q.prepared) {
    sqlite3_stmt* made = nullptr;
    const auto size = static_cast<int>(q.sql.size());
    if (sqlite3_prepare_v3(handle_.get(), q.sql.c_str(), size, SQLITE_PREPARE_PERSISTENT, &made, nullptr) !=
        SQLITE_OK)
      return error_now();
    q.prepared.reset(made);
  }
  if (!bind(q, params))
    return load_error::bad_key("SQLite cannot take a value of the key");
  return step(q);
}

bool database::bind(query& q, const std::vector<std::string>& params) {
  for (std::size_t i = 0; i < q.params.size(); ++i) {
    const auto& text = params.at(q.params[i].position);
    const int number = static_cast<int>(i) + 1;
    int status = SQLITE_OK;
    if (q.params[i].integer) {
      std::int64_t value = 0;
      const char* from = text.data() + (text.starts_with('+') ? 1 : 0);
      const auto [end, ec] = std::from_chars(from, text.data() + text.size(), value);
      if (ec != std::errc() || end != text.data() + text.size()) return false;
      status = sqlite3_bind_int64(q.prepared.get(), number, value);
    } else {
      // SQLITE_STATIC: `params` outlives the steps.
      status = sqlite3_bind_text(q.prepared.get(), number, text.data(), static_cast<int>(text.size()),
                                 SQLITE_STATIC);
    }
    if (status != SQLITE_OK) return false;
  }
  return true;
}

load_outcome database::step(query& q) {
  const bool many = q.rows == config::row_mode::many;
  loaded out;
  if (many) out.body.push_back('[');
  std::size_t count = 0;
  for (;;) {
    const int status = sqlite3_step(q.prepared.get());
    if (status == SQLITE_DONE) break;
    if (status != SQLITE_ROW) return error_now();
    if (count++ > 0) out.body.push_back(',');
    append_row(out.body, q.prepared.get());
    if (out.body.size() > response_max_) return load_error::refused("SQLite: the result is larger than max_response");
    if (!many) break;
  }
  if (many) out.body.push_back(']');
  if (!many && count == 0) out.what = loaded::outcome::no_record;
  return out;
}

load_error database::error_now() {
  const int code = sqlite3_errcode(handle_.get());
  if (overdue() && (code == SQLITE_INTERRUPT || code == SQLITE_BUSY)) return late();
  return load_error::failed("SQLite: " + std::string(sqlite3_errmsg(handle_.get())));
}

// A load between the two threads. The caller's coroutine is woken by `bell`, at the latest at the deadline.
struct job {
  std::shared_ptr<query> what;
  std::vector<std::string> params;
  steady_time deadline;
  std::unique_ptr<runtime::alarm> bell;
  std::optional<load_outcome> outcome;  // the worker's thread only
};

class sqlite_origin final : public origin {
 public:
  sqlite_origin(runtime::worker& w, const config::origin_settings& settings)
      : worker_(w), database_(settings.sqlite, settings.max_response) {}
  ~sqlite_origin() override {
    stop();
    thread_.join();
  }

  std::unique_ptr<engine::loader> make_loader(const config::route_settings& route,
                                              const core::key_template& key) override;
  std::unique_ptr<engine::writer> make_writer(const config::route_settings&, const std::string&) override { return nullptr; }  // opened read-only
  void stop() override { database_.interrupt(); }

  task<load_outcome> load(std::shared_ptr<query> q, load_request request) {
    const auto mine = std::make_shared<job>();
    mine->what = std::move(q);
    mine->params = std::move(request.params);
    mine->deadline = request.deadline;
    mine->bell = worker_.time->make_alarm();
    asio::post(thread_, [this, mine = mine]() mutable { run(std::move(mine)); });
    while (!mine->outcome) {
      const bool over = co_await mine->bell->wait_until(mine->deadline);
      if (over && !mine->outcome) co_return late();
    }
    co_return std::move(*mine->outcome);
  }

 private:
  // On the database's thread. The job goes back with its last reference: alarms end on their own thread.
  void run(std::shared_ptr<job> j) {
    auto outcome = database_.run(*j->what, j->params, j->deadline);
    asio::post(worker_.executor(), [j = std::move(j), outcome = std::move(outcome)]() mutable {
      j->outcome = std::move(outcome);
      j->bell->ring();
    });
  }

  runtime::worker& worker_;
  database database_;
  std::vector<std::shared_ptr<query>> queries_;  // statements end before the connection does
  asio::thread_pool thread_{1};
};

class sqlite_loader final : public engine::loader {
 public:
  sqlite_loader(sqlite_origin& from, std::shared_ptr<query> q, std::string content_type)
      : origin_(from), query_(std::move(q)), content_type_(std::move(content_type)) {}

  task<load_outcome> load(load_request request) override {
    auto outcome = co_await origin_.load(query_, std::move(request));
    if (auto* answer = std::get_if<loaded>(&outcome)) answer->content_type = content_type_;
    co_return outcome;
  }

 private:
  sqlite_origin& origin_;
  std::shared_ptr<query> query_;
  std::string content_type_;
};

std::unique_ptr<engine::loader> sqlite_origin::make_loader(const config::route_settings& route,
                                                           const core::key_template& key) {
  const auto parsed = core::sql_template::parse(route.load);
  const auto* sql = boost::variant2::get_if<core::sql_template>(&parsed);
  if (sql == nullptr) throw std::runtime_error("route " + route.name + ": its load does not parse");
  const auto q = std::make_shared<query>();
  q->sql = sql->text("?");
  q->rows = route.rows;
  for (const auto& name : sql->params()) {
    const auto position = key.param_index(name).value();
    q->params.push_back({position, key.params()[position].type == core::param_type::integer});
  }
  queries_.push_back(q);
  return std::make_unique<sqlite_loader>(*this, q, route.content_type);
}

}  // namespace

std::shared_ptr<origin> make_sqlite_origin(runtime::worker& worker, const config::origin_settings& settings) {
  return std::make_shared<sqlite_origin>(worker, settings);
}

}  // namespace asidecar::origin
