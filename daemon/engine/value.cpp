#include "daemon/engine/value.hpp"

namespace asidecar::engine {

value_ptr value::decode(std::string bytes) {
  const std::shared_ptr<value> out(new value(std::move(bytes)));
  const auto view = proto::decode_record(out->bytes_);
  if (!view) return nullptr;
  out->view_ = *view;
  out->life_.created = core::wall_time(core::milliseconds(view->created_ms));
  out->life_.fresh_for = core::milliseconds(view->fresh_ms);
  out->life_.stale_while_revalidate = core::milliseconds(view->stale_while_revalidate_ms);
  out->life_.stale_if_error = core::milliseconds(view->stale_if_error_ms);
  out->life_.load_time = core::microseconds(view->load_time_us);
  out->life_.negative = view->negative;
  return out;
}

}  // namespace asidecar::engine
