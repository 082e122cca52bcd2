// Commands that share one write, and the words of a script. One thread only, like the connection.
#pragma once

#include <deque>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/redis/connection.hpp"

namespace asidecar::redis {

class batch {
 public:
  explicit batch(connection& c) : connection_(c) {}
  void send(const std::vector<std::string>& words) {
    const std::vector<std::string_view> views(words.begin(), words.end());
    connection_.send(calls_.emplace_back(), views);
  }
  template <class... Words>
  void add(const Words&... words) {
    connection_.send_words(calls_.emplace_back(), words...);
  }
  task<reply> next() { return calls_.at(taken_++).wait(); }
  // Takes all replies; false when one is missing. An ACL that forbids to publish is no reason to fail: who may not publish may not
  // subscribe either, and then trusts no copies.
  task<bool> all_answered() {
    bool answered = true;
    while (taken_ < calls_.size()) {
      const auto r = co_await next();
      answered = answered && r;
    }
    co_return answered;
  }

 private:
  connection& connection_;
  std::deque<connection::call> calls_;  // stay in place
  std::size_t taken_ = 0;
};

// EVAL. Each script names its keys, so that it runs on Cluster.
inline std::vector<std::string> script_words(std::string_view text, std::vector<std::string> keys, std::vector<std::string> arguments) {
  std::vector<std::string> words{"EVAL", std::string(text), std::to_string(keys.size())};
  std::move(keys.begin(), keys.end(), std::back_inserter(words));
  std::move(arguments.begin(), arguments.end(), std::back_inserter(words));
  return words;
}

}  // namespace asidecar::redis
