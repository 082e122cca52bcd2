// The data API: /v1/keys, /v1/mget, /v1/invalidate. One handler per worker thread; the configuration it serves can be replaced
// between requests, and requests under way finish on the one they began with.
#pragma once

#include <memory>

#include "daemon/engine/cache.hpp"
#include "daemon/http/admission.hpp"
#include "daemon/http/session.hpp"
#include "proto/known_heads.hpp"

namespace asidecar::http {

// What a request is served with. Immutable but for the cache's own doings.
struct data_service {
  std::shared_ptr<engine::cache> cache;
  std::shared_ptr<const admission> who;
  std::string prefix;  // of Redis names; empty without a store
  std::function<void()> appended;  // called after each write-behind
  bool raw_values = false;  // format: raw. Other apps name the values too, so keys are taken as they are spelled
};

class data_api final : public request_handler {
 public:
  data_api(runtime::worker& w, engine::route_stats& unrouted);

  void serve_with(std::shared_ptr<const data_service> service) {
    service_ = std::move(service);
    known_.forget();  // who may ask may have changed
  }

  void prefetch(std::string_view bytes) override;
  outcome answer_known(std::string_view bytes, bool over_tcp, std::string& out, continuation& then) override;
  outcome answer_now(const request& r, bool keep_alive, std::string& out, continuation& then) override;
  std::optional<answer> refuse(const request& r, std::uint64_t& body_bytes_max) override;
  task<answer> handle(const request& r) override;

  // For the admin API: what each tier holds of the key behind `path` in the target.
  task<answer> explain(const request& r, std::string_view path);
  // A read of `key`, as a GET without header fields would be; nullopt for a key without a route.
  std::optional<engine::read_request> request_for(const data_service& s, std::string_view key) const;
  std::shared_ptr<const data_service> service() const { return service_; }
  std::shared_ptr<engine::cache> current() const { return service_ ? service_->cache : nullptr; }

 private:
  using service_ptr = std::shared_ptr<const data_service>;
  struct found_route {
    const engine::route* route = nullptr;
    std::string_view key;                         // as the cache names it; what was asked for, or `respelled`
    std::unique_ptr<const std::string> respelled;  // see core::key_template
    core::captures captures;                      // views into `key`
    std::unique_ptr<answer> problem;  // no route, or a key that cannot be; seldom there, and coroutines hold this by value
  };
  struct plain_get;
  class l2_hit;
  outcome answer_plain(const plain_get& r, std::string& out, continuation& then);
  std::unique_ptr<under_way> begin_l2(const plain_get& r, continuation& then);
  static std::optional<engine::cache::seen_in_store> seen_by(under_way* attempt, const service_ptr& s, std::string_view key);
  static std::unique_ptr<answer> refused_key(const data_service& s, std::string_view key);  // whatever its route is
  found_route find_route(const data_service& s, std::string_view key) const;
  engine::read_request read_request_for(const found_route& found, const proto::request_head& head) const;

  task<answer> handle_key(service_ptr s, const request& r);
  task<answer> get_key(service_ptr s, const request& r, const found_route& found);
  task<answer> put_key(service_ptr s, const request& r, const found_route& found);
  task<answer> delete_key(service_ptr s, const found_route& found);
  static std::optional<answer> bind_params(const found_route& found, const engine::writer& by, std::string_view body, std::string_view write_id,
                                           std::vector<std::optional<std::string>>& out);
  task<answer> write_record(service_ptr s, const request& r);
  task<answer> write_behind(service_ptr s, const found_route& found, const engine::writer& by, engine::write_request what, bool removes, std::string key);
  static answer error_answer(const engine::load_error& e);
  task<answer> mget(service_ptr s, const request& r);
  task<answer> invalidate(service_ptr s, const request& r);
  answer answer_for(const proto::request_head& head, const engine::read_answer& got) const;
  void count(engine::route_stats& stats, engine::read_result result, runtime::steady_time started);

  struct gathering;
  task<std::vector<std::string>> gather(service_ptr s, std::span<const std::string> keys, const proto::request_head& head);
  task<void> gather_one(std::shared_ptr<gathering> all, std::size_t i, engine::read_request asked);

  runtime::worker& worker_;
  engine::route_stats& unrouted_;
  service_ptr service_;
  proto::known_heads known_;
  std::array<std::uint64_t, runtime::poller::group_size> awaited_{};  // hashes of keys that are asked for soon
  std::size_t awaited_count_ = 0;
  std::string l2_answer_;  // kept for its room
  date_line date_;
};

}  // namespace asidecar::http
