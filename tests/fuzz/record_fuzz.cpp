// A record from Redis: no crash, and whatever decodes encodes to the same bytes.
#include <cstdint>
#include <cstdlib>

#include "proto/record.hpp"

using namespace asidecar::proto;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto r = decode_record(bytes); r && encode_record(*r) != bytes) std::abort();
  // The checksum keeps most inputs out, so the fields are fuzzed from the other side too.
  record made;
  made.negative = size % 2 == 1;
  made.created_ms = static_cast<std::int64_t>(size) * 1000;
  made.etag = bytes.substr(0, size / 3 % record_text_max);
  made.content_type = bytes.substr(0, size / 5 % record_text_max);
  made.body = bytes;
  const auto encoded = encode_record(made);
  const auto again = decode_record(encoded);
  if (!again || again->body != bytes || again->etag != made.etag || again->negative != made.negative) std::abort();
  return 0;
}
