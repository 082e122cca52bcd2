// The journal of write-behind as a Redis stream, its dead letters as another, and the lease of whoever applies it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/engine/write_journal.hpp"
#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

std::unique_ptr<engine::write_journal> make_journal(std::shared_ptr<connection> c, const std::string& prefix, std::uint64_t bytes_max);

}  // namespace asidecar::redis
