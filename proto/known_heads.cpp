#include "proto/known_heads.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/redis_keys.hpp"

namespace asidecar::proto {
namespace {

// What a target holds that is its own spelling: visible, no '%', no '#'.
constexpr std::array<bool, 256> plain = [] {
  std::array<bool, 256> table{};
  for (std::size_t c = 0; c < 256; ++c) table[c] = c > 0x20 && c != 0x7F && c != '%' && c != '#';
  return table;
}();

std::uint64_t word_at(const char* p) noexcept {
  std::uint64_t w;
  std::memcpy(&w, p, sizeof w);
  return w;
}

// In a time that depends on the size alone.
bool same(const char* a, const char* b, std::size_t size) noexcept {
  if (size < 8) return std::memcmp(a, b, size) == 0;  // no head is so short
  std::uint64_t different = 0;
  for (std::size_t i = 0; i + 8 <= size; i += 8) different |= word_at(a + i) ^ word_at(b + i);
  return (different | (word_at(a + size - 8) ^ word_at(b + size - 8))) == 0;
}

}  // namespace

known_heads::known_heads(std::string_view path) : start_(std::string("GET ").append(path)) {}

void known_heads::learn(std::string_view bytes, const request_head& head, bool context) {
  const bool learnable = head.method == http_method::get && head.http_1_1 && head.keep_alive && !head.chunked && !head.content_length &&
                         !head.expect_continue && !head.unknown_expectation && head.directives.none() && head.size <= bytes_max &&
                         bytes.size() >= head.size && bytes.starts_with(start_) && head.target.data() == bytes.data() + 4;
  if (!learnable) return;
  const auto tail = bytes.substr(4 + head.target.size(), head.size - 4 - head.target.size());
  const std::uint64_t hash = XXH3_64bits(tail.data(), tail.size()) + (context ? 1 : 0);
  auto& once = seen_once_[hash % seen_once_.size()];
  if (std::exchange(once, hash) != hash || is_known(tail, context)) return;
  auto& k = heads_[next_];
  next_ = (next_ + 1) % heads_max;
  count_ = std::min(count_ + 1, heads_max);
  k.bytes = bytes.substr(0, head.size);
  std::size_t scanned = 0;
  parse_request_head(k.bytes, k.head, scanned);
  k.tail = std::string_view(k.bytes).substr(4 + head.target.size());
  k.context = context;
}

bool known_heads::is_known(std::string_view tail, bool context) const noexcept {
  return std::any_of(heads_.begin(), heads_.begin() + static_cast<std::ptrdiff_t>(count_),
                     [&](const known& k) { return k.context == context && k.tail.size() == tail.size() && same(k.tail.data(), tail.data(), tail.size()); });
}

void known_heads::forget() {
  count_ = next_ = 0;
  seen_once_ = {};
}

known_heads::match known_heads::find(std::string_view bytes, bool context) const noexcept {
  if (count_ == 0 || !bytes.starts_with(start_)) return {};
  const char* const from = bytes.data() + start_.size();
  const char* const last = bytes.data() + std::min(bytes.size(), start_.size() + key_bytes_max + 1);
  const char* to = from;
  while (to != last && plain[static_cast<unsigned char>(*to)]) ++to;
  const auto left = static_cast<std::size_t>(bytes.data() + bytes.size() - to);
  for (std::size_t i = 0; i < count_; ++i) {
    const auto& k = heads_[i];
    if (k.context != context || left < k.tail.size() || !same(to, k.tail.data(), k.tail.size())) continue;
    const auto size = static_cast<std::size_t>(to - bytes.data()) + k.tail.size();
    const auto field_bytes = k.head.fields.size();
    const std::string_view fields(bytes.data() + size - 2 - field_bytes, field_bytes);  // behind them stands an empty line
    return {&k.head, fields, std::string_view(from, static_cast<std::size_t>(to - from)), size};
  }
  return {};
}

}  // namespace asidecar::proto
