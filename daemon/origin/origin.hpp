// Origins of the configuration. An `origin` is one thread's share of it: connections are never shared between threads.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "daemon/core/key_template.hpp"
#include "daemon/engine/writer.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::origin {

class origin {
 public:
  virtual ~origin() = default;
  // The loader refers to the origin, which must outlive it. `key` gives the meaning of load_request::params by position.
  virtual std::unique_ptr<engine::loader> make_loader(const config::route_settings& route, const core::key_template& key) = 0;
  // `statement`: SQL or "PUT /path". Null: this kind of origin cannot be written.
  virtual std::unique_ptr<engine::writer> make_writer(const config::route_settings& route, const std::string& statement) = 0;
  // Cancels what runs and closes connections; coroutines of the origin end soon after. Called on its thread.
  virtual void stop() = 0;
};

// `connections` is this thread's share, at least 1.
std::shared_ptr<origin> make_postgres_origin(runtime::worker& worker, const config::origin_settings& settings, std::size_t connections);
std::shared_ptr<origin> make_http_origin(runtime::worker& worker, const config::origin_settings& settings, std::size_t connections);
std::shared_ptr<origin> make_sqlite_origin(runtime::worker& worker, const config::origin_settings& settings);

}  // namespace asidecar::origin
