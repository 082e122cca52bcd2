// The configuration as data. Every member is declared once in options.cpp, with its name, help and checks; its default is
// the initializer here. Plain values, freely copied; comparable, so that a reload can tell what changed.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/policy.hpp"

namespace asidecar::config {

using std::chrono::milliseconds;

struct listen_settings {
  std::vector<std::string> data{"127.0.0.1:8700"};
  std::string admin = "127.0.0.1:8701";
  std::string token;  // empty: none
  std::vector<std::string> hosts;
  bool insecure = false;
  std::uint32_t max_connections = 10'000;

  bool operator==(const listen_settings&) const = default;
};

enum class value_format : std::uint8_t { record, raw };
enum class backplane_kind : std::uint8_t { tracking, pubsub, off };

struct store_settings {
  std::string redis = "redis://127.0.0.1:6379/0";
  std::string ca;  // PEM files, for rediss://
  std::string cert;
  std::string key;
  std::string sentinel_password;  // empty: none
  std::string prefix = "cache:";
  value_format format = value_format::record;
  milliseconds timeout{100};
  milliseconds lock_ttl = std::chrono::seconds(10);
  milliseconds lock_wait = std::chrono::seconds(5);
  backplane_kind backplane = backplane_kind::tracking;
  std::uint64_t journal_max = std::uint64_t(256) << 20;

  bool operator==(const store_settings&) const = default;
};

struct l1_settings {
  std::uint64_t size = 0;
  milliseconds ttl = std::chrono::seconds(60);

  bool operator==(const l1_settings&) const = default;
};

struct origin_settings {
  std::string name;
  // Exactly one of these is set.
  std::string postgres;
  std::string http;
  std::string sqlite;
  std::uint32_t connections = 0;  // 0 in the file: decided by the loader
  std::uint32_t max_in_flight = 64;
  std::uint32_t queue = 256;
  std::uint32_t breaker_failures = 5;
  milliseconds breaker_open = std::chrono::seconds(10);
  std::uint32_t retries = 0;
  std::string ca;
  std::uint64_t max_response = std::uint64_t(16) << 20;
  milliseconds delay{0};

  bool is_sql() const noexcept { return http.empty(); }
  bool operator==(const origin_settings&) const = default;
};

enum class row_mode : std::uint8_t { one, many };
enum class origin_cache_control : std::uint8_t { obey, ignore };
enum class write_strategy : std::uint8_t { invalidate, through, behind };

struct write_settings {
  write_strategy strategy = write_strategy::invalidate;
  std::string put;
  std::string remove;

  bool operator==(const write_settings&) const = default;
};

struct route_settings {
  std::string name;
  std::string key;
  std::string origin;  // empty: the app fills the cache itself
  std::string load;
  row_mode rows = row_mode::one;
  origin_cache_control cache_control = origin_cache_control::obey;
  std::vector<std::string> forward_headers;
  bool put = false;
  std::string content_type = "application/json";
  std::vector<std::string> tags;
  std::optional<write_settings> write;
  core::policy rules;

  bool operator==(const route_settings&) const = default;
};

struct warm_settings {
  std::string name;
  std::string origin;
  std::string query;
  std::string key;
  std::string when = "startup";
  std::uint32_t concurrency = 8;
  bool before_ready = false;

  bool operator==(const warm_settings&) const = default;
};

enum class log_level : std::uint8_t { trace, debug, info, warn, error };
enum class log_format : std::uint8_t { text, json };

struct log_settings {
  log_level level = log_level::info;
  log_format format = log_format::text;

  bool operator==(const log_settings&) const = default;
};

struct settings {
  listen_settings listen;
  std::uint32_t threads = 0;  // 0: auto
  std::optional<store_settings> store;
  l1_settings l1;
  core::policy defaults;
  std::vector<origin_settings> origins;
  std::vector<route_settings> routes;
  std::vector<warm_settings> warm;
  log_settings log;

  const origin_settings* find_origin(const std::string& name) const noexcept;
};

}  // namespace asidecar::config
