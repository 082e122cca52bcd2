// What stands before every origin: bulkhead (max_in_flight, queue), circuit breaker, retries and the configured delay.
// Shared by all threads; waiters are woken on their own thread.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "daemon/engine/writer.hpp"
#include "daemon/runtime/worker.hpp"

namespace asidecar::origin {

class guard;  // one per origin and process

std::shared_ptr<guard> make_guard(const config::origin_settings& settings, std::shared_ptr<engine::origin_stats> stats);

// `inner` behind the guard, for use on `worker`'s thread.
std::unique_ptr<engine::loader> guarded(std::shared_ptr<guard> g, runtime::worker& worker, std::unique_ptr<engine::loader> inner);
// Writes are never tried again: one that failed may have been applied.
std::unique_ptr<engine::writer> guarded(std::shared_ptr<guard> g, runtime::worker& worker, std::unique_ptr<engine::writer> inner);

}  // namespace asidecar::origin
