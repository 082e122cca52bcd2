#include "daemon/origin/postgres_connection.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "daemon/core/backoff.hpp"

namespace asidecar::origin {

using runtime::as_result;
using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds pause_min{50};
constexpr milliseconds pause_max{2000};
constexpr milliseconds hurry_after{100};
constexpr milliseconds cancel_patience{
    2000};  // a server that does not answer for so long after a cancel is given up

constexpr milliseconds cancel_again{50};  // the next one waits while one is under way
constexpr milliseconds lived_at_least{1000};  // a connection that ends sooner was of no use

// PQcancel blocks, for as long as the server likes. Its threads know nothing of ours and are never waited for: at the end of the
// process they are simply left.
asio::thread_pool& cancels() {
  static auto* const pool = new asio::thread_pool(4);
  return *pool;
}

using result_ptr = std::unique_ptr<PGresult, void (*)(PGresult*)>;

}  // namespace

postgres_connection::postgres_connection(runtime::worker& w, std::shared_ptr<const postgres_target> target, std::function<void()> changed)
    : worker_(w),
      target_(std::move(target)),
      changed_(std::move(changed)),
      socket_(w.executor()),
      due_timer_(w.executor()),
      pause_(w.time->make_alarm()) {}

postgres_connection::~postgres_connection() = default;

void postgres_connection::start() {
  worker_.tasks.spawn(live(shared_from_this()));
}

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

void postgres_connection::hurry() {
  if (state_ != state::down || worker_.time->now() - paused_ < hurry_after) return;
  become(state::connecting);
  pause_->ring();
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
    const auto since = worker_.time->now();
    if (opened && state_ != state::stopped) {
      ++done_.session;
      become(state::up);
      co_await read_answers();
    }
    error_code ignored;
    socket_.close(ignored);
    cancelling_ = std::make_shared<std::atomic<bool>>(false);
    // Most often a server was only restarted. But one that takes connections and then drops them must not be hammered.
    const bool at_once = opened && worker_.time->now() - since >= lived_at_least;
    if (opened) trouble_ = "the connection was lost";
    become(at_once ? state::connecting : state::down);
    fail_all(trouble_);
    pg_.reset();
    if (state_ == state::stopped) break;
    if (at_once) {
      pause = pause_min;
      continue;
    }
    paused_ = worker_.time->now();
    co_await pause_->wait_until(worker_.time->now() + core::jittered_pause(pause, worker_.random->unit()));
    pause = std::min(pause * 2, pause_max);
    become(state::connecting);
  }
}

task<postgres_answer> postgres_connection::query(const postgres_statement& s,
                                                 const postgres_params& params,
                                                 steady_time deadline) {
  const auto self = shared_from_this();
  runtime::one_shot<postgres_answer> done;
  exchange e;
  e.waiter = &done;
  e.due = deadline;
  if (state_ != state::up) {
    postgres_answer down;
    down.sent = false;
    co_return down;
  }
  if (!send(s, params, e)) {
    postgres_answer lost;
    lost.message = one_line(PQerrorMessage(pg_.get()));
    error_code ignored;
    socket_.close(ignored);  // ends read_answers; until then nobody else shall try this connection
    become(state::connecting);
    co_return lost;
  }
  sent_.push_back(std::move(e));
  watch(deadline);
  flush();
  co_return co_await done.wait();
}

std::string postgres_connection::prepared_name(const postgres_statement& s) {
  return "asidecar_" + std::to_string(reinterpret_cast<std::uintptr_t>(&s)) + "_" + std::to_string(prepared_[&s].generation);
}

bool postgres_connection::send(const postgres_statement& s, const postgres_params& params,
                               exchange& e) {
  auto& known = prepared_[&s];
  e.statement = &s;
  e.prepares = !known.valid;
  if (e.prepares) {
    known.valid = true;
    ++known.generation;
  }
  e.generation = known.generation;
  const auto name = prepared_name(s);
  std::vector<const char*> values;
  for (const auto& p : params) values.push_back(p ? p->c_str() : nullptr);
  return (!e.prepares || PQsendPrepare(pg_.get(), name.c_str(), s.sql.c_str(), 0, nullptr) == 1) &&
         PQsendQueryPrepared(pg_.get(), name.c_str(), static_cast<int>(values.size()), values.data(), nullptr,
                             nullptr, 0) == 1 &&
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
    case PGRES_COMMAND_OK:
      // First the answer to Prepare, if there was one; then, of a statement that returns no rows, its own.
      if (!std::exchange(e.prepares, false)) {
        e.answer.what = postgres_answer::outcome::rows;
        e.answer.touched = std::strtoull(PQcmdTuples(const_cast<PGresult*>(&result)), nullptr, 10);
      }
      return;
    case PGRES_PIPELINE_ABORTED:
      return;  // the error came before
    case PGRES_TUPLES_OK:
      e.answer.what = postgres_answer::outcome::rows;
      e.answer.touched = static_cast<std::uint64_t>(PQntuples(&result));
      for (int row = 0; row < PQntuples(&result); ++row) {
        auto& text = e.answer.rows.emplace_back();
        const int column = PQnfields(&result) - 1;
        if (PQgetisnull(&result, row, column) == 0) text.emplace(PQgetvalue(&result, row, column), static_cast<std::size_t>(PQgetlength(&result, row, column)));
      }
      return;
    default:
      break;
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
  ++done_.ended;
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

// Stops the query that runs when nobody waits for it. The server may have gone on to the next one when the
// cancel arrives; that one is then tried again by its caller.
void postgres_connection::cancel_front() {
  if (sent_.empty()) return;
  auto& front = sent_.front();
  if (front.waiter != nullptr || front.cancelled) return;
  if (*cancelling_) return watch(worker_.time->now() + cancel_again);
  front.cancelled = true;
  front.due = worker_.time->now() + cancel_patience;
  watch(front.due);
  const std::shared_ptr<PGcancel> cancel(PQgetCancel(pg_.get()), PQfreeCancel);
  if (!cancel) return;
  *cancelling_ = true;
  asio::post(cancels(), [cancel, running = cancelling_] {
    std::array<char, 256> ignored{};
    PQcancel(cancel.get(), ignored.data(), static_cast<int>(ignored.size()));
    *running = false;
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
