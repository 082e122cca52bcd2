#include "daemon/http/admission.hpp"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>

#include "proto/text.hpp"

namespace asidecar::http {
namespace {

bool is_ip(std::string_view host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.size() >= text.size()) return false;
  std::copy(host.begin(), host.end(), text.begin());
  in6_addr space{};
  return inet_pton(bracketed ? AF_INET6 : AF_INET, text.data(), &space) == 1;
}

}  // namespace

// The scheme is not compared: TLS may end before us.
bool admission::same_origin(std::string_view origin, std::string_view authority) {
  const auto colon = origin.find("://");
  if (colon == std::string_view::npos) return false;  // "null", for one
  const auto scheme = origin.substr(0, colon);
  const bool tls = proto::iequals(scheme, "https");
  if (!tls && !proto::iequals(scheme, "http")) return false;
  std::string_view host, port, asked_host, asked_port;
  if (!proto::split_authority(origin.substr(colon + 3), host, port) || !proto::split_authority(authority, asked_host, asked_port)) return false;
  const std::string_view usual = tls ? "443" : "80";
  return proto::iequals(host, asked_host) && (port.empty() ? usual : port) == (asked_port.empty() ? usual : asked_port);
}

bool admission::known_host(std::string_view authority) const {
  std::string_view host;
  std::string_view port;
  if (!proto::split_authority(authority, host, port)) return false;
  if (host.ends_with('.')) host.remove_suffix(1);
  return is_ip(host) || proto::iequals(host, "localhost") ||
         std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& h) { return proto::iequals(h, host); });
}

bool admission::has_token(std::string_view authorization) const {
  constexpr std::string_view scheme = "bearer ";
  if (authorization.size() <= scheme.size() || !proto::iequals(authorization.substr(0, scheme.size()), scheme)) return false;
  const auto given = proto::trim(authorization.substr(scheme.size()));
  // Only the length can be learnt from the time this takes.
  return given.size() == token_.size() && CRYPTO_memcmp(given.data(), token_.data(), token_.size()) == 0;
}

std::optional<answer> admission::refuse(const proto::request_head& head, bool over_tcp, bool needs_token) const {
  namespace problems = proto::problems;
  if (over_tcp) {
    // An HTTP/1.0 request may come without Host; no browser sends one.
    const bool same = head.authority == head.host;
    if ((!head.authority.empty() && !known_host(head.authority)) || (!same && !head.host.empty() && !known_host(head.host)))
      return problem(problems::forbidden, "the Host is neither an IP address nor localhost nor in listen.hosts");
    if (proto::iequals(head.sec_fetch_site, "cross-site")) return problem(problems::forbidden, "cross-site requests are not served");
    if (head.origin.data() != nullptr && !same_origin(head.origin, head.authority)) return problem(problems::forbidden, "requests of a foreign Origin are not served");
  }
  if (!needs_token || token_.empty() || has_token(head.authorization)) return std::nullopt;
  auto a = problem(problems::unauthorized, "this call needs 'Authorization: Bearer <listen.token>'");
  a.add("WWW-Authenticate", "Bearer realm=\"asidecar\"");
  return a;
}

}  // namespace asidecar::http
