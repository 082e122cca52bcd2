// One configuration at work on one thread: settings become a store, origins, routes and the cache over them. When the last
// request that uses it is done, it stops its connections.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "config/settings.hpp"
#include "daemon/engine/cache.hpp"
#include "daemon/http/data_api.hpp"
#include "daemon/observe/metrics.hpp"
#include "daemon/origin/guard.hpp"
#include "daemon/redis/backplane.hpp"

namespace asidecar::app {

// What the threads share of one configuration.
struct generation {
  generation(config::settings s, runtime::worker& first, observe::metrics& m, engine::event_sink& events);
  config::settings settings;
  std::map<std::string, std::shared_ptr<origin::guard>> guards;
  std::shared_ptr<const http::admission> who;
  std::shared_ptr<redis::backplane> backplane;  // null without a store; started and stopped by the first thread's service
};

struct service {
  std::shared_ptr<const http::data_service> data;
  std::shared_ptr<redis::connection> store;  // null without one
};

// Throws std::runtime_error when something of the configuration turns out not to work.
service make_service(const generation& from, runtime::worker& worker, std::size_t workers, engine::shared_state& shared,
                     observe::metrics& metrics, engine::event_sink& events);

}  // namespace asidecar::app
