// Who may ask at all: Host against DNS rebinding, Origin and Sec-Fetch-Site against cross-site requests, the bearer token.
// Immutable: any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/http/answer.hpp"

namespace asidecar::http {

class admission {
 public:
  admission(std::string token, std::vector<std::string> hosts) : token_(std::move(token)), hosts_(std::move(hosts)) {}

  // nullopt: the request may go on. Host and Origin count on TCP only: no browser reaches a Unix socket.
  std::optional<answer> refuse(const proto::request_head& head, bool over_tcp, bool needs_token) const;

 private:
  static bool same_origin(std::string_view origin, std::string_view authority);
  bool known_host(std::string_view authority) const;
  bool has_token(std::string_view authorization) const;

  std::string token_;
  std::vector<std::string> hosts_;
};

}  // namespace asidecar::http
