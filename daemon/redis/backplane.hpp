// What this process hears from Redis without asking: one publish/subscribe connection, on one thread (its home).
// - Invalidations by other instances, on a channel of our own.
// - Changes by any writer at all, so that L1 copies go: by CLIENT TRACKING in broadcast mode, redirected to this very connection
//   (RESP2), or, with `backplane: pubsub`, by messages of the other instances and apps.
// - Releases of fill locks: a waiter listens on the channel named like the lock, only while it waits.
// While the connection is down, L1 is not trusted; once it is back, nothing that L1 held before is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/settings.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/engine/shared_state.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class backplane final : public subscriber, public std::enable_shared_from_this<backplane> {
 public:
  // With `l1`, news reach that state's L1; without, its flights only.
  backplane(runtime::worker& home, connection::terms t, const config::store_settings& settings, bool l1, engine::shared_state& shared,
            engine::store_stats& stats, engine::event_sink& events);

  void start();  // home thread
  void stop();   // home thread; no waiter is told of anything any more
  std::uint64_t sender() const noexcept { return sender_; }  // of our own messages

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

  void hear(std::string_view from, const proto::resp_value& payload);
  void hear_instance(std::string_view message);
  void hear_change(std::string_view name);
  task<void> beat(std::shared_ptr<backplane> self);
  void join(const std::string& name, listener_ptr who);
  void leave(const std::string& name, const listener_ptr& who);
  void subscribe(const std::string& name, channel& c);
  bool live(const channel& c) const noexcept { return up_ && c.subscription <= confirmed_; }
  static void tell(const listener_ptr& who, bool live, bool released);

  runtime::worker& home_;
  const config::backplane_kind kind_;
  const std::string prefix_;
  const bool l1_;
  engine::shared_state& shared_;
  const std::uint64_t sender_;
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
