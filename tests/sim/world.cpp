#include "tests/sim/world.hpp"

#include <boost/asio/post.hpp>

namespace asidecar::sim {

class virtual_alarm final : public runtime::alarm {
 public:
  virtual_alarm(world& w, asio::io_context& home) : world_(w), home_(home), life_(std::make_shared<bool>(true)) {}
  ~virtual_alarm() override {
    *life_ = false;
    unlist();
  }
  virtual_alarm(const virtual_alarm&) = delete;
  virtual_alarm& operator=(const virtual_alarm&) = delete;

  task<bool> wait_until(steady_time when) override {
    if (std::exchange(rung_, false)) co_return false;
    if (when <= world_.now_) co_return true;
    at_ = {when, ++world_.order_};
    if (when != steady_time::max()) world_.alarms_.emplace(at_, this);
    waiting_ = true;
    const bool time_came = co_await shot_.wait();
    waiting_ = false;
    rung_ = false;
    co_return time_came;
  }

  void ring() override {
    if (!waiting_ || woken_) {
      rung_ = true;
      return;
    }
    wake(false);
  }

  void wake(bool time_came) {
    unlist();
    woken_ = true;
    asio::post(home_, [this, life = life_, time_came] {
      if (!*life) return;
      woken_ = false;
      shot_.set(time_came);
    });
  }

 private:
  void unlist() {
    if (const auto found = world_.alarms_.find(at_); found != world_.alarms_.end() && found->second == this) world_.alarms_.erase(found);
  }

  world& world_;
  asio::io_context& home_;
  std::shared_ptr<bool> life_;
  runtime::one_shot<bool> shot_;
  world::due at_{};
  bool waiting_ = false;
  bool woken_ = false;
  bool rung_ = false;
};

namespace {

class virtual_clock final : public runtime::clock {
 public:
  virtual_clock(world& w, asio::io_context& home) : world_(w), home_(home) {}
  steady_time now() const override { return world_.now(); }
  runtime::wall_time wall_now() const override {
    return runtime::wall_time(std::chrono::floor<milliseconds>(world_.now().time_since_epoch()) + std::chrono::hours(24 * 365 * 50));
  }
  std::unique_ptr<runtime::alarm> make_alarm() override { return std::make_unique<virtual_alarm>(world_, home_); }

 private:
  world& world_;
  asio::io_context& home_;
};

class seeded_random final : public runtime::random_source {
 public:
  explicit seeded_random(world& w) : world_(w) {}
  double unit() override { return world_.unit(); }
  std::string token() override {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (int i = 0; i < 32; ++i) out.push_back(digits[world_.draw(16)]);
    return out;
  }

 private:
  world& world_;
};

}  // namespace

std::unique_ptr<runtime::worker> world::make_worker(std::size_t index) {
  auto w = std::make_unique<runtime::worker>(index);
  w->time = std::make_unique<virtual_clock>(*this, w->context);
  w->random = std::make_unique<seeded_random>(*this);
  workers_.push_back(w.get());
  return w;
}

void world::freeze(const runtime::worker& w) { std::erase(workers_, &w); }
void world::thaw(runtime::worker& w) { workers_.push_back(&w); }

// True when something ran.
bool world::settle() {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (auto* w : workers_) {
      w->context.restart();
      again = w->context.poll() > 0 || again;
    }
    any = any || again;
  }
  return any;
}

void world::run_until(steady_time end) {
  for (;;) {
    settle();
    if (alarms_.empty() || alarms_.begin()->first.when > end) break;
    now_ = alarms_.begin()->first.when;
    note(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    auto* a = alarms_.begin()->second;
    a->wake(true);
  }
  if (end != steady_time::max()) now_ = std::max(now_, end);
}

}  // namespace asidecar::sim
