#include "daemon/runtime/tls.hpp"

#include <boost/asio/ip/address.hpp>

namespace asidecar::runtime {

tls_client::tls_client(const tls_files& files) : context(asio::ssl::context::tls_client) {
  boost::system::error_code ec;
  const auto failed = [&](const char* what, const std::string& file) {
    if (ec && trouble.empty()) trouble = std::string(what) + (file.empty() ? "" : " in " + file) + " cannot be read: " + ec.message();
  };
  context.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, ec);
  context.set_verify_mode(asio::ssl::verify_peer, ec);
  if (files.ca.empty())
    context.set_default_verify_paths(ec);
  else
    context.load_verify_file(files.ca, ec);
  failed("the trusted certificates", files.ca);
  if (files.cert.empty()) return;
  context.use_certificate_chain_file(files.cert, ec);
  failed("the certificate", files.cert);
  // An encrypted key must not make OpenSSL ask a terminal for its password.
  context.set_password_callback([](std::size_t, asio::ssl::context::password_purpose) { return std::string(); }, ec);
  context.use_private_key_file(files.key, asio::ssl::context::pem, ec);
  failed("the private key", files.key);
}

void ask_for_host(SSL* ssl, const std::string& host) {
  boost::system::error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(host.c_str()));
}

}  // namespace asidecar::runtime
