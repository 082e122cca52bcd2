// One thread's connections to a PostgreSQL server. One thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/origin/postgres_connection.hpp"

namespace asidecar::origin {

class postgres_pool {
 public:
  postgres_pool(runtime::worker& w, std::string url, std::size_t connections);
  ~postgres_pool() { stop(); }

  void stop();
  runtime::worker& worker() noexcept { return worker_; }
  std::size_t size() const noexcept { return connections_.size(); }
  // The server's own limit is at least so long; call before the first query.
  void allow(std::chrono::milliseconds statement_timeout);

  // Statements live as long as the pool: connections know them by their address.
  const postgres_statement& keep(postgres_statement s) { return statements_.emplace_back(std::move(s)); }

  // Waits for a connection while one is being tried. When all tries failed a moment ago, so does this.
  runtime::task<postgres_answer> ask(const postgres_statement& s, const postgres_params& params, runtime::steady_time deadline);
  // For a write: sent only where nothing runs before it, so that it runs now or never. If it is late, this returns only when it has
  // ended at the server, or its connection was given up.
  runtime::task<postgres_answer> ask_alone(const postgres_statement& s, const postgres_params& params, runtime::steady_time deadline);
  struct probed {
    postgres_answer answer;
    std::vector<std::string> types;  // what the server takes each parameter for; empty when that cannot be said
  };
  runtime::task<probed> ask_with_types(const postgres_statement& s, const postgres_params& params, runtime::steady_time deadline);

 private:
  using connection_ptr = std::shared_ptr<postgres_connection>;

  connection_ptr least_loaded() const;
  bool connecting() const;

  runtime::worker& worker_;
  std::shared_ptr<postgres_target> target_ = std::make_shared<postgres_target>();
  std::deque<postgres_statement> statements_;
  const postgres_statement& types_of_prepared_;
  std::vector<connection_ptr> connections_;
  std::vector<runtime::alarm*> waiting_;  // for a connection to come up, or to fail
  bool stopped_ = false;
};

}  // namespace asidecar::origin
