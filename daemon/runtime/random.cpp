#include "daemon/runtime/random.hpp"

#include <sys/random.h>

#include <array>
#include <cstdint>
#include <random>
#include <system_error>

namespace asidecar::runtime {
namespace {

class system_random final : public random_source {
 public:
  system_random() : engine_(std::random_device{}()) {}

  double unit() override { return 1.0 - std::uniform_real_distribution<double>(0.0, 1.0)(engine_); }

  std::string token() override {
    static constexpr char digits[] = "0123456789abcdef";
    std::array<std::uint8_t, 16> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      throw std::system_error(errno, std::generic_category(), "getrandom");
    std::string out;
    for (const auto byte : bytes) {
      out.push_back(digits[byte >> 4]);
      out.push_back(digits[byte & 15]);
    }
    return out;
  }

 private:
  std::minstd_rand engine_;
};

}  // namespace

std::unique_ptr<random_source> make_system_random() { return std::make_unique<system_random>(); }

}  // namespace asidecar::runtime
