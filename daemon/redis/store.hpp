// L2 and the fill lock over one Redis connection. One object per worker thread.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/redis/backplane.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

// `connection` and `from` are started and stopped by the caller.
std::unique_ptr<engine::l2_store> make_store(runtime::worker& w, std::shared_ptr<connection> connection, std::shared_ptr<backplane> from,
                                             const config::store_settings& settings);

}  // namespace asidecar::redis
