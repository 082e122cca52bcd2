#include "daemon/redis/sentinels.hpp"

#include <algorithm>

#include "proto/text.hpp"

namespace asidecar::redis {
namespace {

constexpr std::chrono::seconds ask_every{1};
constexpr std::chrono::milliseconds ask_first_every{10};  // for as long as connecting takes
constexpr std::chrono::seconds first_while{1};

}  // namespace

sentinels::sentinels(runtime::worker& home, const connection::terms& like, const std::string& password, engine::event_sink& events)
    : home_(home), master_name_(like.url.master), events_(events), bell_(home.time->make_alarm()) {
  for (const auto& at : like.url.sentinels) {
    config::redis_url url;
    url.server = at;
    url.password = password;
    connections_.push_back(std::make_shared<connection>(home, connection::terms{url, like.timeout, like.reply_max, "sentinel " + at.text()}, stats_, events));
  }
}

void sentinels::start() {
  for (const auto& c : connections_) c->start();
  home_.tasks.spawn(follow_master(shared_from_this()));
}

void sentinels::stop() {
  stopping_ = true;
  for (const auto& c : connections_) c->stop();
  bell_->ring();
}

std::optional<config::host_port> sentinels::where() const {
  const std::lock_guard lock(mutex_);
  return known_ ? std::optional(known_->master) : std::nullopt;
}

std::string sentinels::trouble() const { return "no Sentinel says where the master '" + master_name_ + "' is"; }

void sentinels::tell_of_moves(std::weak_ptr<connection> who) {
  const std::lock_guard lock(mutex_);
  std::erase_if(to_master_, [](const auto& c) { return c.expired(); });
  to_master_.push_back(std::move(who));
}

std::optional<sentinels::answer> sentinels::believable(const std::optional<answer>& known, std::span<const answer> answers, std::size_t asked) {
  const auto newest = std::max_element(answers.begin(), answers.end(), [](const auto& a, const auto& b) { return a.epoch < b.epoch; });
  if (newest == answers.end()) return std::nullopt;
  const bool majority = answers.size() > asked / 2;
  if (known && newest->epoch < known->epoch && !majority) return std::nullopt;
  return *newest;
}

task<void> sentinels::follow_master([[maybe_unused]] std::shared_ptr<sentinels> self) {
  const auto started = home_.time->now();
  while (!stopping_) {
    std::vector<answer> answers;
    trouble_.clear();
    for (const auto& c : connections_) {
      if (!c->up()) continue;
      const auto a = co_await ask(*c);
      if (a) answers.push_back(*a);
    }
    if (const auto next = believable(known_, answers, connections_.size())) believe(*next);  // known_ is written on this thread only
    if (!trouble_.empty() && trouble_ != said_trouble_) events_.event(engine::severity::warn, "a Sentinel does not say where the redis master is", {{"master", master_name_}, {"why", trouble_}});
    said_trouble_ = trouble_;
    const auto now = home_.time->now();
    const bool first = !known_ && now < started + first_while;
    if (!stopping_) co_await bell_->wait_until(now + (first ? ask_first_every : std::chrono::milliseconds(ask_every)));
  }
}

// The address from the one command that names the promoted server while a failover still goes on, when the epoch is the new one already; the
// epoch from a flat list of names and values.
task<std::optional<sentinels::answer>> sentinels::ask(connection& c) {
  connection::call where_call;
  connection::call state_call;
  c.send_words(where_call, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master_name_);
  c.send_words(state_call, "SENTINEL", "MASTER", master_name_);
  const auto where = co_await where_call.wait();
  const auto state = co_await state_call.wait();
  if (!where || !state) co_return std::nullopt;  // its connection says so itself
  const auto* const error = state->is_error() ? &*state : where->is_error() ? &*where : nullptr;
  if (error != nullptr) {
    trouble_ = error->text.substr(0, 100);
    co_return std::nullopt;
  }
  answer out{{}, 0};
  for (std::size_t i = 0; i + 1 < state->elements.size(); i += 2)
    if (state->elements[i].text == "config-epoch") out.epoch = proto::parse_decimal(state->elements[i + 1].text).value_or(0);
  const auto port = where->elements.size() == 2 ? proto::parse_decimal(where->elements[1].text) : std::nullopt;
  if (!port || *port == 0 || *port > 65535) {
    trouble_ = "its answer has no address";
    co_return std::nullopt;
  }
  out.master = {where->elements[0].text, static_cast<std::uint16_t>(*port)};
  co_return out;
}

void sentinels::believe(const answer& a) {
  std::vector<std::weak_ptr<connection>> told;
  {
    const std::lock_guard lock(mutex_);
    const bool moved = !known_ || known_->master != a.master;
    known_ = a;
    if (!moved) return;
    told = to_master_;
  }
  events_.event(engine::severity::info, "Sentinels name the redis master", {{"name", master_name_}, {"at", a.master.text()}});
  for (const auto& weak : told)
    if (const auto c = weak.lock()) c->server_moved();
}

}  // namespace asidecar::redis
