// What this process hears from Redis without asking: one publish/subscribe connection, on one thread (its home). A waiter for a
// fill lock listens on the channel named like the lock, only while it waits; so a message costs nobody who does not care.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/engine/l2_store.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class backplane final : public subscriber, public std::enable_shared_from_this<backplane> {
 public:
  backplane(runtime::worker& home, connection::terms t, engine::store_stats& stats, engine::event_sink& events);

  void start();  // home thread, as stop(): no waiter is told of anything any more
  void stop();

  // Any thread; the watch belongs to `w`'s.
  std::unique_ptr<engine::lock_watch> watch(runtime::worker& w, std::string name);

 private:
  class channel_watch;
  struct listener;
  using listener_ptr = std::shared_ptr<listener>;
  struct channel {
    std::uint64_t subscription = 0;  // its number among all SUBSCRIBEs of this connection
    std::vector<listener_ptr> listeners;
  };

  task<bool> prepare(connection& c) override;
  void on_up() override;
  void on_push(proto::resp_value message) override;
  void on_lost() override;

  task<void> beat(std::shared_ptr<backplane> self);
  void join(const std::string& name, listener_ptr who);
  void leave(const std::string& name, const listener_ptr& who);
  void subscribe(const std::string& name, channel& c);
  bool live(const channel& c) const noexcept { return up_ && c.subscription <= confirmed_; }
  static void tell(const listener_ptr& who, bool live, bool released);

  runtime::worker& home_;
  std::shared_ptr<connection> connection_;
  std::unique_ptr<runtime::alarm> stopped_;
  bool stopping_ = false;
  bool up_ = false;
  bool heard_ = false;            // anything since the last beat
  std::uint64_t subscribed_ = 0;  // SUBSCRIBEs sent over this connection, and how many of them Redis has confirmed
  std::uint64_t confirmed_ = 0;
  std::unordered_map<std::string, channel> channels_;
};

}  // namespace asidecar::redis
