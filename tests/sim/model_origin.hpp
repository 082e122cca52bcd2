// The origin of the simulation: records that have versions. Loads and writes take their time, fail, and end too late.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemon/engine/loader.hpp"
#include "daemon/engine/writer.hpp"
#include "tests/sim/truth.hpp"
#include "tests/sim/world.hpp"

namespace asidecar::sim {

class model_origin {
 public:
  // `home`: the origin's own process, which no crash of a daemon ends.
  model_origin(world& w, truth& t, runtime::worker& home, std::function<void(const std::string&)> trace) : world_(w), truth_(t), home_(home), trace_(std::move(trace)) {}

  double fails = 0;  // of all that it is asked
  static constexpr milliseconds longest_write{1600};

  std::unique_ptr<engine::loader> loader(visitor& who);                        // of "k:<param>"
  std::unique_ptr<engine::loader> query(visitor& who, int records);            // rows that name all records
  std::unique_ptr<engine::writer> writer(visitor& who, bool journaled);        // what it returns of a record is its version
  static std::string key_of(const std::string& param) { return "k:" + param; }

  // What the ports do.
  task<engine::load_outcome> load(visitor& who, std::string key, steady_time deadline);
  task<engine::load_outcome> list(visitor& who, int records);
  task<engine::write_outcome> write(visitor& who, std::string key, std::string body, bool journaled, steady_time deadline);

 private:
  struct applied_write;
  task<void> apply(std::string key, std::string body, bool journaled, steady_time when, std::shared_ptr<applied_write> out);
  task<void> sleep_until(runtime::worker& who, steady_time when);
  milliseconds usually(int low, int high, int rarely) { return world_.between(low, world_.chance(0.1) ? rarely : high); }

  world& world_;
  truth& truth_;
  runtime::worker& home_;
  std::function<void(const std::string&)> trace_;
};

}  // namespace asidecar::sim
