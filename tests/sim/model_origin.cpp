#include "tests/sim/model_origin.hpp"

#include <algorithm>

namespace asidecar::sim {
namespace {

using engine::load_error;
using std::to_string;

class model_loader final : public engine::loader {
 public:
  model_loader(model_origin& o, visitor& who) : origin_(o), who_(who) {}
  task<engine::load_outcome> load(engine::load_request request) override { return origin_.load(who_, model_origin::key_of(request.params.front()), request.deadline); }

 private:
  model_origin& origin_;
  visitor& who_;
};

class model_query final : public engine::loader {
 public:
  model_query(model_origin& o, visitor& who, int records) : origin_(o), who_(who), records_(records) {}
  task<engine::load_outcome> load(engine::load_request) override { return origin_.list(who_, records_); }

 private:
  model_origin& origin_;
  visitor& who_;
  const int records_;
};

class model_writer final : public engine::writer {
 public:
  model_writer(model_origin& o, visitor& who, bool journaled) : origin_(o), who_(who), journaled_(journaled) {}
  const std::vector<std::string>& params() const noexcept override { return params_; }
  task<engine::write_outcome> write(engine::write_request request) override {
    return origin_.write(who_, model_origin::key_of(*request.params.front()), std::move(request.body), journaled_, request.deadline);
  }

 private:
  model_origin& origin_;
  visitor& who_;
  const bool journaled_;
  const std::vector<std::string> params_{"n"};
};

}  // namespace

std::unique_ptr<engine::loader> model_origin::loader(visitor& who) { return std::make_unique<model_loader>(*this, who); }
std::unique_ptr<engine::loader> model_origin::query(visitor& who, int records) { return std::make_unique<model_query>(*this, who, records); }
std::unique_ptr<engine::writer> model_origin::writer(visitor& who, bool journaled) { return std::make_unique<model_writer>(*this, who, journaled); }

task<void> model_origin::sleep_until(runtime::worker& who, steady_time when) {
  const auto bell = who.time->make_alarm();
  co_await bell->wait_until(when);
}

task<engine::load_outcome> model_origin::load(visitor& who, std::string key, steady_time deadline) {
  if (!who.alive) co_return load_error::failed("dead");
  truth_.check_single_load(who.daemon, key);
  const auto began = world_.now();
  who.loading[key].push_back(began);
  const auto head = "load on " + to_string(who.daemon) + " of " + key;
  trace_(head + " begins");
  co_await sleep_until(*who.home, began + world_.between(1, 60));
  const int version = truth_.version[key];
  trace_(head + " reads " + to_string(version));
  const auto ready = world_.now() + usually(1, 60, 1500);
  const bool late = ready > deadline;
  co_await sleep_until(*who.home, std::min(ready, deadline));
  auto& list = who.loading[key];
  list.erase(std::find(list.begin(), list.end(), began));
  if (list.empty()) who.loading.erase(key);
  trace_(head + (late ? " ends too late" : " ends"));
  if (late || world_.chance(fails)) {
    ++truth_.load_errors;
    truth_.last_load_error = world_.now();
    if (late) co_return load_error::timed_out("late");
    co_return load_error::failed("told to");
  }
  engine::loaded out;
  out.body = to_string(version);
  out.content_type = "text/plain";
  co_return out;
}

task<engine::load_outcome> model_origin::list(visitor& who, int records) {
  if (!who.alive) co_return load_error::failed("dead");
  truth_.check_warms_alone(who);
  who.querying = true;
  trace_("query on " + to_string(who.daemon) + " for what to warm");
  co_await sleep_until(*who.home, world_.now() + world_.between(1, 60));
  who.querying = false;
  if (world_.chance(fails)) co_return load_error::failed("told to");
  engine::loaded out;
  for (int i = 0; i < records; ++i) out.body.append(i == 0 ? "[" : ",").append("{\"n\":" + to_string(i) + "}");
  out.body.append("]");
  co_return out;
}

struct model_origin::applied_write {
  bool done = false;
  int version = 0;
};

// The origin goes on with what it was asked, whatever becomes of who asked.
task<void> model_origin::apply(std::string key, std::string body, bool journaled, steady_time when, std::shared_ptr<applied_write> out) {
  co_await sleep_until(home_, when);
  out->version = ++truth_.version[key];
  out->done = true;
  trace_("write of " + key + " (" + body + ") becomes version " + to_string(out->version));
  if (journaled) truth_.applied(key, body, out->version);
}

task<engine::write_outcome> model_origin::write(visitor& who, std::string key, std::string body, bool journaled, steady_time deadline) {
  const auto unreachable = [] {
    auto e = load_error::failed("not to be reached");
    e.got = load_error::progress::not_sent;
    return e;
  };
  if (!who.alive || world_.chance(fails / 3)) co_return unreachable();
  if (journaled) truth_.check_applies_alone(who);
  ++who.applying;
  const auto head = "write on " + to_string(who.daemon) + " of " + key + " (" + body + ")";
  trace_(head + " begins");
  const auto takes = usually(1, 40, static_cast<int>(longest_write.count()) - 100);
  const bool refused = journaled ? truth::poisonous(body) : world_.chance(fails / 3);
  const bool forgotten = world_.chance(fails / 3);  // and nobody knows
  const auto result = std::make_shared<applied_write>();
  if (!refused && !forgotten) home_.tasks.spawn(apply(key, body, journaled, world_.now() + takes, result));
  const auto answers = world_.now() + takes + world_.between(1, 40);
  co_await sleep_until(*who.home, std::min(answers, deadline));
  --who.applying;
  trace_(head + " ends");
  if (answers > deadline) co_return load_error::timed_out("late");
  if (refused) co_return load_error::refused("never");
  if (forgotten || world_.chance(fails / 3)) co_return load_error::failed("the connection broke");
  engine::written out;
  out.touched = true;
  out.body = to_string(result->version);
  out.content_type = "text/plain";
  co_return out;
}

}  // namespace asidecar::sim
