// A cached value: the record's bytes and a view into them, shared by everyone who answers with it. Immutable: any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "daemon/core/freshness.hpp"
#include "proto/record.hpp"

namespace asidecar::engine {

core::lifetime life_of(const proto::record& r) noexcept;

class value;
using value_ptr = std::shared_ptr<const value>;

class value {
 public:
  // Takes the bytes as they lie in Redis; null when they fail any check (a miss, never an answer). Compressed bodies are
  // decompressed, up to the size that any value may have.
  static value_ptr decode(std::string bytes);
  static value_ptr encode(const proto::record& content) { return decode(proto::encode_record(content)); }
  // Of bytes() of another value, which `keeper` keeps; nothing is checked again.
  static value_ptr view(std::string_view bytes, std::shared_ptr<const void> keeper);

  value(const value&) = delete;
  value& operator=(const value&) = delete;

  const core::lifetime& life() const noexcept { return life_; }
  const proto::record& content() const noexcept { return view_; }
  std::string_view body() const noexcept { return view_.body; }
  std::string_view bytes() const noexcept { return bytes_; }  // the record, not compressed

 private:
  value() = default;
  void look_at(std::string_view bytes, const proto::record& view);

  std::string own_;                      // the bytes, or
  std::shared_ptr<const void> keeper_;   // who has them
  std::string_view bytes_;
  proto::record view_;  // into bytes_
  core::lifetime life_;
};

}  // namespace asidecar::engine
