// A cached value: the record's bytes and a view into them, shared by everyone who answers with it. Immutable: any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "daemon/core/freshness.hpp"
#include "proto/record.hpp"

namespace asidecar::engine {

class value;
using value_ptr = std::shared_ptr<const value>;

class value {
 public:
  // Takes the bytes as they lie in Redis; null when they fail any check (a miss, never an answer). Compressed bodies are
  // decompressed, up to the size that any value may have.
  static value_ptr decode(std::string bytes);
  static value_ptr encode(const proto::record& content) { return decode(proto::encode_record(content)); }

  value(const value&) = delete;
  value& operator=(const value&) = delete;

  const core::lifetime& life() const noexcept { return life_; }
  const proto::record& content() const noexcept { return view_; }
  std::string_view body() const noexcept { return view_.body; }
  const std::string& bytes() const noexcept { return bytes_; }  // the record, not compressed
  // What it takes in memory, with the allocations it is made of.
  std::size_t footprint() const noexcept { return sizeof(value) + bytes_.capacity() + 48; }

 private:
  explicit value(std::string bytes) : bytes_(std::move(bytes)) {}

  std::string bytes_;
  proto::record view_;  // into bytes_
  core::lifetime life_;
};

}  // namespace asidecar::engine
