// Where the master is, by what Redis Sentinels say (https://redis.io/docs/latest/develop/reference/sentinel-clients/). All of them are asked
// once a second; connections to another server than the master are given up.
// Lives on one thread, its home, for the life of the process.
#pragma once

#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class sentinels final : public server_finder, public std::enable_shared_from_this<sentinels> {
 public:
  // `like`: terms of the connections to the master. `password`: of the Sentinels; empty: none.
  sentinels(runtime::worker& home, const connection::terms& like, const std::string& password, engine::event_sink& events);

  void start();  // home thread
  void stop();   // home thread

  std::optional<config::host_port> where() const override;
  std::string trouble() const override;
  void tell_of_moves(std::weak_ptr<connection> who) override;

  struct answer {
    config::host_port master;
    std::uint64_t epoch;  // config-epoch: grows with each failover
  };
  // Which of the answers to believe, of `asked` Sentinels: that of the newest configuration. An older one than is known only when a
  // majority has answered, for then their epochs began anew; a single Sentinel may merely have been cut off.
  static std::optional<answer> believable(const std::optional<answer>& known, std::span<const answer> answers, std::size_t asked);

 private:
  task<void> follow_master(std::shared_ptr<sentinels> self);
  task<std::optional<answer>> ask(connection& c);
  void believe(const answer& a);

  runtime::worker& home_;
  const std::string master_name_;
  engine::event_sink& events_;
  engine::store_stats stats_;  // of the connections to Sentinels: nobody's metrics
  std::vector<std::shared_ptr<connection>> connections_;
  std::unique_ptr<runtime::alarm> bell_;
  bool stopping_ = false;
  std::string said_trouble_;  // one log line each
  std::string trouble_;       // why the last one that was up did not say where the master is

  mutable std::mutex mutex_;  // of what follows
  std::optional<answer> known_;
  std::vector<std::weak_ptr<connection>> to_master_;
};

}  // namespace asidecar::redis
