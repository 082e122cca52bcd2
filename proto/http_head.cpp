#include "proto/http_head.hpp"

#include <algorithm>
#include <array>

#include "proto/text.hpp"

namespace asidecar::proto {
namespace {

enum char_class : std::uint8_t { token_char = 1, value_char = 2, target_char = 4, host_char = 8, digit_char = 16 };

// RFC 9110: tchar; field-value bytes (VCHAR, SP, HTAB, obs-text); target bytes (visible, no '#', raw UTF-8 tolerated).
constexpr std::array<std::uint8_t, 256> classes = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    const bool visible = c > 0x20 && c != 0x7F;
    if (visible || c == ' ' || c == '\t') table[static_cast<std::size_t>(c)] |= value_char;
    if (visible && c != '#') table[static_cast<std::size_t>(c)] |= target_char;
  }
  for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    table[static_cast<unsigned char>(c)] |= token_char;
  for (const char c : std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%[]:"))
    table[static_cast<unsigned char>(c)] |= host_char;
  for (const char c : std::string_view("0123456789")) table[static_cast<unsigned char>(c)] |= digit_char;
  return table;
}();

bool all_of(std::string_view text, char_class wanted) noexcept {
  std::uint8_t seen = wanted;
  for (const char c : text) seen &= classes[static_cast<unsigned char>(c)];
  return seen != 0;
}

constexpr head_result complete{head_state::complete, {}};
constexpr head_result bad(std::string_view reason) { return {head_state::bad, reason}; }

struct method_name {
  std::string_view text;
  http_method method;
};
constexpr std::array<method_name, 9> methods{{{"GET", http_method::get},
                                              {"HEAD", http_method::head},
                                              {"PUT", http_method::put},
                                              {"POST", http_method::post},
                                              {"DELETE", http_method::delete_},
                                              {"OPTIONS", http_method::options},
                                              {"PATCH", http_method::patch},
                                              {"TRACE", http_method::trace},
                                              {"CONNECT", http_method::connect}}};

head_result parse_target(std::string_view target, request_head& out) {
  if (target.empty() || !all_of(target, target_char)) return bad("the request target holds a character that must be percent-encoded");
  if (target.front() != '/') {
    constexpr std::string_view scheme = "http://";
    if (target.size() <= scheme.size() || !iequals(target.substr(0, scheme.size()), scheme))
      return bad("the request target must begin with '/'");
    target.remove_prefix(scheme.size());
    const auto end = target.find_first_of("/?");
    out.authority = target.substr(0, end);
    std::string_view host;
    std::string_view port;
    if (!split_authority(out.authority, host, port)) return bad("the request target's authority is not host[:port]");
    target = end == std::string_view::npos ? std::string_view("/") : target.substr(end);
    if (target.front() != '/') return bad("the request target must begin with '/'");
  }
  out.target = target;
  return complete;
}

head_result parse_request_line(std::string_view line, request_head& out) {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return bad("the request line is not 'METHOD target HTTP/1.1'");
  const auto method = line.substr(0, first);
  const auto* known = std::find_if(methods.begin(), methods.end(), [&](const auto& m) { return m.text == method; });
  if (known == methods.end()) return bad("the request method is not known");
  out.method = known->method;
  const auto version = line.substr(last + 1);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return bad("the protocol version must be HTTP/1.1 or HTTP/1.0");
  out.http_1_1 = version == "HTTP/1.1";
  out.keep_alive = out.http_1_1;
  const auto target = line.substr(first + 1, last - first - 1);
  if (target.size() > target_bytes_max) return {head_state::target_too_long, {}};
  return parse_target(target, out);
}

void parse_connection(std::string_view value, request_head& out) {
  while (!value.empty()) {
    const auto comma = std::min(value.find(','), value.size());
    const auto option = trim(value.substr(0, comma));
    if (iequals(option, "close")) out.keep_alive = false;
    else if (iequals(option, "keep-alive") && !out.http_1_1) out.keep_alive = true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

// An absent slot has no data(); an empty value has.
head_result set_once(std::string_view& slot, std::string_view value, std::string_view reason) {
  if (slot.data() != nullptr) return bad(reason);
  slot = value;
  return complete;
}

// By length first: most fields of a request are none of ours, and cost one comparison.
head_result take_field(std::string_view name, std::string_view value, request_head& out) {
  switch (name.size()) {
    case 4:
      if (iequals(name, "host")) return set_once(out.host, value, "Host is repeated");
      break;
    case 6:
      if (iequals(name, "origin")) return set_once(out.origin, value, "Origin is repeated");
      if (!iequals(name, "expect")) break;
      (iequals(value, "100-continue") ? out.expect_continue : out.unknown_expectation) = true;
      break;
    case 10:
      if (iequals(name, "connection")) parse_connection(value, out);
      break;
    case 12:
      if (iequals(name, "content-type")) return set_once(out.content_type, value, "Content-Type is repeated");
      break;
    case 13:
      if (iequals(name, "cache-control")) parse_cache_control(value, out.directives);
      else if (iequals(name, "authorization")) return set_once(out.authorization, value, "Authorization is repeated");
      else if (iequals(name, "if-none-match")) out.has_if_none_match = true;
      break;
    case 14:
      if (iequals(name, "sec-fetch-site")) return set_once(out.sec_fetch_site, value, "Sec-Fetch-Site is repeated");
      if (!iequals(name, "content-length")) break;
      if (out.content_length) return bad("Content-Length is repeated");
      out.content_length = parse_decimal(value);
      if (!out.content_length) return bad("Content-Length is not a number");
      break;
    case 17:
      if (!iequals(name, "transfer-encoding")) break;
      if (out.chunked) return bad("Transfer-Encoding is repeated");
      if (!iequals(value, "chunked")) return bad("Transfer-Encoding other than chunked is not understood");
      out.chunked = true;
      break;
    default: break;
  }
  return complete;
}

head_result parse_fields(std::string_view lines, request_head& out) {
  std::size_t count = 0;
  while (!lines.empty()) {
    const auto end = lines.find("\r\n");
    const auto line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    if (++count > fields_max) return {head_state::too_large, {}};
    if (line.front() == ' ' || line.front() == '\t') return bad("a folded header line (obs-fold) is not allowed");
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || !all_of(line.substr(0, colon), token_char))
      return bad("a header line is not 'name: value'");
    const auto value = trim(line.substr(colon + 1));
    if (!all_of(value, value_char)) return bad("a header value holds a control character");
    if (const auto result = take_field(line.substr(0, colon), value, out); result.state != head_state::complete) return result;
  }
  const bool has_host = out.host.data() != nullptr;
  if (out.http_1_1 && !has_host) return bad("Host is missing");
  if (out.chunked && !out.http_1_1) return bad("Transfer-Encoding is not allowed in HTTP/1.0");
  if (out.chunked && out.content_length) return bad("Transfer-Encoding and Content-Length together");
  if (has_host) {
    std::string_view host;
    std::string_view port;
    if (!split_authority(out.host, host, port)) return bad("Host is not host[:port]");
    if (out.authority.empty()) out.authority = out.host;
  }
  return complete;
}

// The end of the head in bytes[from..]; npos when it is not there yet. Any LF without its CR is reported through `bare_lf`.
std::size_t find_head_end(std::string_view bytes, std::size_t from, bool& bare_lf) noexcept {
  for (auto lf = bytes.find('\n', from); lf != std::string_view::npos; lf = bytes.find('\n', lf + 1)) {
    if (lf == 0 || bytes[lf - 1] != '\r') {
      bare_lf = true;
      return std::string_view::npos;
    }
    if (lf >= 3 && bytes[lf - 2] == '\n') return lf + 1;
  }
  return std::string_view::npos;
}

}  // namespace

head_result parse_request_head(std::string_view bytes, request_head& out, std::size_t& scanned) {
  if (bytes.empty()) return {head_state::incomplete, {}};
  // A head begins with a method; anything else (a TLS hello, an empty line) need not be waited for.
  if (bytes.front() < 'A' || bytes.front() > 'Z') return bad("the request line is not 'METHOD target HTTP/1.1'");

  bool bare_lf = false;
  const auto end = find_head_end(bytes.substr(0, head_bytes_max), scanned, bare_lf);
  if (bare_lf) return bad("a line does not end in CRLF");
  if (end == std::string_view::npos) {
    scanned = std::min(bytes.size(), head_bytes_max);
    const bool line_ended = bytes.substr(0, scanned).find("\r\n") != std::string_view::npos;
    if (!line_ended && scanned > target_bytes_max + 32) return {head_state::target_too_long, {}};
    return {bytes.size() < head_bytes_max ? head_state::incomplete : head_state::too_large, {}};
  }
  scanned = 0;
  out = {};
  out.size = end;
  const auto line_end = bytes.find("\r\n");
  if (const auto line = parse_request_line(bytes.substr(0, line_end), out); line.state != head_state::complete) return line;
  out.fields = bytes.substr(line_end + 2, end - line_end - 4);
  return parse_fields(out.fields, out);
}

bool next_field(std::string_view& fields, std::string_view& name, std::string_view& value) noexcept {
  const auto end = fields.find("\r\n");
  if (end == std::string_view::npos) return false;
  const auto line = fields.substr(0, end);
  fields.remove_prefix(end + 2);
  const auto colon = line.find(':');
  name = line.substr(0, colon);
  value = colon == std::string_view::npos ? std::string_view() : trim(line.substr(colon + 1));
  return true;
}

bool split_authority(std::string_view authority, std::string_view& host, std::string_view& port) noexcept {
  port = {};
  std::size_t host_end = 0;
  if (authority.starts_with('[')) {
    host_end = authority.find(']');
    if (host_end == std::string_view::npos) return false;
    ++host_end;
  } else {
    host_end = std::min(authority.find(':'), authority.size());
  }
  host = authority.substr(0, host_end);
  const auto rest = authority.substr(host_end);
  if (!rest.empty()) {
    port = rest.substr(1);
    if (rest.front() != ':' || !all_of(port, digit_char) || port.size() > 5) return false;
  }
  return !host.empty() && all_of(host, host_char);
}

}  // namespace asidecar::proto
