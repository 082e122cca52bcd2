// What a connection with TLS talks through.
#pragma once

#include <boost/asio/ssl/stream.hpp>

#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

struct connection::tls_stream : asio::ssl::stream<socket&> {
  using stream::stream;
};

}  // namespace asidecar::redis
