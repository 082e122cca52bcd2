#include "daemon/origin/postgres_connection.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cstring>

#include "daemon/origin/name_lookup.hpp"

namespace asidecar::origin {

using runtime::as_result;
using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds pause_min{50};
constexpr milliseconds pause_max{2000};
constexpr milliseconds connect_max{5000};
constexpr milliseconds cancel_patience{2000};  // a server that does not answer for so long after a cancel is given up

using result_ptr = std::unique_ptr<PGresult, void (*)(PGresult*)>;

std::string one_line(const char* text) {
  std::string out = text == nullptr ? "" : text;
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  std::replace(out.begin(), out.end(), '\n', ' ');
  return out;
}

}  // namespace

postgres_connection::postgres_connection(runtime::worker& w, std::shared_ptr<const postgres_target> target,
                                         asio::thread_pool& cancels, std::function<void()> changed)
    : worker_(w),
      target_(std::move(target)),
      cancels_(cancels),
      changed_(std::move(changed)),
      socket_(w.executor()),
      due_timer_(w.executor()),
      pause_(w.time->make_alarm()) {}

postgres_connection::~postgres_connection() = default;

void postgres_connection::start() { worker_.tasks.spawn(live(shared_from_this())); }

void postgres_connection::stop() {
  if (state_ == state::stopped) return;
  changed_ = nullptr;  // its owner may be gone when the coroutines end
  state_ = state::stopped;
  error_code ignored;
  socket_.close(ignored);
  due_timer_.cancel();
  pause_->ring();
  fail_all("stopped");
}

void postgres_connection::become(state s) {
  if (state_ == state::stopped || state_ == s) return;
  state_ = s;
  if (changed_) changed_();
}

task<void> postgres_connection::live([[maybe_unused]] std::shared_ptr<postgres_connection> self) {
  milliseconds pause = pause_min;
  while (state_ != state::stopped) {
    const bool opened = co_await open();
    if (opened && state_ != state::stopped) {
      become(state::up);
      pause = pause_min;
      co_await read_answers();
    }
    error_code ignored;
    socket_.close(ignored);
    const std::string why = opened ? "the connection was lost" : trouble_;
    become(opened ? state::connecting : state::down);
    fail_all(why);
    pg_.reset();
    if (opened && state_ != state::stopped) continue;  // at once: most often the server was only restarted
    if (state_ == state::stopped) break;
    const auto share = 0.5 + 0.5 * worker_.random->unit();
    co_await pause_->wait_until(worker_.time->now() + std::chrono::duration_cast<milliseconds>(pause * share));
    pause = std::min(pause * 2, pause_max);
    become(state::connecting);
  }
}

// libpq would look a host name up itself and block meanwhile. Lists of hosts, and names from its own services, are left to it.
task<postgres_connection::addresses> postgres_connection::look_up(steady_time deadline) {
  std::string host;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(PQconninfoParse(target_->url.c_str(), nullptr),
                                                                              PQconninfoFree);
  for (const auto* o = options.get(); o != nullptr && o->keyword != nullptr; ++o) {
    if (o->val == nullptr) continue;
    if (std::strcmp(o->keyword, "host") == 0) host = o->val;
    if (std::strcmp(o->keyword, "hostaddr") == 0) co_return addresses();
  }
  const bool ours = !host.empty() && host.front() != '/' && host.front() != '@' && host.find(',') == std::string::npos;
  if (!ours) co_return addresses();
  const auto found = co_await name_lookup::run(worker_, host, 0, deadline);
  if (found.empty()) trouble_ = "the host name has no address";
  addresses out;
  for (const auto& endpoint : found) {
    const char* const comma = out.hosts.empty() ? "" : ",";
    out.hosts.append(comma).append(host);
    out.numbers.append(comma).append(endpoint.address().to_string());
  }
  co_return out;
}

task<bool> postgres_connection::open() {
  const auto deadline = worker_.time->now() + connect_max;
  trouble_.clear();
  const auto found = co_await look_up(deadline);
  if (!trouble_.empty() || state_ == state::stopped) co_return false;
  // What stands before dbname gives way to the URL, what stands behind does not.
  const char* const host_name = found.hosts.empty() ? nullptr : "host";
  const std::array<const char*, 7> names{"fallback_application_name", "tcp_user_timeout", "dbname", "client_encoding",
                                         host_name, "hostaddr", nullptr};
  const std::array<const char*, 7> values{"asidecar", "5000", target_->url.c_str(), "UTF8",
                                          found.hosts.c_str(), found.numbers.c_str(), nullptr};
  pg_.reset(PQconnectStartParams(names.data(), values.data(), 1));
  if (!pg_ || PQstatus(pg_.get()) == CONNECTION_BAD || !co_await finish_handshake(deadline)) {
    if (trouble_.empty()) trouble_ = pg_ ? one_line(PQerrorMessage(pg_.get())) : "out of memory";
    co_return false;
  }
  PQsetNoticeProcessor(pg_.get(), [](void*, const char*) {}, nullptr);  // else libpq writes to stderr
  if (PQsetnonblocking(pg_.get(), 1) != 0 || PQenterPipelineMode(pg_.get()) != 1 || !watch_socket() || !send_settings()) {
    trouble_ = one_line(PQerrorMessage(pg_.get()));
    co_return false;
  }
  co_return true;
}

