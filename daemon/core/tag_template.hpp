// Tags of a route: "people", "user:{id}". Placeholders are those of the key. Immutable after parse: any thread.
#pragma once

#include <boost/variant2/variant.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/template_error.hpp"

namespace asidecar::core {

class tag_template {
 public:
  static boost::variant2::variant<tag_template, template_error> parse(std::string_view text);

  const std::vector<std::string>& params() const noexcept { return params_; }  // in order, each as often as it is used
  std::string format(const std::vector<std::string_view>& values) const;       // one per param()

 private:
  std::vector<std::string> literals_;  // one more than params: what stands before each, and at the end
  std::vector<std::string> params_;
};

}  // namespace asidecar::core
