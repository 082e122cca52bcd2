// One route's loads from PostgreSQL on one thread: as SQL, alone and in a batch.
//
// Miss batching: loads of one route that wait at the same moment share one query. Nothing is delayed for it: a query leaves at
// once while none of this route's is under way, and a batch is whatever queued up meanwhile. The batch runs the
// route's own query once per key, as a correlated subquery over the keys, so that LIMIT, ORDER BY and aggregates mean what they
// meant; planning, parsing and the round trip are shared. A batch that fails is answered key by key, so that one bad value fails alone.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "daemon/core/sql_template.hpp"
#include "daemon/engine/loader.hpp"
#include "daemon/origin/postgres_pool.hpp"

namespace asidecar::origin {

class postgres_queries : public std::enable_shared_from_this<postgres_queries> {
 public:
  struct rules {
    core::sql_template sql;
    std::vector<std::size_t> positions;  // of each parameter in engine::load_request::params
    config::row_mode rows;
    std::string content_type;
    std::uint64_t response_max;
    std::size_t batch_max;
  };
  postgres_queries(std::shared_ptr<postgres_pool> pool, rules r);

  runtime::task<engine::load_outcome> load(engine::load_request request);

 private:
  // A load in the queue. Shared by whoever waits and whoever runs it.
  struct waiter {
    postgres_params params;
    runtime::steady_time deadline;
    std::unique_ptr<runtime::alarm> bell;
    std::optional<engine::load_outcome> outcome;
    bool alone = false;  // not in a batch: one with it has failed
  };
  using waiter_ptr = std::shared_ptr<waiter>;

  runtime::task<engine::load_outcome> run_single(const postgres_params& params, runtime::steady_time deadline);
  using self_ptr = std::shared_ptr<postgres_queries>;
  runtime::task<void> run_alone(self_ptr self, waiter_ptr w);
  runtime::task<void> run_batch(self_ptr self, std::vector<waiter_ptr> all);
  runtime::task<void> learn_types(waiter& first);
  runtime::task<postgres_answer> ask_batch(const std::vector<waiter_ptr>& all);
  void answer(waiter& w, engine::load_outcome outcome);
  void begin_next();
  std::size_t parallel() const;
  std::size_t batch_limit() const;
  void learn(std::chrono::microseconds took, std::size_t keys);

  std::shared_ptr<postgres_pool> pool_;
  const rules rules_;
  const postgres_statement& single_;
  const postgres_statement* batch_ = nullptr;  // once the types are known
  bool may_batch_;
  std::size_t running_ = 0;  // queries under way
  std::deque<waiter_ptr> queue_;
  double key_us_ = 0;        // what one key takes, learnt; 0: not yet
};

}  // namespace asidecar::origin
