// L2 and the fill lock over one Redis connection. One object per worker thread.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "daemon/engine/l2_store.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

// `connection` is started and stopped by the caller, and outlives the store.
std::unique_ptr<engine::l2_store> make_store(std::shared_ptr<connection> connection, const config::store_settings& settings,
                                             std::string raw_content_type, runtime::clock& time);

}  // namespace asidecar::redis
