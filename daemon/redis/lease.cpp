#include "daemon/redis/lease.hpp"

namespace asidecar::redis {
namespace {

constexpr std::string_view renew_script = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 0";
constexpr std::string_view release_script = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

}  // namespace

task<std::optional<bool>> lease::take(std::string_view token, std::chrono::milliseconds ttl) {
  const auto got = co_await connection_->run(words_of("SET", name_, token, "NX", "PX", std::to_string(ttl.count())));
  if (!got) co_return std::nullopt;
  co_return got->is_ok();
}

task<std::optional<bool>> lease::renew(std::string_view token, std::chrono::milliseconds ttl) {
  const auto done = co_await connection_->run(words_of("EVAL", renew_script, "1", name_, token, std::to_string(ttl.count())));
  if (!done || done->is_error()) co_return std::nullopt;
  co_return done->integer == 1;
}

task<void> lease::release(std::string_view token) { co_await connection_->run(words_of("EVAL", release_script, "1", name_, token)); }

}  // namespace asidecar::redis
