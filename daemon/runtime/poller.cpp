#include "daemon/runtime/poller.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <span>
#include <system_error>

namespace asidecar::runtime {
namespace {

constexpr std::size_t events_per_turn = 512;

}  // namespace

poller::poller(asio::io_context& context)
    : context_(context), epoll_fd_(epoll_create1(EPOLL_CLOEXEC)), descriptor_(context.get_executor()), events_(events_per_turn) {
  if (epoll_fd_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  descriptor_.assign(epoll_fd_);
  wait();
}

poller::~poller() = default;

void poller::stop() {
  error_code ignored;
  descriptor_.close(ignored);
}

bool poller::add(int fd, watched& w, std::uint32_t events) {
  epoll_event e{};
  e.events = events;
  e.data.ptr = &w;
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &e) == 0;
}

void poller::change(int fd, watched& w, std::uint32_t events) {
  epoll_event e{};
  e.events = events;
  e.data.ptr = &w;
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &e);
}

void poller::remove(int fd) { epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr); }

void poller::bury(std::unique_ptr<watched> w) {
  buried_.push_back(std::move(w));
  if (burial_posted_) return;
  burial_posted_ = true;
  asio::post(context_, [this] {
    burial_posted_ = false;
    buried_.clear();
  });
}

void poller::wait() {
  descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [this](error_code ec) {
    if (ec) return;
    turn();
    if (descriptor_.is_open()) wait();
  });
}

void poller::turn() {
  const int n = epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), 0);
  const frozen_time frozen(*this);
  for (auto left = std::span(events_).first(static_cast<std::size_t>(std::max(n, 0))); !left.empty();) {
    const auto group = left.first(std::min(left.size(), group_size));
    left = left.subspan(group.size());
    if (group.size() > 1)
      for (const auto& e : group) static_cast<watched*>(e.data.ptr)->on_ready_soon(e.events);
    for (const auto& e : group) static_cast<watched*>(e.data.ptr)->on_ready(e.events);
  }
}

}  // namespace asidecar::runtime
