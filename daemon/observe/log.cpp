#include "daemon/observe/log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "proto/text.hpp"

namespace asidecar::observe {
namespace {

constexpr std::size_t lines_max = 1024;  // waiting to be written; each has its place in memory from the start
constexpr std::size_t field_bytes_max = 300;

spdlog::level::level_enum level_of(engine::severity s) {
  switch (s) {
    case engine::severity::debug: return spdlog::level::debug;
    case engine::severity::info: return spdlog::level::info;
    case engine::severity::warn: return spdlog::level::warn;
    case engine::severity::error: break;
  }
  return spdlog::level::err;
}

class spdlog_log final : public event_log {
 public:
  explicit spdlog_log(const config::log_settings& settings)
      : json_(settings.format == config::log_format::json),
        pool_(std::make_shared<spdlog::details::thread_pool>(lines_max, 1)),
        logger_(std::make_shared<spdlog::async_logger>("asidecar", std::make_shared<spdlog::sinks::stderr_sink_mt>(), pool_,
                                                       spdlog::async_overflow_policy::overrun_oldest)) {
    logger_->set_pattern(json_ ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})" : "%Y-%m-%dT%H:%M:%S.%e %l %v");
    spdlog_log::set_level(settings.level);
    logger_->flush_on(spdlog::level::info);
  }

  // Same order as spdlog's own levels.
  void set_level(config::log_level level) override { logger_->set_level(static_cast<spdlog::level::level_enum>(level)); }

  void event(engine::severity level, std::string_view what, std::initializer_list<engine::event_field> fields) override {
    if (!logger_->should_log(level_of(level))) return;
    std::string line;
    if (json_) {
      line = R"("event":")";
      proto::append_json_escaped(line, what);
      line.push_back('"');
      for (const auto& f : fields) {
        line.append(",\"").append(f.name).append("\":\"");
        proto::append_json_escaped(line, f.value.substr(0, field_bytes_max));
        line.push_back('"');
      }
    } else {
      line = what;
      for (const auto& f : fields) line.append(" ").append(f.name).append("=\"").append(proto::escape_for_log(f.value, field_bytes_max)).append("\"");
    }
    logger_->log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
  }

 private:
  bool json_;
  std::shared_ptr<spdlog::details::thread_pool> pool_;
  std::shared_ptr<spdlog::async_logger> logger_;
};

}  // namespace

std::unique_ptr<event_log> make_log(const config::log_settings& settings) { return std::make_unique<spdlog_log>(settings); }

}  // namespace asidecar::observe
