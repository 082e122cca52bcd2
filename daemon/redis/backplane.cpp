#include "daemon/redis/backplane.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>

#include "proto/backplane_message.hpp"

namespace asidecar::redis {
namespace {

// A peer that vanished without a word is noticed after two beats. Until then L1 serves what may be old.
constexpr std::chrono::seconds beat_every{10};
constexpr std::chrono::seconds beat_every_with_l1{1};

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

backplane::backplane(runtime::worker& home, connection::terms t, const config::store_settings& settings, bool l1, engine::shared_state& shared,
                     engine::store_stats& stats, engine::event_sink& events)
    : home_(home), kind_(settings.backplane), prefix_(settings.prefix), l1_(l1), shared_(shared), sender_(std::stoull(home.random->token().substr(0, 16), nullptr, 16)),
      connection_(std::make_shared<connection>(home, std::move(t), stats, events)), stopped_(home.time->make_alarm()) {
  connection_->serve(*this);
  if (l1_ && kind_ != config::backplane_kind::off) shared_.store_unheard();
}

void backplane::start() {
  if (kind_ == config::backplane_kind::off) return;  // waiters for locks look by themselves, and L1 goes by its ttl alone
  connection_->start();
  home_.tasks.spawn(beat(shared_from_this()));
}

void backplane::stop() {
  stopping_ = true;
  connection_->stop();
  on_lost();
  channels_.clear();
  stopped_->ring();
}

std::unique_ptr<engine::lock_watch> backplane::watch(runtime::worker& w, std::string name) {
  return std::make_unique<channel_watch>(w, shared_from_this(), std::move(name));
}

task<bool> backplane::prepare(connection& c) {
  if (l1_ && kind_ == config::backplane_kind::tracking) {
    const auto id = co_await c.run_unready(words_of("CLIENT", "ID"));
    if (!id || id->is_error()) co_return false;
    // A Redis without tracking (before 6) or an ACL that forbids it: said once in the log, by the connection.
    const auto on = co_await c.run_unready(words_of("CLIENT", "TRACKING", "ON", "REDIRECT", std::to_string(id->integer), "BCAST", "PREFIX", prefix_));
    if (!on || on->is_error()) co_return false;
    const auto news = co_await c.run_unready(words_of("SUBSCRIBE", proto::tracking_channel));
    if (!news || news->is_error()) co_return false;
  }
  if (kind_ == config::backplane_kind::pubsub) {
    const auto plain = co_await c.run_unready(words_of("SUBSCRIBE", proto::plain_channel));
    if (!plain || plain->is_error()) co_return false;
  }
  const auto ours = co_await c.run_unready(words_of("SUBSCRIBE", proto::backplane_channel));
  co_return ours && !ours->is_error();
}

void backplane::on_up() {
  up_ = true;
  heard_ = true;
  subscribed_ = 0;
  confirmed_ = 0;
  for (auto& [name, c] : channels_) subscribe(name, c);
  if (l1_) shared_.store_heard();
}

void backplane::on_lost() {
  if (!up_) return;
  up_ = false;
  if (l1_) shared_.store_unheard();
  for (auto& [name, c] : channels_)
    for (const auto& who : c.listeners) tell(who, false, false);
}

void backplane::on_push(proto::resp_value message) {
  heard_ = true;
  const auto& parts = message.elements;
  if (parts.size() < 2) return;
  const auto& kind = parts[0].text;
  const auto& name = parts[1].text;
  if (kind == "message" && parts.size() == 3) hear(name, parts[2]);
  if (kind != "message" && kind != "subscribe") return;
  if (kind == "subscribe") ++confirmed_;
  const auto at = channels_.find(name);
  if (at == channels_.end()) return;
  for (const auto& who : at->second.listeners) tell(who, live(at->second), kind == "message");
}

void backplane::hear(std::string_view from, const proto::resp_value& payload) {
  using kind = proto::resp_value::kind;
  if (from == proto::backplane_channel) {
    hear_instance(payload.text);
  } else if (from == proto::plain_channel) {
    hear_change(payload.text);
  } else if (from == proto::tracking_channel) {
    if (payload.type == kind::nil) shared_.everything_changed_in_store();  // FLUSHALL, FLUSHDB
    for (const auto& name : payload.elements) hear_change(name.text);
  }
}

void backplane::hear_instance(std::string_view message) {
  using kind = proto::backplane_message::kind;
  const auto m = proto::decode_backplane_message(message, prefix_);
  if (!m || m->sender == sender_) return;
  switch (m->what) {
    case kind::key: {
      const std::string key(m->text);
      shared_.forget({&key, 1});
      break;
    }
    case kind::pattern: shared_.forget_matching(m->text); break;
    case kind::tag: shared_.forget_tag(m->text); break;
    case kind::changed: shared_.changed_in_store(m->text); break;
  }
}

void backplane::hear_change(std::string_view name) {
  if (name.starts_with(prefix_)) shared_.changed_in_store(name.substr(prefix_.size()));
}

// Redis answers a PING also to a subscriber, so silence means that the connection is dead.
task<void> backplane::beat([[maybe_unused]] std::shared_ptr<backplane> self) {
  constexpr std::array<std::string_view, 1> ping{"PING"};
  while (!stopping_) {
    co_await stopped_->wait_until(home_.time->now() + (l1_ ? beat_every_with_l1 : beat_every));
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
