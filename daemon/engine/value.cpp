#include "daemon/engine/value.hpp"

#include <algorithm>

namespace asidecar::engine {
namespace {

constexpr std::uint64_t body_bytes_max = std::uint64_t(1) << 30;  // the largest max_value there can be, and more

}  // namespace

void value::look_at(std::string_view bytes, const proto::record& view) {
  bytes_ = bytes;
  view_ = view;
  life_.created = core::wall_time(core::milliseconds(view.created_ms));
  life_.fresh_for = core::milliseconds(view.fresh_ms);
  if (view.expired_at_ms != 0)  // marked stale before its time
    life_.fresh_for = std::clamp(core::milliseconds(view.expired_at_ms - view.created_ms), core::milliseconds(0), life_.fresh_for);
  life_.stale_while_revalidate = core::milliseconds(view.stale_while_revalidate_ms);
  life_.stale_if_error = core::milliseconds(view.stale_if_error_ms);
  life_.load_time = core::microseconds(view.load_time_us);
  life_.negative = view.negative;
}

value_ptr value::decode(std::string bytes) {
  const std::shared_ptr<value> out(new value);
  out->own_ = std::move(bytes);
  auto view = proto::decode_record(out->own_);
  if (view && view->compressed) {
    auto plain = proto::inflate_record(*view, body_bytes_max);
    if (!plain) return nullptr;
    out->own_ = std::move(*plain);
    view = proto::decode_record(out->own_);
  }
  if (!view) return nullptr;
  out->look_at(out->own_, *view);
  return out;
}

value_ptr value::view(std::string_view bytes, std::shared_ptr<const void> keeper) {
  const std::shared_ptr<value> out(new value);
  out->keeper_ = std::move(keeper);
  out->look_at(bytes, proto::view_record(bytes));
  return out;
}

}  // namespace asidecar::engine
