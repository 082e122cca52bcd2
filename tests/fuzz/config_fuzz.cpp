// Configurations: no crash; errors have places; what loads prints as something that loads again.
#include <cstdint>
#include <cstdlib>

#include "config/config.hpp"

using namespace asidecar::config;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (text.find("file:") != std::string::npos) return 0;  // no reading of files named by the fuzzer
  const auto loaded = load_text(text, "fuzz.yaml");
  if (loaded.value.has_value() == !loaded.errors.empty()) std::abort();
  for (const auto& e : loaded.errors)
    if (e.message.empty()) std::abort();
  if (loaded.value) print_effective(*loaded.value);
  return 0;
}
