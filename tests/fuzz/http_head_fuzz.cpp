// The framing gate and the chunked decoder: no crash, and the same verdict however the bytes are cut.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "proto/chunked.hpp"
#include "proto/http_head.hpp"

using namespace asidecar::proto;

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void fuzz_head(std::string_view bytes) {
  request_head whole;
  std::size_t scanned = 0;
  const auto verdict = parse_request_head(bytes, whole, scanned);
  if (verdict.state == head_state::complete) {
    check(whole.size <= bytes.size() && bytes.substr(0, whole.size).ends_with("\r\n\r\n"));
    check(!whole.target.empty() && whole.target.front() == '/');
    check(!(whole.chunked && whole.content_length));
  }
  // In two pieces: an incomplete first piece must not change what the whole says.
  if (bytes.size() < 2) return;
  request_head head;
  std::size_t resumed = 0;
  const auto cut = static_cast<unsigned char>(bytes.front()) % bytes.size();
  if (parse_request_head(bytes.substr(0, cut), head, resumed).state != head_state::incomplete) return;
  check(parse_request_head(bytes, head, resumed).state == verdict.state);
}

void fuzz_chunked(std::string_view bytes) {
  std::string at_once;
  std::string bytewise;
  chunked_decoder a;
  chunked_decoder b;
  auto rest = bytes;
  const auto verdict = a.feed(rest, [&](std::string_view p) { at_once.append(p); });
  auto state = chunked_decoder::state::more;
  for (std::size_t i = 0; i < bytes.size() && state == chunked_decoder::state::more; ++i) {
    auto one = bytes.substr(i, 1);
    state = b.feed(one, [&](std::string_view p) { bytewise.append(p); });
  }
  check(state == verdict);
  if (verdict == chunked_decoder::state::done) check(at_once == bytewise);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz_head(bytes);
  fuzz_chunked(bytes);
  return 0;
}