// Registers the socket libpq uses now. It may use several while it connects, even under the same number.
bool postgres_connection::watch_socket() {
  error_code ec;
  socket_.close(ec);
  const int copy = ::dup(PQsocket(pg_.get()));
  if (copy < 0) return false;
  socket_.assign(copy, ec);
  if (ec) ::close(copy);
  return !ec;
}

task<bool> postgres_connection::finish_handshake(steady_time deadline) {
  connect_due_ = deadline;
  watch(deadline);
  auto want = PGRES_POLLING_WRITING;
  while (want == PGRES_POLLING_READING || want == PGRES_POLLING_WRITING) {
    if (!watch_socket()) break;
    co_await socket_.async_wait(want == PGRES_POLLING_READING ? descriptor::wait_read : descriptor::wait_write, as_result);
    if (!socket_.is_open()) break;  // stopped, or late
    want = PQconnectPoll(pg_.get());
  }
  connect_due_ = steady_time::max();
  if (worker_.time->now() >= deadline) trouble_ = "no connection within " + std::to_string(connect_max.count()) + " ms";
  co_return want == PGRES_POLLING_OK && state_ != state::stopped;
}

bool postgres_connection::send_settings() {
  prepared_.clear();
  // Each statement is planned once, not per call; the timeout is for queries whose cancel got lost.
  const std::string sql = "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('statement_timeout', '" +
                          std::to_string(target_->statement_timeout.count()) + "', false)";
  if (PQsendQueryParams(pg_.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) != 1 || PQpipelineSync(pg_.get()) != 1)
    return false;
  auto& e = sent_.emplace_back();
  e.cancelled = true;  // a server that does not answer even this is given up
  e.due = worker_.time->now() + connect_max;
  watch(e.due);
  flush();
  return true;
}

task<postgres_answer> postgres_connection::query(const postgres_statement& s, const std::vector<std::string>& params,
                                                 steady_time deadline) {
  const auto self = shared_from_this();
  runtime::one_shot<postgres_answer> done;
  exchange e;
  e.waiter = &done;
  e.due = deadline;
  if (state_ != state::up) co_return postgres_answer();
  if (!send(s, params, e)) {
    postgres_answer lost;
    lost.message = one_line(PQerrorMessage(pg_.get()));
    error_code ignored;
    socket_.close(ignored);  // ends read_answers
    co_return lost;
  }
  sent_.push_back(std::move(e));
  watch(deadline);
  flush();
  co_return co_await done.wait();
}

bool postgres_connection::send(const postgres_statement& s, const std::vector<std::string>& params, exchange& e) {
  auto& known = prepared_[&s];
  e.statement = &s;
  e.prepares = !known.valid;
  if (e.prepares) {
    known.valid = true;
    ++known.generation;
  }
  e.generation = known.generation;
  const std::string name = "asidecar_" + std::to_string(reinterpret_cast<std::uintptr_t>(&s)) + "_" + std::to_string(e.generation);
  std::vector<const char*> values;
  for (const auto& p : params) values.push_back(p.c_str());
  return (!e.prepares || PQsendPrepare(pg_.get(), name.c_str(), s.sql.c_str(), 0, nullptr) == 1) &&
         PQsendQueryPrepared(pg_.get(), name.c_str(), static_cast<int>(values.size()), values.data(), nullptr, nullptr, 0) == 1 &&
         PQpipelineSync(pg_.get()) == 1;
}

void postgres_connection::flush() {
  if (writing_ || !pg_ || !socket_.is_open()) return;
  const int left = PQflush(pg_.get());
  if (left == 0) return;
  if (left < 0) {
    error_code ignored;
    socket_.close(ignored);
    return;
  }
  writing_ = true;
  socket_.async_wait(descriptor::wait_write, [self = shared_from_this()](error_code ec) {
    self->writing_ = false;
    if (!ec) self->flush();
  });
}

task<void> postgres_connection::read_answers() {
  for (;;) {
    auto [ec] = co_await socket_.async_wait(descriptor::wait_read, as_result);
    if (ec || PQconsumeInput(pg_.get()) != 1 || !deliver()) co_return;
    flush();  // libpq may hold bytes back until it has read
  }
}

