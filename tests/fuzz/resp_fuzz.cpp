// RESP replies from a peer that may send anything: no crash, bounded, the same replies however the bytes are cut, and whether they are
// read where they lie or not.
#include <cstdint>
#include <cstdlib>

#include "proto/resp.hpp"

using namespace asidecar::proto;

namespace {

std::size_t replies(std::string_view bytes, std::size_t step, bool& broken) {
  resp_reader reader(64 * 1024);
  std::size_t count = 0;
  for (std::size_t i = 0; i < bytes.size() && !broken; i += step) {
    if (!reader.feed(bytes.substr(i, step))) broken = true;
    resp_value value;
    auto state = resp_reader::state::need_more;
    while (!broken && (state = reader.next(value)) == resp_reader::state::reply) ++count;
    broken = broken || state == resp_reader::state::broken;
  }
  return count;
}

void check_front(std::string_view bytes) {
  const auto front = look_at_front(bytes);
  if (front.what != resp_front::kind::bulk) return;
  resp_reader reader(64 * 1024);
  resp_value value;
  if (!reader.feed(bytes.substr(0, front.size)) || reader.next(value) != resp_reader::state::reply || value.type != resp_value::kind::bulk ||
      value.text != front.text || !reader.idle())
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_front(bytes);
  bool broken_whole = false;
  bool broken_pieces = false;
  const auto whole = replies(bytes, bytes.size() + 1, broken_whole);
  const auto pieces = replies(bytes, 1, broken_pieces);
  if (!broken_whole && !broken_pieces && whole != pieces) std::abort();
  return 0;
}
