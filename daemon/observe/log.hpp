// The event log, to stderr, as text or JSON. Writing never blocks a worker: a bounded queue and a thread of its own stand
// between, and the oldest lines give way when stderr does not take them. Any thread.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "daemon/engine/events.hpp"

namespace asidecar::observe {

class event_log : public engine::event_sink {
 public:
  virtual void set_level(config::log_level level) = 0;
};

std::unique_ptr<event_log> make_log(const config::log_settings& settings);

}  // namespace asidecar::observe
