#include "daemon/engine/value.hpp"

#include <algorithm>

namespace asidecar::engine {
namespace {

constexpr std::uint64_t body_bytes_max = std::uint64_t(1) << 30;  // the largest max_value there can be, and more

}  // namespace

value_ptr value::decode(std::string bytes) {
  auto view = proto::decode_record(bytes);
  if (view && view->compressed) {
    auto plain = proto::inflate_record(*view, body_bytes_max);
    if (!plain) return nullptr;
    bytes = std::move(*plain);
    view = proto::decode_record(bytes);
  }
  if (!view) return nullptr;
  // A record is longer than what a string holds in itself, so moving it leaves the bytes, and the views, where they are.
  const char* const before = bytes.data();
  const std::shared_ptr<value> out(new value(std::move(bytes)));
  if (out->bytes_.data() != before) view = proto::decode_record(out->bytes_);
  out->view_ = *view;
  auto& life = out->life_;
  life.created = core::wall_time(core::milliseconds(view->created_ms));
  life.fresh_for = core::milliseconds(view->fresh_ms);
  if (view->expired_at_ms != 0)  // marked stale before its time
    life.fresh_for = std::clamp(core::milliseconds(view->expired_at_ms - view->created_ms), core::milliseconds(0), life.fresh_for);
  life.stale_while_revalidate = core::milliseconds(view->stale_while_revalidate_ms);
  life.stale_if_error = core::milliseconds(view->stale_if_error_ms);
  life.load_time = core::microseconds(view->load_time_us);
  life.negative = view->negative;
  return out;
}

}  // namespace asidecar::engine
