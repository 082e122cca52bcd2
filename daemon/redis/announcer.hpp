// Tells the other instances what this one removes or replaces, as part of a batch. An ACL may forbid to publish: who may not
// publish may not subscribe either, and then trusts no copies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/settings.hpp"
#include "daemon/redis/batch.hpp"
#include "proto/backplane_message.hpp"

namespace asidecar::redis {

class announcer {
 public:
  using kind = proto::backplane_message::kind;
  // `sender`: of our own messages, see backplane.
  announcer(const config::store_settings& s, std::uint64_t sender) : backplane_(s.backplane), prefix_(s.prefix), sender_(sender) {}

  // `text`: the key, pattern or tag.
  void add(batch& b, kind what, std::string_view text) const {
    if (backplane_ == config::backplane_kind::off) return;
    b.add("PUBLISH", proto::backplane_channel, proto::encode_backplane_message({sender_, what, text}, prefix_));
    if (commands_each() == 2) b.add("PUBLISH", proto::plain_channel, std::string(prefix_).append(text));
  }
  // How many commands add() puts into the batch.
  std::size_t commands_each() const noexcept {
    switch (backplane_) {
      case config::backplane_kind::off: return 0;
      case config::backplane_kind::tracking: return 1;
      case config::backplane_kind::pubsub: return 2;
    }
    return 0;
  }
  // Nobody tracks what is stored, so it has to be said.
  bool tells_of_fills() const noexcept { return backplane_ == config::backplane_kind::pubsub; }

 private:
  const config::backplane_kind backplane_;
  const std::string prefix_;
  const std::uint64_t sender_;
};

}  // namespace asidecar::redis
