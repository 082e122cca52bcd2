#include "tests/sim/model_journal.hpp"

namespace asidecar::sim {
namespace {

using engine::answer;
using engine::journaled_write;

answer as_answer(bool b) { return b ? answer::yes : answer::no; }

class model_lease final : public engine::lease {
 public:
  model_lease(model_redis& redis, std::shared_ptr<model_connection> c, std::string name) : redis_(redis), connection_(std::move(c)), name_(std::move(name)) {}

  bool held_by(std::string_view token) { return redis_.leases().holds(name_, token); }

  task<answer> take(std::string_view token, milliseconds ttl) override { return ask(&expiring_keys::set_nx, token, ttl); }
  task<answer> renew(std::string_view token, milliseconds ttl) override { return ask(&expiring_keys::renew, token, ttl); }

  task<void> release(std::string_view token) override {
    const bool there = co_await connection_->go();
    if (there) redis_.leases().release(name_, token);
  }

 private:
  using command = bool (expiring_keys::*)(const std::string&, std::string_view, milliseconds);
  task<answer> ask(command what, std::string_view token, milliseconds ttl) {
    const bool there = co_await connection_->go();
    if (!there) co_return answer::unknown;
    const bool done = (redis_.leases().*what)(name_, token, ttl);
    const bool back = co_await connection_->come_back();
    co_return back ? as_answer(done) : answer::unknown;
  }

  model_redis& redis_;
  std::shared_ptr<model_connection> connection_;
  const std::string name_;
};

class model_journal final : public engine::write_journal {
 public:
  model_journal(model_redis& redis, journal_data& data, std::shared_ptr<model_connection> c, int daemon)
      : data_(data), connection_(c), lease_(redis, std::move(c), "journal"), daemon_(daemon) {}

  task<appended> append(const journaled_write& w) override {
    auto entry = w;
    const bool there = co_await connection_->go();
    if (!there) co_return appended();
    const std::uint64_t id = data_.ids.size() + 1;
    data_.ids[entry.body] = id;
    entry.id = std::to_string(id);
    data_.entries[id] = entry;
    const bool back = co_await connection_->come_back();
    appended out;
    if (!back) co_return out;
    out.state = append_state::appended;
    out.id = entry.id;
    co_return out;
  }

  task<std::optional<std::vector<journaled_write>>> oldest(std::size_t most, std::string after) override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    std::vector<journaled_write> out;
    for (auto at = data_.entries.upper_bound(after.empty() ? 0 : std::stoull(after)); at != data_.entries.end() && out.size() < most; ++at) out.push_back(at->second);
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return out;
  }

  task<std::optional<std::uint64_t>> length() override {
    const bool there = co_await connection_->go();
    if (!there) co_return std::nullopt;
    const auto n = data_.entries.size();
    const bool back = co_await connection_->come_back();
    if (!back) co_return std::nullopt;
    co_return n;
  }

  task<std::optional<std::string>> risk() override { co_return std::string(); }

  engine::lease& turn() override { return lease_; }

  task<answer> done(std::string_view token, const journaled_write& w) override { return settle(std::string(token), std::stoull(w.id), std::string()); }
  task<answer> bury(std::string_view token, const journaled_write& w, std::string_view reason) override {
    return settle(std::string(token), std::stoull(w.id), std::string(reason));
  }

 private:
  task<answer> settle(std::string token, std::uint64_t id, std::string reason) {
    const bool there = co_await connection_->go();
    if (!there) co_return answer::unknown;
    const bool held = lease_.held_by(token);
    const auto at = data_.entries.find(id);
    if (held && at != data_.entries.end()) {
      const auto entry = std::move(at->second);
      data_.entries.erase(at);
      if (!reason.empty()) data_.dead[id] = reason;
      data_.settled(entry, daemon_, !reason.empty());
    }
    const bool back = co_await connection_->come_back();
    co_return back ? as_answer(held) : answer::unknown;
  }

  journal_data& data_;
  std::shared_ptr<model_connection> connection_;
  model_lease lease_;
  const int daemon_;
};

}  // namespace

std::unique_ptr<engine::lease> make_model_lease(model_redis& redis, std::shared_ptr<model_connection> c, std::string name) {
  return std::make_unique<model_lease>(redis, std::move(c), std::move(name));
}

std::unique_ptr<engine::write_journal> make_model_journal(model_redis& redis, journal_data& data, std::shared_ptr<model_connection> c, int daemon) {
  return std::make_unique<model_journal>(redis, data, std::move(c), daemon);
}

}  // namespace asidecar::sim
