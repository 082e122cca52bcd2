#include "daemon/engine/value.hpp"

#include <algorithm>

namespace asidecar::engine {

core::lifetime life_of(const proto::record& r) noexcept {
  core::lifetime life;
  life.created = core::wall_time(core::milliseconds(r.created_ms));
  life.fresh_for = core::milliseconds(r.fresh_ms);
  if (r.expired_at_ms != 0)  // marked stale before its time
    life.fresh_for = std::clamp(core::milliseconds(r.expired_at_ms - r.created_ms), core::milliseconds(0), life.fresh_for);
  life.stale_while_revalidate = core::milliseconds(r.stale_while_revalidate_ms);
  life.stale_if_error = core::milliseconds(r.stale_if_error_ms);
  life.load_time = core::microseconds(r.load_time_us);
  life.negative = r.negative;
  return life;
}

void value::look_at(const proto::record& view) {
  view_ = view;
  life_ = life_of(view);
}

value_ptr value::decode(std::string bytes) {
  const std::shared_ptr<value> out(new value);
  out->own_ = std::move(bytes);
  auto view = proto::decode_record(out->own_);
  if (view && view->compressed) {
    if (!proto::append_inflated(out->inflated_, *view, body_bytes_max)) return nullptr;
    view->compressed = false;
    view->body = out->inflated_;
  }
  if (!view) return nullptr;
  out->look_at(*view);
  return out;
}

value_ptr value::view(const proto::record& content, std::shared_ptr<const void> keeper) {
  const std::shared_ptr<value> out(new value);
  out->keeper_ = std::move(keeper);
  out->look_at(content);
  return out;
}

}  // namespace asidecar::engine
