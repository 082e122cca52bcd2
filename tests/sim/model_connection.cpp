#include "tests/sim/model_connection.hpp"

namespace asidecar::sim {
namespace {

constexpr milliseconds store_timeout{100};

}  // namespace

task<bool> model_connection::go() {
  if (!up()) co_return false;
  const bool lost = world_.chance(faults_.request_lost);
  co_await sleep(world_.chance(faults_.slow) ? world_.between(50, 150) : world_.between(0, 3));
  if (lost) co_await give_up();
  co_return !lost && up();
}

task<bool> model_connection::come_back() {
  const bool lost = world_.chance(faults_.reply_lost);
  co_await sleep(world_.between(0, 3));
  if (lost) co_await give_up();
  co_return !lost && up();
}

task<void> model_connection::step() { co_await sleep(world_.between(0, 1)); }

// A reply that is late means that the connection is given up, for all.
task<void> model_connection::give_up() {
  co_await sleep(store_timeout);
  down_until_ = world_.now() + world_.between(20, 400);
}

task<void> model_connection::sleep(milliseconds t) {
  if (t <= milliseconds(0)) co_return;
  const auto bell = home_.time->make_alarm();
  co_await bell->wait_until(world_.now() + t);
}

}  // namespace asidecar::sim
