// The hit ratio of L1's eviction policy on a trace, beside LRU's.
//   xzcat TRACE.u64.xz | hit_ratio      (one little-endian 64-bit key per request)
#include <cstdio>
#include <list>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemon/core/s3_fifo.hpp"

namespace {

std::vector<std::uint64_t> read_trace() {
  std::vector<std::uint64_t> out;
  std::uint64_t block[4096];
  for (std::size_t n; (n = std::fread(block, sizeof block[0], 4096, stdin)) > 0;) out.insert(out.end(), block, block + n);
  return out;
}

std::uint64_t mixed(std::uint64_t x) {  // the finalizer of SplitMix64
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

double s3_fifo_ratio(const std::vector<std::uint64_t>& trace, std::size_t entries) {
  struct item : asidecar::core::s3_fifo::node {
    std::uint64_t key = 0;
  };
  asidecar::core::s3_fifo policy(entries);
  std::unordered_map<std::uint64_t, item> held;
  std::size_t hits = 0;
  for (const auto key : trace) {
    const auto [at, is_new] = held.try_emplace(key);
    if (!is_new) {
      ++hits;
      asidecar::core::s3_fifo::touch(at->second);
      continue;
    }
    at->second.key = key;
    at->second.bytes(1);
    policy.insert(at->second, mixed(key));
    while (policy.over()) {
      auto* out = static_cast<item*>(policy.evict([](const auto& n) { return mixed(static_cast<const item&>(n).key); }));
      held.erase(out->key);
    }
  }
  return static_cast<double>(hits) / static_cast<double>(trace.size());
}

double lru_ratio(const std::vector<std::uint64_t>& trace, std::size_t entries) {
  std::list<std::uint64_t> order;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> held;
  std::size_t hits = 0;
  for (const auto key : trace) {
    if (const auto at = held.find(key); at != held.end()) {
      ++hits;
      order.splice(order.begin(), order, at->second);
      continue;
    }
    order.push_front(key);
    held.emplace(key, order.begin());
    if (held.size() <= entries) continue;
    held.erase(order.back());
    order.pop_back();
  }
  return static_cast<double>(hits) / static_cast<double>(trace.size());
}

}  // namespace

int main() {
  const auto trace = read_trace();
  const std::unordered_set<std::uint64_t> distinct(trace.begin(), trace.end());
  std::printf("%zu requests, %zu keys\n", trace.size(), distinct.size());
  for (const double share : {0.01, 0.10}) {
    const auto entries = static_cast<std::size_t>(share * static_cast<double>(distinct.size()));
    std::printf("%3.0f%%: S3-FIFO %.3f, LRU %.3f\n", share * 100, s3_fifo_ratio(trace, entries), lru_ratio(trace, entries));
  }
}
