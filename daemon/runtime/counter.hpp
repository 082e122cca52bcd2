// Counters that one thread writes and any thread reads: a plain add, no locked instruction.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace asidecar::runtime {

class counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void sub(std::uint64_t n = 1) noexcept { add(~n + 1); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Latencies in buckets that double from 32 µs to 16.8 s, which is what a cache answers in.
class latency_histogram {
 public:
  static constexpr std::size_t buckets = 20;
  static constexpr std::uint64_t upper_bound_us(std::size_t bucket) noexcept { return std::uint64_t(32) << bucket; }

  void observe(std::chrono::nanoseconds elapsed) noexcept {
    const auto us = static_cast<std::uint64_t>(elapsed.count() < 0 ? 0 : elapsed.count()) / 1000;
    std::size_t bucket = 0;
    while (bucket < buckets && us > upper_bound_us(bucket)) ++bucket;
    counts_[bucket].add();
    sum_ns_.add(static_cast<std::uint64_t>(elapsed.count() < 0 ? 0 : elapsed.count()));
  }

  std::uint64_t count(std::size_t bucket) const noexcept { return counts_[bucket].value(); }  // not cumulative; last: overflow
  std::uint64_t sum_ns() const noexcept { return sum_ns_.value(); }

 private:
  std::array<counter, buckets + 1> counts_;
  counter sum_ns_;
};

}  // namespace asidecar::runtime
