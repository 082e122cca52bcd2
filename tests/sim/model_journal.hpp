// The journal of write-behind and the leases, in the model of Redis.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "daemon/engine/lease.hpp"
#include "daemon/engine/write_journal.hpp"
#include "tests/sim/model_connection.hpp"
#include "tests/sim/model_redis.hpp"

namespace asidecar::sim {

// What all daemons' journals have in common.
struct journal_data {
  std::map<std::uint64_t, engine::journaled_write> entries;  // by id
  std::map<std::uint64_t, std::string> dead;                 // id and reason
  std::map<std::string, std::uint64_t> ids;                  // of all bodies there ever were: no two are alike
  // An entry has left; `dead`: to the dead letters.
  std::function<void(const engine::journaled_write&, int daemon, bool dead)> settled;
};

std::unique_ptr<engine::lease> make_model_lease(model_redis& redis, std::shared_ptr<model_connection> c, std::string name);
std::unique_ptr<engine::write_journal> make_model_journal(model_redis& redis, journal_data& data, std::shared_ptr<model_connection> c, int daemon);

}  // namespace asidecar::sim
