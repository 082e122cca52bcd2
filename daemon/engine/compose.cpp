#include "daemon/engine/compose.hpp"

#include <algorithm>

namespace asidecar::engine {
namespace {

using core::milliseconds;

constexpr milliseconds revalidation_keep_min = std::chrono::seconds(60);

bool has_validators(const proto::record& r) noexcept { return !r.origin_etag.empty() || !r.last_modified.empty(); }

}  // namespace

composed compose(const loaded& answer, const core::policy& rules, const value_ptr& current, core::wall_time now,
                 core::microseconds took, double u, const tag_stamp& tags) {
  if (answer.what == loaded::outcome::not_modified && !current) return {};
  proto::record out;
  std::string etag;
  out.negative = answer.what == loaded::outcome::no_record;
  if (answer.what == loaded::outcome::not_modified) {
    out = current->content();
  } else if (!out.negative) {
    out.body = answer.body;
    out.content_type = answer.content_type;
    out.content_encoding = answer.content_encoding;
    out.origin_etag = answer.etag;
    out.last_modified = answer.last_modified;
    const bool strong = answer.etag.size() >= 2 && answer.etag.front() == '"';
    etag = strong ? answer.etag : proto::make_etag(answer.content_type, answer.body);
    out.etag = etag;
  }
  const milliseconds zero{0};
  const milliseconds ttl = out.negative ? rules.negative_ttl : rules.ttl;
  // What the origin lets nobody store is not fresh for the client either.
  const milliseconds fresh = !answer.storable ? zero : answer.fresh_for.value_or(core::jittered(ttl, rules.ttl_jitter, u));
  out.expired_at_ms = 0;
  out.tags_hash = tags.names;
  out.tag_versions = tags.versions;
  out.created_ms = (now - answer.age).time_since_epoch().count();
  out.fresh_ms = fresh.count();
  out.stale_while_revalidate_ms = (out.negative ? zero : answer.stale_while_revalidate.value_or(rules.stale_while_revalidate)).count();
  out.stale_if_error_ms = (out.negative ? zero : answer.stale_if_error.value_or(rules.stale_if_error)).count();
  out.load_time_us = static_cast<std::uint32_t>(std::clamp<std::int64_t>(took.count(), 0, UINT32_MAX));
  composed done{value::encode(out), false};
  const bool worth = fresh > zero || has_validators(out) || out.stale_while_revalidate_ms > 0 || out.stale_if_error_ms > 0;
  const bool wanted = out.negative ? rules.negative_ttl > zero : ttl > zero;
  done.storable = done.value && answer.storable && worth && wanted && out.body.size() <= rules.max_value &&
                  keep_for(done.value->content(), now) > zero;
  return done;
}

milliseconds keep_for(const proto::record& what, core::wall_time now) noexcept {
  const auto life = life_of(what);
  auto until = life.dead_at();
  if (has_validators(what)) until += std::max(life.fresh_for, revalidation_keep_min);
  return std::max(milliseconds(0), until - now);
}

}  // namespace asidecar::engine
