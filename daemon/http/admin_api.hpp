// The admin API: health, metrics, the effective configuration.
#pragma once

#include <functional>
#include <memory>

#include "daemon/http/admission.hpp"
#include "daemon/http/session.hpp"

namespace asidecar::http {

class admin_api final : public request_handler {
 public:
  // What the API shows; each is called on the server's thread.
  struct sources {
    std::function<bool()> ready;
    std::function<std::string()> prometheus;
    std::function<std::string()> cache_metrics;
    std::function<void()> reset_cache_metrics;
    std::function<std::string()> configuration;  // redacted
    std::function<std::shared_ptr<const admission>()> who;
    std::function<task<answer>(std::string name)> warm;
    std::function<task<answer>(const request&, std::string_view path)> explain;
  };
  explicit admin_api(sources from) : from_(std::move(from)) {}

  std::optional<answer> refuse(const request& r, std::uint64_t& body_bytes_max) override;
  task<answer> handle(const request& r) override;

 private:
  sources from_;
};

}  // namespace asidecar::http