// False when the connection is no longer of use.
bool postgres_connection::deliver() {
  bool between = false;
  while (!sent_.empty() && state_ != state::stopped && PQisBusy(pg_.get()) == 0) {
    const result_ptr result(PQgetResult(pg_.get()), PQclear);
    if (!result) {
      if (std::exchange(between, true)) break;  // nothing more has come
      continue;
    }
    between = false;
    if (PQresultStatus(result.get()) == PGRES_PIPELINE_SYNC)
      finish_front();
    else
      take(*result);
  }
  return state_ != state::stopped && PQstatus(pg_.get()) == CONNECTION_OK;
}

void postgres_connection::take(const PGresult& result) {
  auto& e = sent_.front();
  switch (PQresultStatus(&result)) {
    case PGRES_COMMAND_OK: e.prepares = false; return;
    case PGRES_PIPELINE_ABORTED: return;  // the error came before
    case PGRES_TUPLES_OK:
      e.answer.what = postgres_answer::outcome::rows;
      if (PQntuples(&result) > 0)
        e.answer.text.emplace(PQgetvalue(&result, 0, 0), static_cast<std::size_t>(PQgetlength(&result, 0, 0)));
      return;
    default: break;
  }
  const char* code = PQresultErrorField(&result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(&result, PG_DIAG_MESSAGE_PRIMARY);
  e.answer.what = postgres_answer::outcome::refused;
  e.answer.sqlstate = code == nullptr ? "" : code;
  e.answer.message = one_line(message == nullptr ? PQresultErrorMessage(&result) : message);
}

void postgres_connection::finish_front() {
  exchange e = std::move(sent_.front());
  sent_.pop_front();
  // Not prepared after all, no longer known to the server, or with a plan whose result would be another.
  const bool stale = e.answer.sqlstate == "26000" || e.answer.sqlstate == "0A000";
  if (e.statement != nullptr && (e.prepares || stale))
    if (auto& known = prepared_[e.statement]; known.generation == e.generation) known.valid = false;
  cancel_front();
  if (e.waiter != nullptr) e.waiter->set(std::move(e.answer));
}

// One timer for all: it is set only when something is due earlier than what it is set to.
void postgres_connection::watch(steady_time due) {
  if (due >= due_) return;
  due_ = due;
  due_timer_.expires_at(due);
  due_timer_.async_wait([self = shared_from_this()](error_code ec) {
    if (ec || self->state_ == state::stopped) return;
    self->due_ = steady_time::max();
    self->expire();
  });
}

void postgres_connection::expire() {
  const auto now = worker_.time->now();
  const bool stuck = !sent_.empty() && sent_.front().cancelled && sent_.front().due <= now;
  if (stuck || connect_due_ <= now) {
    error_code ignored;
    socket_.close(ignored);  // ends read_answers or the handshake
    return;
  }
  std::vector<runtime::one_shot<postgres_answer>*> late;
  auto next = connect_due_;
  for (auto& e : sent_) {
    if (e.due <= now && e.waiter != nullptr) {
      late.push_back(std::exchange(e.waiter, nullptr));
      e.due = steady_time::max();
    }
    next = std::min(next, e.due);
  }
  watch(next);
  cancel_front();
  // Last: whoever is woken may use this connection.
  for (auto* waiter : late) {
    postgres_answer answer;
    answer.what = postgres_answer::outcome::timeout;
    waiter->set(std::move(answer));
  }
}

// Stops the query that runs when nobody waits for it. The server may have gone on to the next one when the cancel arrives;
// that one is then tried again by its caller.
void postgres_connection::cancel_front() {
  if (sent_.empty() || cancelling_) return;
  auto& front = sent_.front();
  if (front.waiter != nullptr || front.cancelled) return;
  front.cancelled = true;
  front.due = worker_.time->now() + cancel_patience;
  watch(front.due);
  const std::shared_ptr<PGcancel> cancel(PQgetCancel(pg_.get()), PQfreeCancel);
  if (!cancel) return;
  cancelling_ = true;
  asio::post(cancels_, [self = shared_from_this(), cancel]() mutable {
    std::array<char, 256> ignored{};
    PQcancel(cancel.get(), ignored.data(), static_cast<int>(ignored.size()));
    auto& home = self->worker_;
    asio::post(home.executor(), [self = std::move(self)] {  // moved: connections end on their own thread
      self->cancelling_ = false;
      self->cancel_front();
    });
  });
}

void postgres_connection::fail_all(std::string_view why) {
  due_timer_.cancel();
  due_ = steady_time::max();
  auto failed = std::move(sent_);
  sent_.clear();
  for (auto& e : failed) {
    if (e.waiter == nullptr) continue;
    postgres_answer answer;
    answer.message = why;
    e.waiter->set(std::move(answer));
  }
}

}  // namespace asidecar::origin
