// Where the layers below the log say what happened. Implemented by daemon/observe; one object per process, any thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace asidecar::engine {

enum class severity : std::uint8_t { debug, info, warn, error };

struct event_field {
  std::string_view name;
  std::string_view value;  // escaped by the sink; never a secret, never a cached value
};

class event_sink {
 public:
  virtual ~event_sink() = default;
  virtual void event(severity level, std::string_view what, std::initializer_list<event_field> fields = {}) = 0;
};

}  // namespace asidecar::engine
