// Addresses and URLs of the configuration, parsed at check time so that a daemon that starts has only good ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace asidecar::config {

struct listen_address {
  std::string unix_path;  // empty: TCP
  std::string ip;         // numeric
  std::uint16_t port = 0;
  bool loopback = true;   // Unix sockets count as loopback
};
std::optional<listen_address> parse_listen_address(std::string_view text);

struct host_port {
  std::string host;  // without brackets
  std::uint16_t port = 0;

  bool operator==(const host_port&) const = default;
  std::string text() const;
};

struct redis_url {
  bool tls = false;
  std::string unix_path;             // empty: TCP
  std::vector<host_port> sentinels;  // not empty: they say where the server is, the master called `master`
  std::string master;
  host_port server{"", 6379};
  std::string user;
  std::string password;
  std::uint32_t db = 0;
};
std::optional<redis_url> parse_redis_url(std::string_view text);

struct http_url {
  bool tls = false;
  std::string host;  // without brackets
  std::uint16_t port = 80;
  std::string authority;  // as sent in Host
  std::string base_path;  // "" or "/v2": put before every target
};
std::optional<http_url> parse_http_url(std::string_view text);

// For option declarations: what is wrong, or nullopt.
std::optional<std::string> check_listen_address(std::string_view text);
std::optional<std::string> check_admin_address(std::string_view text);
std::optional<std::string> check_host_name(std::string_view text);
std::optional<std::string> check_redis_url(std::string_view text);
std::optional<std::string> check_http_url(std::string_view text);
std::optional<std::string> check_postgres_url(std::string_view text);
std::optional<std::string> check_prefix(std::string_view text);
std::optional<std::string> check_warm_schedule(std::string_view text);

// The URL with its password, if it has one, as ***.
std::string redact_url(std::string_view text);

}  // namespace asidecar::config
