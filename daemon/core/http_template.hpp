// Request templates of HTTP origins: "GET /products/{sku}?lang={lang}". Each placeholder's value is percent-encoded as part of
// one path segment or one query value, so a value can change neither the authority nor the path's shape.
// Immutable after parse: any thread.
#pragma once

#include <boost/variant2/variant.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/template_error.hpp"

namespace asidecar::core {

class http_template {
 public:
  static boost::variant2::variant<http_template, template_error> parse(std::string_view text);

  const std::string& method() const noexcept { return method_; }
  const std::vector<std::string>& params() const noexcept { return params_; }  // each distinct placeholder once

  // The request target for these values, one per param(). nullopt when a path segment would be "." or "..", which servers
  // resolve against the path however it is encoded.
  std::optional<std::string> target(const std::vector<std::string_view>& values) const;

 private:
  struct piece {
    std::string text;
    std::size_t param;
  };
  std::string method_;
  std::vector<piece> pieces_;
  std::vector<std::string> params_;
};

}  // namespace asidecar::core
