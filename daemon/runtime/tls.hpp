// TLS as a client. Peers are always verified: their certificate must come from who is trusted, be in date, and name the host that was asked for.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <array>
#include <cstdint>
#include <string>

namespace asidecar::runtime {

namespace asio = boost::asio;

// Paths of PEM files.
struct tls_files {
  std::string ca;    // whom to trust; empty: the system's
  std::string cert;  // what to show a server that asks who we are, with its chain; empty: nothing
  std::string key;   // of cert; not encrypted
};

struct tls_client {
  explicit tls_client(const tls_files& files);
  asio::ssl::context context;  // TLS 1.2 and later
  std::string trouble;         // why it cannot be used; empty: it can

  bool outdated() const { return !trouble.empty() || times_of(files_) != read_; }  // to be read again

 private:
  using times = std::array<std::int64_t, 3>;
  static times times_of(const tls_files& files);
  tls_files files_;
  times read_;
};

// The name to ask for (SNI, RFC 6066: names only) and to find in the certificate. `ssl` is the stream's handle.
void ask_for_host(SSL* ssl, const std::string& host);
template <class Stream>
void expect_host(Stream& stream, const std::string& host) {
  ask_for_host(stream.native_handle(), host);
  boost::system::error_code ignored;
  stream.set_verify_callback(asio::ssl::host_name_verification(host), ignored);
}

}  // namespace asidecar::runtime
