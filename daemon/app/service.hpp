// One configuration at work on one thread: settings become a store, origins, routes and the cache over them. When the last
// request that uses it is done, it stops its connections.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "config/settings.hpp"
#include "daemon/engine/cache.hpp"
#include "daemon/engine/warmup.hpp"
#include "daemon/http/data_api.hpp"
#include "daemon/observe/metrics.hpp"
#include "daemon/origin/guard.hpp"
#include "daemon/redis/backplane.hpp"
#include "daemon/redis/sentinels.hpp"

namespace asidecar::app {

// What the threads share of one configuration.
struct generation {
  generation(config::settings s, observe::metrics& m);
  config::settings settings;
  const std::uint32_t number;  // unlike any other's of this process
  std::uint32_t tags_version = 0;  // grows when a reload changes the tags of a route
  std::map<std::string, std::shared_ptr<origin::guard>> guards;
  std::shared_ptr<const http::admission> who;
};

// What outlives configurations, as one thread sees it.
struct lasting {
  engine::shared_state& shared;
  std::shared_ptr<redis::server_finder> finder;  // null: the store's URL names its server
  std::shared_ptr<redis::backplane> backplane;   // null without a store
  std::shared_ptr<engine::writes_in_doubt> doubts;
  std::shared_ptr<engine::recent_invalidations> recent;
  std::function<void()> journal_appended;
};

// Something with coroutines of its own, which end once it is stopped. The cache over it stops it when it goes; at the end of the
// process that is done while there is still a loop to run them.
class stoppable {
 public:
  virtual ~stoppable() = default;
  virtual void stop() = 0;
};

struct service {
  std::shared_ptr<const http::data_service> data;
  std::shared_ptr<redis::connection> store;  // null without one
  std::vector<std::weak_ptr<stoppable>> resources;
  std::vector<engine::warmup::parts> warm;  // on the first thread only
};

// Null when the store's URL names none. They live on `home`, for the life of the process.
std::shared_ptr<redis::sentinels> make_sentinels(const config::settings& s, runtime::worker& home, engine::event_sink& events);

// Null without a store. Likewise.
std::shared_ptr<redis::backplane> make_backplane(const config::settings& s, std::shared_ptr<redis::server_finder> finder, runtime::worker& home,
                                                 engine::shared_state& shared, observe::metrics& metrics, engine::event_sink& events);

// Throws std::runtime_error when something of the configuration turns out not to work.
service make_service(const generation& from, runtime::worker& worker, std::size_t workers, const lasting& process, observe::metrics& metrics,
                     engine::event_sink& events);

}  // namespace asidecar::app
