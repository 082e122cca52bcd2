// How a postgres_connection comes to be: name lookup, libpq's handshake, the session's settings.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "daemon/origin/name_lookup.hpp"
#include "daemon/origin/postgres_connection.hpp"

namespace asidecar::origin {

using runtime::as_result;
using runtime::steady_time;
using runtime::task;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds connect_max{5000};

}  // namespace

std::string postgres_connection::one_line(const char* text) {
  std::string out = text == nullptr ? "" : text;
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  std::replace(out.begin(), out.end(), '\n', ' ');
  return out;
}

// libpq would look a host name up itself and block meanwhile. Lists of hosts, and names from its own
// services, are left to it.
task<postgres_connection::addresses> postgres_connection::look_up(steady_time deadline) {
  std::string host;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(target_->url.c_str(), nullptr), PQconninfoFree);
  for (const auto* o = options.get(); o != nullptr && o->keyword != nullptr; ++o) {
    if (o->val == nullptr) continue;
    if (std::strcmp(o->keyword, "host") == 0) host = o->val;
    if (std::strcmp(o->keyword, "hostaddr") == 0) co_return addresses();
  }
  const bool ours =
      !host.empty() && host.front() != '/' && host.front() != '@' && host.find(',') == std::string::npos;
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
  const std::array<const char*, 7> names{"fallback_application_name",
                                         "tcp_user_timeout",
                                         "dbname",
                                         "client_encoding",
                                         host_name,
                                         "hostaddr",
                                         nullptr};
  const std::array<const char*, 7> values{
      "asidecar", "5000", target_->url.c_str(), "UTF8", found.hosts.c_str(), found.numbers.c_str(), nullptr};
  pg_.reset(PQconnectStartParams(names.data(), values.data(), 1));
  bool connected = pg_ && PQstatus(pg_.get()) != CONNECTION_BAD;
  if (connected) connected = co_await finish_handshake(deadline);
  if (!connected) {
    if (trouble_.empty()) trouble_ = pg_ ? one_line(PQerrorMessage(pg_.get())) : "out of memory";
    co_return false;
  }
  PQsetNoticeProcessor(
      pg_.get(), [](void*, const char*) {}, nullptr);  // else libpq writes to stderr
  if (PQsetnonblocking(pg_.get(), 1) != 0 || PQenterPipelineMode(pg_.get()) != 1 || !watch_socket() ||
      !send_settings()) {
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
    co_await socket_.async_wait(
        want == PGRES_POLLING_READING ? descriptor::wait_read : descriptor::wait_write, as_result);
    if (!socket_.is_open()) break;  // stopped, or late
    want = PQconnectPoll(pg_.get());
  }
  connect_due_ = steady_time::max();
  if (worker_.time->now() >= deadline)
    trouble_ = "no connection within " + std::to_string(connect_max.count()) + " ms";
  co_return want == PGRES_POLLING_OK&& state_ != state::stopped;
}

bool postgres_connection::send_settings() {
  prepared_.clear();
  // Each statement is planned once, not per call; the timeout is for queries whose cancel got lost.
  const std::string sql =
      "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('statement_timeout', '" +
      std::to_string(target_->statement_timeout.count()) + "', false)";
  if (PQsendQueryParams(pg_.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) != 1 ||
      PQpipelineSync(pg_.get()) != 1)
    return false;
  auto& e = sent_.emplace_back();
  e.cancelled = true;  // a server that does not answer even this is given up
  e.due = worker_.time->now() + connect_max;
  watch(e.due);
  flush();
  return true;
}

}  // namespace asidecar::origin
