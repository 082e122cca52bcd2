// A record from Redis: no crash, and whatever decodes encodes to the same bytes; a compressed body never inflates beyond its bounds.
// Also the messages between instances.
#include <cstdint>
#include <cstdlib>

#include "proto/backplane_message.hpp"
#include "proto/record.hpp"

using namespace asidecar::proto;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto r = decode_record(bytes); r && !r->compressed && encode_record(*r) != bytes) std::abort();
  // The checksum keeps most inputs out, so the fields are fuzzed from the other side too.
  record made;
  made.negative = size % 2 == 1;
  made.created_ms = static_cast<std::int64_t>(size) * 1000;
  made.expired_at_ms = size % 7 == 0 ? made.created_ms : 0;
  made.tag_versions = bytes.substr(0, size / tag_version_bytes % record_tags_max * tag_version_bytes);
  made.etag = bytes.substr(0, size / 3 % record_text_max);
  made.content_type = bytes.substr(0, size / 5 % record_text_max);
  made.body = bytes;
  const auto encoded = encode_record(made, size % 3 == 0 ? 64 : 0);
  auto again = decode_record(encoded);
  if (!again || again->etag != made.etag || again->negative != made.negative || again->tag_versions != made.tag_versions) std::abort();
  if (again->compressed) {
    std::string plain;
    if (!append_inflated(plain, *again, bytes.size()) || plain != bytes) std::abort();
  } else if (again->body != bytes) {
    std::abort();
  }
  // The input as a compressed body of any claimed size.
  again->compressed = true;
  again->body = bytes;
  again->body_size = static_cast<std::uint32_t>(size * (size % 300));
  std::string plain;
  if (append_inflated(plain, *again, 1 << 20) ? plain.size() != again->body_size : !plain.empty()) std::abort();
  if (const auto m = decode_backplane_message(bytes, "cache:"); m && decode_backplane_message(encode_backplane_message(*m, "cache:"), "cache:")->text != m->text) std::abort();
  return 0;
}
