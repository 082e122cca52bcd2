// The port to the journal of write-behind: acknowledged writes in Redis, in order, until they are applied. One object per worker
// thread, used on that thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/engine/lease.hpp"
#include "daemon/runtime/task.hpp"

namespace asidecar::engine {

struct journaled_write {
  std::string id;  // given by the journal; grows
  std::string route;
  bool removes = false;  // DELETE instead of PUT
  std::string key;
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::optional<std::string>>> params;  // by name; unset: null
};

class write_journal {
 public:
  template <class T>
  using task = runtime::task<T>;

  virtual ~write_journal() = default;

  enum class append_state : std::uint8_t { appended, full, down };
  struct appended {
    append_state state = append_state::down;
    std::string id;
  };
  virtual task<appended> append(const journaled_write& w) = 0;

  // The oldest entries behind `after` (empty: of all); nullopt: the journal did not answer. Entries that are not of this form
  // come with an empty route.
  virtual task<std::optional<std::vector<journaled_write>>> oldest(std::size_t most, std::string after) = 0;
  virtual task<std::optional<std::uint64_t>> length() = 0;
  // Why acknowledged writes could get lost although no daemon does anything wrong; empty: no such reason is known; nullopt: no answer.
  virtual task<std::optional<std::string>> risk() = 0;

  // Who applies: one in the fleet. What follows is done only while the token still holds this lease.
  virtual lease& turn() = 0;
  virtual task<answer> done(std::string_view token, const journaled_write& w) = 0;
  virtual task<answer> bury(std::string_view token, const journaled_write& w, std::string_view reason) = 0;  // to the dead letters
};

}  // namespace asidecar::engine
