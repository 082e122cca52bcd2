#include "daemon/runtime/tls.hpp"

#include <sys/stat.h>

#include <boost/asio/ip/address.hpp>

namespace asidecar::runtime {

tls_client::times tls_client::times_of(const tls_files& files) {
  times out{};
  auto at = out.begin();
  for (const auto* const file : {&files.ca, &files.cert, &files.key}) {
    struct stat found {};
    if (::stat(file->c_str(), &found) == 0) *at = std::int64_t(found.st_mtim.tv_sec) * 1'000'000'000 + found.st_mtim.tv_nsec;
    ++at;
  }
  return out;
}

tls_client::tls_client(const tls_files& files) : context(asio::ssl::context::tls_client), files_(files), read_(times_of(files)) {
  boost::system::error_code ec;
  const auto note_failure = [&](const char* what, const std::string& file) {
    if (ec && trouble.empty()) trouble = std::string(what) + (file.empty() ? "" : " in " + file) + " cannot be read: " + ec.message();
  };
  context.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, ec);
  context.set_verify_mode(asio::ssl::verify_peer, ec);
  if (files.ca.empty())
    context.set_default_verify_paths(ec);
  else
    context.load_verify_file(files.ca, ec);
  note_failure("the trusted certificates", files.ca);
  if (files.cert.empty()) return;
  context.use_certificate_chain_file(files.cert, ec);
  note_failure("the certificate", files.cert);
  // An encrypted key must not make OpenSSL ask a terminal for its password.
  context.set_password_callback([](std::size_t, asio::ssl::context::password_purpose) { return std::string(); }, ec);
  context.use_private_key_file(files.key, asio::ssl::context::pem, ec);
  note_failure("the private key", files.key);
}

void ask_for_host(SSL* ssl, const std::string& host) {
  boost::system::error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(host.c_str()));
}

}  // namespace asidecar::runtime
