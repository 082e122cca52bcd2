// A cached value, shared by everyone who answers with it. Immutable: any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "daemon/core/freshness.hpp"
#include "proto/record.hpp"

namespace asidecar::engine {

core::lifetime life_of(const proto::record& r) noexcept;

inline constexpr std::uint64_t body_bytes_max = std::uint64_t(1) << 30;  // the largest max_value there can be, and more

class value;
using value_ptr = std::shared_ptr<const value>;

class value {
 public:
  // Takes the bytes as they lie in Redis; null when they fail any check (a miss, never an answer). Compressed bodies are
  // decompressed, up to the size that any value may have.
  static value_ptr decode(std::string bytes);
  static value_ptr encode(const proto::record& content) { return decode(proto::encode_record(content)); }
  // Of what `content` views, all of which `keeper` keeps.
  static value_ptr view(const proto::record& content, std::shared_ptr<const void> keeper);

  value(const value&) = delete;
  value& operator=(const value&) = delete;

  const core::lifetime& life() const noexcept { return life_; }
  const proto::record& content() const noexcept { return view_; }
  std::string_view body() const noexcept { return view_.body; }
  std::string encoded() const { return keeper_ || !inflated_.empty() ? proto::encode_record(view_) : own_; }  // as a record; not compressed

 private:
  value() = default;
  void look_at(const proto::record& view);

  std::string own_;                      // the record's bytes,
  std::string inflated_;                 // with its body if that was compressed; or
  std::shared_ptr<const void> keeper_;   // who has what it views
  proto::record view_;
  core::lifetime life_;
};

}  // namespace asidecar::engine
