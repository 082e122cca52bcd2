// The coroutine type of the daemon, and one-shot completion. Everything here belongs to one thread's io_context.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <utility>

namespace asidecar {

namespace asio = boost::asio;
using boost::system::error_code;

namespace runtime {

using io_executor = asio::io_context::executor_type;

// The executor is a concrete type, so that resuming costs no virtual call.
template <class T = void>
using task = asio::awaitable<T, io_executor>;

inline constexpr asio::use_awaitable_t<io_executor> use_task{};
// co_await something(as_result) yields a tuple that begins with the error_code; nothing is thrown.
inline constexpr auto as_result = asio::as_tuple(use_task);

// One value handed from a callback to one waiting coroutine. The value may come first. The waiter is resumed inside set(),
// without a trip through the io_context; set() must be called on the waiter's thread.
template <class T>
class one_shot {
 public:
  task<T> wait() {
    if (value_) {
      T value = std::move(*value_);
      value_.reset();
      co_return value;
    }
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<io_executor>, void(T)>(
        [this](auto&& completion) { waiter_.emplace(std::forward<decltype(completion)>(completion)); }, use_task);
  }

  void set(T value) {
    if (!waiter_) {
      value_.emplace(std::move(value));
      return;
    }
    auto waiter = std::move(*waiter_);
    waiter_.reset();  // `this` may be gone once the waiter runs
    std::move(waiter)(std::move(value));
  }

 private:
  using handler = typename asio::async_result<asio::use_awaitable_t<io_executor>, void(T)>::handler_type;
  std::optional<handler> waiter_;
  std::optional<T> value_;
};

}  // namespace runtime
}  // namespace asidecar
