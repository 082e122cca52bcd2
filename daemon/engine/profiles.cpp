#include "daemon/engine/profiles.hpp"

#include <array>
#include <cstring>

namespace asidecar::engine {

bool profiles::equal(const profile& a, const profile& b) noexcept {
  return a.owner == b.owner && a.stale_while_revalidate_ms == b.stale_while_revalidate_ms && a.stale_if_error_ms == b.stale_if_error_ms &&
         a.content_type == b.content_type && a.content_encoding == b.content_encoding;
}

// The two texts, and then all numbers, so that no two profiles have the same.
std::string profiles::name_of(const profile& p) {
  const std::array<std::uint64_t, 4> numbers{std::uint64_t(p.owner.generation) << 32 | p.owner.route, static_cast<std::uint64_t>(p.stale_while_revalidate_ms),
                                             static_cast<std::uint64_t>(p.stale_if_error_ms), p.content_type.size()};
  std::array<char, sizeof numbers> raw;
  std::memcpy(raw.data(), numbers.data(), sizeof numbers);
  return std::string(p.content_type).append(p.content_encoding).append(raw.data(), raw.size());
}

std::uint64_t profiles::footprint(const std::string& name) noexcept {
  constexpr std::uint64_t node_bytes = 96;  // of the map, with its bucket
  return sizeof(shared_profile) + name.capacity() + node_bytes;
}

profiles::number profiles::acquire(const profile& p) {
  if (last_ != none && equal(all_[last_].what, p)) {
    ++all_[last_].references;
    return last_;
  }
  const auto [at, is_new] = numbers_.try_emplace(name_of(p), none);
  if (is_new) {
    if (unused_.empty() && all_.size() == most) {
      numbers_.erase(at);
      return none;
    }
    if (unused_.empty()) {
      unused_.push_back(static_cast<number>(all_.size()));
      all_.emplace_back();
    }
    at->second = unused_.back();
    unused_.pop_back();
    auto& made = all_[at->second];
    const std::string_view texts = at->first;
    made.what = p;
    made.what.content_type = texts.substr(0, p.content_type.size());
    made.what.content_encoding = texts.substr(p.content_type.size(), p.content_encoding.size());
    made.name = &at->first;
    bytes_ += footprint(at->first);
  }
  last_ = at->second;
  ++all_[last_].references;
  return last_;
}

void profiles::release(number n) noexcept {
  auto& held = all_[n];
  if (--held.references > 0) return;
  bytes_ -= footprint(*held.name);
  numbers_.erase(numbers_.find(*held.name));
  held = {};
  unused_.push_back(n);
  if (last_ == n) last_ = none;
  if (numbers_.empty()) *this = profiles();  // gives its memory back
}

}  // namespace asidecar::engine
