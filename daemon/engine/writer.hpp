// The port to an origin that is written: /v1/records. One object per worker thread, route and operation; used on that thread only.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "daemon/engine/loader.hpp"

namespace asidecar::engine {

struct write_request {
  std::vector<std::optional<std::string>> params;  // one per writer::params(); unset: null
  std::string body;  // sent on by HTTP origins
  std::string content_type;
  steady_time deadline;
};

struct written {
  bool touched = false;             // false: there was no such record
  std::optional<std::string> body;  // what the origin returned of the record
  std::string content_type;
};

using write_outcome = std::variant<written, load_error>;

class writer {
 public:
  virtual ~writer() = default;
  // What the operation's placeholders are: names of the key's, "body.<member>", "write.id".
  virtual const std::vector<std::string>& params() const noexcept = 0;
  virtual task<write_outcome> write(write_request request) = 0;
};

}  // namespace asidecar::engine
