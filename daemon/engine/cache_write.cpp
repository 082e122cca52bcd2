// Writes of the origin, and what they do to the cache.
//
// invalidate: the origin first, then the cache. A load that began before is fenced by the deletion of its lock.
// through: before the origin is written, the writer takes the fill lock from whoever has it and removes the value; afterwards it
// stores what the origin returned, only if the lock is still its own. If it is not, another writer has come since, and which of
// the two the origin applied last is not known: the value is removed. So the older of two values never stays.
#include <algorithm>

#include "daemon/engine/cache.hpp"
#include "daemon/engine/compose.hpp"

namespace asidecar::engine {
namespace {

using progress = load_error::progress;

// Whether the failed write may have been applied nevertheless, or may still be.
bool in_doubt(const load_error& e) noexcept { return e.got == progress::unanswered || e.got == progress::ended; }

}  // namespace

task<cache::write_answer> cache::write(read_request to, writer& by, write_request what, write_strategy how) {
  write_answer out;
  if (store_ && !store_->up()) {
    out.store_down = true;
    co_return out;
  }
  if (how == write_strategy::through && store_) co_return co_await write_through(std::move(to), by, std::move(what));
  auto outcome = co_await by.write(std::move(what));
  if (auto* error = std::get_if<load_error>(&outcome)) out.error = std::move(*error);
  else out.result = std::move(std::get<written>(outcome));
  if (out.error && !in_doubt(*out.error)) co_return out;
  co_await invalidate_written(to, out);
  co_return out;
}

task<cache::write_answer> cache::write_through(read_request to, writer& by, write_request what) {
  const route& r = *to.to;
  write_answer out;
  to.tags = tags_of(to);
  const auto token = worker_.random->token();
  const std::vector<std::string> keys{to.key};
  shared_.forget(keys);
  tag_stamp tags;
  if (!to.tags.empty()) {
    auto versions = co_await store_->tag_versions(item_of(to));
    if (versions) tags = {proto::hash_tags(to.tags), std::move(*versions)};
    out.store_down = !versions;
  }
  if (!out.store_down) {
    const bool seized = co_await store_->seize(to.key, token);
    out.store_down = !seized;
  }
  if (out.store_down) co_return out;
  const std::shared_ptr<runtime::alarm> stop = worker_.time->make_alarm();
  worker_.tasks.spawn(keep_lock(shared_from_this(), to.key, token, stop));
  const auto started = worker_.time->now();
  auto outcome = co_await by.write(std::move(what));
  stop->ring();
  const auto took = std::chrono::duration_cast<core::microseconds>(worker_.time->now() - started);
  if (auto* error = std::get_if<load_error>(&outcome)) out.error = std::move(*error);
  else out.result = std::move(std::get<written>(outcome));
  if (out.error && !in_doubt(*out.error)) {
    co_await store_->release(to.key, token);
    shared_.forget(keys);
    co_return out;
  }
  bool kept = false;
  if (out.result.body) {
    loaded given;
    given.body = *out.result.body;
    given.content_type = out.result.content_type.empty() ? r.content_type : out.result.content_type;
    if (!store_->keeps_metadata()) given.content_type = r.content_type;
    const auto now = worker_.time->wall_now();
    const auto made = compose(given, r.rules, nullptr, now, took, worker_.random->unit(), tags);
    if (made.storable) {
      const auto filled = co_await store_->fill(item_of(to), token, made.value, now);
      kept = filled == core::fill_outcome::stored;
    }
  }
  if (!kept || !r.forward_headers.empty()) {
    co_await invalidate_written(to, out);
  }
  if (kept) remember(recent_invalidations::kind::key, keys, mode::purge);  // a Redis without it would have the value from before
  shared_.forget(keys);
  co_return out;
}

task<cache::count> cache::invalidate_record(std::string key, bool variants) {
  if (variants) {
    const auto all = co_await invalidate_variants(std::vector<std::string>(1, key), mode::purge);
    if (!all) co_return std::nullopt;
  }
  co_return co_await invalidate(std::vector<std::string>(1, key), mode::purge);
}

// After a write that may have changed the record.
task<void> cache::invalidate_written(const read_request& to, write_answer& out) {
  const bool variants = !to.to->forward_headers.empty();
  const auto removed = co_await invalidate_record(to.key, variants);
  out.unconfirmed = !removed;
  if (!doubts_) co_return;
  const auto now = worker_.time->now();
  if (out.error && out.error->got == progress::unanswered) doubts_->add(to.key, variants, now + terms_.longest_write);
  else if (out.unconfirmed) doubts_->add(to.key, variants, now);
}

task<bool> cache::forget(const journaled_write& w) {
  const auto r = std::find_if(routes.begin(), routes.end(), [&](const route& one) { return one.name == w.route; });
  const auto removed = co_await invalidate_record(w.key, r != routes.end() && !r->forward_headers.empty());
  co_return removed.has_value();
}

task<cache::applied> cache::apply(const journaled_write& w, bool repeated) {
  applied out;
  out.what = applied::outcome::refused;
  const auto r = std::find_if(routes.begin(), routes.end(), [&](const route& one) { return one.name == w.route; });
  auto* by = r == routes.end() ? nullptr : w.removes ? r->records.remove.get() : r->records.put.get();
  if (by == nullptr) {
    out.what = applied::outcome::failed;  // during a roll-out another instance may know it
    out.why = "there is no such route any more, or it cannot be written";
    co_return out;
  }
  write_request what;
  for (const auto& name : by->params()) {
    const auto at = std::find_if(w.params.begin(), w.params.end(), [&](const auto& p) { return p.first == name; });
    if (at != w.params.end()) {
      what.params.push_back(at->second);
    } else if (name == "write.id") {
      what.params.emplace_back(w.id);
    } else {
      out.what = applied::outcome::failed;
      out.why = "the statement has changed: there is no value for {" + name + "}";
      co_return out;
    }
  }
  what.body = w.body;
  what.content_type = w.content_type;
  what.deadline = worker_.time->now() + r->rules.timeout;
  const auto outcome = co_await by->write(std::move(what));
  const auto* error = std::get_if<load_error>(&outcome);
  out.may_go_on = error != nullptr && error->got == progress::unanswered;
  const bool unseen = error != nullptr && (error->got == progress::not_asked || error->got == progress::not_sent);
  if (unseen && error->what != load_error::kind::bad_key) {
    out.what = applied::outcome::away;
    out.why = error->detail;
    co_return out;
  }
  // Whatever came of it, and of earlier attempts: no value from before stays.
  const bool removed = co_await forget(w);
  if (!removed) {
    out.what = applied::outcome::away;
    out.why = "Redis did not confirm the invalidation";
  } else if (error != nullptr) {
    const bool for_good = (error->got == progress::refused && !error->may_pass) || error->what == load_error::kind::bad_key;
    out.what = for_good ? applied::outcome::refused : applied::outcome::failed;
    out.why = error->detail;
  } else if (!std::get<written>(outcome).touched && !repeated) {
    out.why = "there is no such record";
  } else {
    out.what = applied::outcome::done;  // touching nothing the second time may mean that the first was enough
  }
  co_return out;
}

}  // namespace asidecar::engine
