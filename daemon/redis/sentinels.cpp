#include "daemon/redis/sentinels.hpp"

#include <algorithm>

#include "proto/text.hpp"

namespace asidecar::redis {
namespace {

constexpr std::chrono::seconds ask_every{1};
constexpr std::chrono::milliseconds ask_again_at_start{5};

std::string text_of(const config::host_port& at) {
  return (at.host.find(':') == std::string::npos ? at.host : '[' + at.host + ']') + ':' + std::to_string(at.port);
}

}  // namespace

sentinels::sentinels(runtime::worker& home, const connection::terms& like, const std::string& password, engine::event_sink& events)
    : home_(home), master_name_(like.url.master), events_(events), stopped_(home.time->make_alarm()) {
  for (const auto& at : like.url.sentinels) {
    connection::terms t = like;
    t.url = {};
    t.url.host = at.host;
    t.url.port = at.port;
    t.url.password = password;
    t.name = "sentinel " + text_of(at);
    t.finder = nullptr;
    connections_.push_back(std::make_shared<connection>(home, std::move(t), stats_, events));
  }
}

void sentinels::start() {
  for (const auto& c : connections_) c->start();
  home_.tasks.spawn(ask_on(shared_from_this()));
}

void sentinels::stop() {
  stopping_ = true;
  for (const auto& c : connections_) c->stop();
  stopped_->ring();
}

std::optional<config::host_port> sentinels::where() const {
  const std::lock_guard lock(mutex_);
  return known_ ? std::optional(known_->master) : std::nullopt;
}

std::string sentinels::trouble() const { return "no Sentinel says where the master '" + master_name_ + "' is"; }

void sentinels::tell_of_moves(std::weak_ptr<connection> who) {
  const std::lock_guard lock(mutex_);
  std::erase_if(told_, [](const auto& c) { return c.expired(); });
  told_.push_back(std::move(who));
}

task<void> sentinels::ask_on([[maybe_unused]] std::shared_ptr<sentinels> self) {
  while (!stopping_) {
    std::optional<answer> newest;
    std::size_t answered = 0;
    bool one_is_up = false;
    for (const auto& c : connections_) {
      if (!c->up()) continue;
      one_is_up = true;
      const auto a = co_await ask(*c);
      if (!a) continue;
      ++answered;
      if (!newest || a->epoch > newest->epoch) newest = a;
    }
    // A Sentinel that was cut off may still name the master of old; but a majority that begins anew, with small numbers, is right.
    const bool most = answered > connections_.size() / 2;
    const bool first = !known_;  // written on this thread only
    if (newest && (first || most || newest->epoch >= known_->epoch)) believe(*newest);
    if (!newest && one_is_up && !std::exchange(said_unknown_, true))
      events_.event(engine::severity::warn, "a Sentinel knows no such master", {{"master", master_name_}});
    if (newest) said_unknown_ = false;
    const auto pause = known_ || said_unknown_ ? std::chrono::milliseconds(ask_every) : ask_again_at_start;
    if (!stopping_) co_await stopped_->wait_until(home_.time->now() + pause);
  }
}

// The reply is a flat list of names and values.
task<std::optional<sentinels::answer>> sentinels::ask(connection& c) {
  auto words = words_of("SENTINEL", "MASTER", master_name_);
  const auto said = co_await c.run(std::move(words));
  if (!said || said->is_error()) co_return std::nullopt;
  const auto value_of = [&](std::string_view name) -> std::string_view {
    for (std::size_t i = 0; i + 1 < said->elements.size(); i += 2)
      if (said->elements[i].text == name) return said->elements[i + 1].text;
    return {};
  };
  const auto port = proto::parse_decimal(value_of("port"));
  const auto epoch = proto::parse_decimal(value_of("config-epoch"));
  answer out{{std::string(value_of("ip")), 0}, epoch.value_or(0)};
  if (out.master.host.empty() || !port || *port == 0 || *port > 65535) co_return std::nullopt;
  out.master.port = static_cast<std::uint16_t>(*port);
  co_return out;
}

void sentinels::believe(const answer& a) {
  std::vector<std::weak_ptr<connection>> told;
  {
    const std::lock_guard lock(mutex_);
    const bool moved = !known_ || known_->master != a.master;
    known_ = a;
    if (!moved) return;
    told = told_;
  }
  events_.event(engine::severity::info, "redis master", {{"name", master_name_}, {"at", text_of(a.master)}});
  for (const auto& weak : told)
    if (const auto c = weak.lock()) c->server_moved();
}

}  // namespace asidecar::redis
