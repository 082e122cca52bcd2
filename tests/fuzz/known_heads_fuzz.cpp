// The fast way and the framing gate never disagree: what known_heads says of bytes, the gate says of them too.
//
// Input: a head to be learnt, a line of dashes, then what comes next on a connection.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "proto/known_heads.hpp"

using namespace asidecar::proto;

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void learn(known_heads& known, std::string_view bytes, bool context) {
  request_head head;
  std::size_t scanned = 0;
  if (parse_request_head(bytes, head, scanned).state != head_state::complete) return;
  for (int i = 0; i < 2; ++i) known.learn(bytes, head, context);
}

void compare(const known_heads& known, std::string_view bytes, bool context) {
  const auto found = known.find(bytes, context);
  if (found.like == nullptr) return;
  request_head gate;
  std::size_t scanned = 0;
  check(parse_request_head(bytes, gate, scanned).state == head_state::complete);
  check(gate.size == found.size && gate.target == "/v1/keys/" + std::string(found.key) && gate.fields == found.fields);
  check(gate.method == http_method::get && gate.http_1_1 && gate.keep_alive && !gate.chunked && !gate.content_length && gate.directives.none());
  check(gate.host == found.like->host && gate.authority == found.like->authority && gate.origin == found.like->origin &&
        gate.authorization == found.like->authorization && gate.sec_fetch_site == found.like->sec_fetch_site &&
        gate.has_if_none_match == found.like->has_if_none_match && !gate.expect_continue && !gate.unknown_expectation);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view between = "\n---\n";
  const auto at = bytes.find(between);
  known_heads known("/v1/keys/");
  const auto first = bytes.substr(0, at);
  learn(known, first, false);
  compare(known, first, false);
  check(known.find(first, true).like == nullptr);
  if (at == std::string_view::npos) return 0;
  const auto second = bytes.substr(at + between.size());
  compare(known, second, false);
  learn(known, second, false);
  compare(known, second, false);
  compare(known, first, false);
  return 0;
}
