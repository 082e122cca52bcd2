#include "daemon/redis/backplane.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>

namespace asidecar::redis {
namespace {

constexpr std::chrono::seconds beat_every{10};  // a peer that vanished without a word is noticed after two

}  // namespace

// One waiter. Shared by the watch and by messages on their way between the threads.
struct backplane::listener {
  runtime::worker* thread;
  runtime::alarm* bell;  // the watch's; null once it is gone. This and what follows: on `thread` only
  bool live = false;
};

class backplane::channel_watch final : public engine::lock_watch {
 public:
  channel_watch(runtime::worker& w, std::shared_ptr<backplane> from, std::string name)
      : from_(std::move(from)), name_(std::move(name)), bell_(w.time->make_alarm()),
        me_(std::make_shared<listener>(listener{&w, bell_.get()})) {
    asio::post(from_->home_.executor(), [from = from_, name = name_, me = me_] { from->join(name, me); });
  }
  ~channel_watch() override {
    me_->bell = nullptr;
    asio::post(from_->home_.executor(), [from = from_, name = name_, me = me_] { from->leave(name, me); });
  }
  channel_watch(const channel_watch&) = delete;
  channel_watch& operator=(const channel_watch&) = delete;

  bool live() const noexcept override { return me_->live; }
  task<void> wait_until(runtime::steady_time when) override { co_await bell_->wait_until(when); }

 private:
  std::shared_ptr<backplane> from_;
  std::string name_;
  std::unique_ptr<runtime::alarm> bell_;
  listener_ptr me_;
};

backplane::backplane(runtime::worker& home, connection::terms t, engine::store_stats& stats, engine::event_sink& events)
    : home_(home), connection_(std::make_shared<connection>(home, std::move(t), stats, events)), stopped_(home.time->make_alarm()) {
  connection_->serve(*this);
}

void backplane::start() {
  connection_->start();
  home_.tasks.spawn(beat(shared_from_this()));
}

void backplane::stop() {
  stopping_ = true;
  connection_->stop();
  on_lost();
  stopped_->ring();
}

std::unique_ptr<engine::lock_watch> backplane::watch(runtime::worker& w, std::string name) {
  return std::make_unique<channel_watch>(w, shared_from_this(), std::move(name));
}

task<bool> backplane::prepare(connection&) { co_return true; }

void backplane::on_up() {
  up_ = true;
  heard_ = true;
  subscribed_ = 0;
  confirmed_ = 0;
  for (auto& [name, c] : channels_) subscribe(name, c);
}

void backplane::on_lost() {
  if (!up_) return;
  up_ = false;
  for (auto& [name, c] : channels_)
    for (const auto& who : c.listeners) tell(who, false, false);
}

void backplane::on_push(proto::resp_value message) {
  heard_ = true;
  const auto& parts = message.elements;
  if (parts.size() < 2) return;
  const auto& kind = parts.front().text;
  if (kind != "message" && kind != "subscribe") return;
  if (kind == "subscribe") ++confirmed_;
  const auto at = channels_.find(parts[1].text);
  if (at == channels_.end()) return;
  for (const auto& who : at->second.listeners) tell(who, live(at->second), kind == "message");
}

// Redis answers a PING also to a subscriber, so silence means that the connection is dead.
task<void> backplane::beat([[maybe_unused]] std::shared_ptr<backplane> self) {
  constexpr std::array<std::string_view, 1> ping{"PING"};
  while (!stopping_) {
    co_await stopped_->wait_until(home_.time->now() + beat_every);
    if (stopping_ || !up_) continue;
    if (!heard_) connection_->drop("no answer to PING");
    heard_ = false;
    connection_->tell(ping);
  }
}

void backplane::join(const std::string& name, listener_ptr who) {
  auto& c = channels_[name];
  c.listeners.push_back(std::move(who));
  if (c.listeners.size() == 1) subscribe(name, c);
  else if (live(c)) tell(c.listeners.back(), true, false);
}

void backplane::leave(const std::string& name, const listener_ptr& who) {
  const auto at = channels_.find(name);
  if (at == channels_.end()) return;
  std::erase(at->second.listeners, who);
  if (!at->second.listeners.empty()) return;
  const std::array<std::string_view, 2> words{"UNSUBSCRIBE", name};
  connection_->tell(words);
  channels_.erase(at);
}

void backplane::subscribe(const std::string& name, channel& c) {
  if (!up_) return;
  c.subscription = ++subscribed_;
  const std::array<std::string_view, 2> words{"SUBSCRIBE", name};
  connection_->tell(words);
}

// Rings when there is news: the caller looks at the lock again.
void backplane::tell(const listener_ptr& who, bool live, bool released) {
  asio::post(who->thread->executor(), [who, live, released] {
    const bool news = released || who->live != live;
    who->live = live;
    if (news && who->bell != nullptr) who->bell->ring();
  });
}

}  // namespace asidecar::redis
