#include "proto/cache_status.hpp"

#include <charconv>

namespace asidecar::proto {
namespace {

std::string_view token(forward_reason reason) {
  switch (reason) {
    case forward_reason::none: break;
    case forward_reason::uri_miss: return "uri-miss";
    case forward_reason::stale: return "stale";
    case forward_reason::request: return "request";
    case forward_reason::bypass: return "bypass";
  }
  return {};
}

}  // namespace

void append_cache_status(std::string& out, const cache_status& status) {
  out.append("asidecar; ");
  if (status.forward == forward_reason::none) {
    out.append("hit");
  } else {
    out.append("fwd=").append(token(status.forward));
  }
  if (status.ttl) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, *status.ttl).ptr;
    out.append("; ttl=").append(digits, end);
  }
  if (status.stored) out.append("; stored");
  if (status.collapsed) out.append("; collapsed");
  if (!status.detail.empty()) out.append("; detail=").append(status.detail);
}

}  // namespace asidecar::proto
