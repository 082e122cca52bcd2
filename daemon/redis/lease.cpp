#include "daemon/redis/lease.hpp"

namespace asidecar::redis {
namespace {

using engine::answer;
constexpr std::string_view renew_script = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 0";
constexpr std::string_view release_script = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

}  // namespace

answer answer_of(const reply& r) noexcept {
  if (!r || r->is_error()) return answer::unknown;
  return r->integer == 1 ? answer::yes : answer::no;
}

task<answer> lease::take(std::string_view token, std::chrono::milliseconds ttl) {
  const auto got = co_await connection_->run(words_of("SET", name_, token, "NX", "PX", std::to_string(ttl.count())));
  if (!got || got->is_error()) co_return answer::unknown;
  co_return got->is_ok() ? answer::yes : answer::no;
}

task<answer> lease::renew(std::string_view token, std::chrono::milliseconds ttl) {
  const auto done = co_await connection_->run(words_of("EVAL", renew_script, "1", name_, token, std::to_string(ttl.count())));
  co_return answer_of(done);
}

task<void> lease::release(std::string_view token) { co_await connection_->run(words_of("EVAL", release_script, "1", name_, token)); }

}  // namespace asidecar::redis
