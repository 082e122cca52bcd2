#include "daemon/redis/sentinels.hpp"

#include <catch2/catch.hpp>

using asidecar::redis::sentinels;

namespace {

sentinels::answer at(std::uint16_t port, std::uint64_t epoch) { return {{"h", port}, epoch}; }

}  // namespace

TEST_CASE("of what Sentinels say the newest configuration is believed") {
  using answers = std::vector<sentinels::answer>;
  const auto port = [](const std::optional<sentinels::answer>& a) { return a ? int(a->master.port) : 0; };
  CHECK(port(sentinels::believable(std::nullopt, answers{}, 3)) == 0);
  CHECK(port(sentinels::believable(std::nullopt, answers{at(1, 0)}, 3)) == 1);
  CHECK(port(sentinels::believable(std::nullopt, answers{at(1, 4), at(2, 5), at(1, 4)}, 3)) == 2);
  CHECK(port(sentinels::believable(at(2, 5), answers{at(2, 5)}, 3)) == 2);
  CHECK(port(sentinels::believable(at(2, 5), answers{at(3, 6)}, 3)) == 3);
  // One that was cut off still names the former master.
  CHECK(port(sentinels::believable(at(2, 5), answers{at(1, 4)}, 3)) == 0);
  CHECK(port(sentinels::believable(at(2, 5), answers{at(1, 4)}, 2)) == 0);
  // Most of them do: they began anew.
  CHECK(port(sentinels::believable(at(2, 5), answers{at(1, 0), at(1, 0)}, 3)) == 1);
  CHECK(port(sentinels::believable(at(2, 5), answers{at(1, 0)}, 1)) == 1);
}
