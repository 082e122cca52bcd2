// What the values of a route mostly have in common, kept once for all of them: a value in L1 names its profile by a small number.
// Counted references; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace asidecar::engine {

// Which route a value's key belongs to, under which configuration. One that is not of the configuration at work is not known to
// belong to any of its routes.
struct entry_owner {
  std::uint32_t generation = 0;
  std::uint32_t route = 0;
  bool operator==(const entry_owner&) const = default;
};

struct profile {
  entry_owner owner;
  std::int64_t stale_while_revalidate_ms = 0;
  std::int64_t stale_if_error_ms = 0;
  std::string_view content_type;
  std::string_view content_encoding;
};

class profiles {
 public:
  using number = std::uint32_t;
  static constexpr number most = 1U << 22;  // profiles at a time
  static constexpr number none = most;

  // The profile's number, with one more reference to it. `none` when there are as many already.
  number acquire(const profile& p);
  void release(number n) noexcept;
  const profile& at(number n) const noexcept { return all_[n].what; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct shared_profile {
    profile what;  // its texts are the name's
    std::uint32_t references = 0;
    const std::string* name = nullptr;
  };
  static bool equal(const profile& a, const profile& b) noexcept;
  static std::string name_of(const profile& p);
  static std::uint64_t footprint(const std::string& name) noexcept;

  std::vector<shared_profile> all_;
  std::vector<number> unused_;
  std::unordered_map<std::string, number> numbers_;  // by all of a profile's fields
  number last_ = none;                                // the one acquired last: most often the next one, too
  std::uint64_t bytes_ = 0;
};

}  // namespace asidecar::engine
