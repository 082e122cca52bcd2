// RESP2, the Redis protocol: commands out, replies in. hiredis' reader is the codec; the transport is the caller's.
// Not thread-safe: one reader belongs to one connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct redisReader;

namespace asidecar::proto {

struct resp_value {
  enum class kind : std::uint8_t { nil, status, error, integer, bulk, array };
  kind type = kind::nil;
  std::int64_t integer = 0;
  std::string text;  // status, error and bulk
  std::vector<resp_value> elements;

  bool is_error() const noexcept { return type == kind::error; }
  bool is_nil() const noexcept { return type == kind::nil; }
  bool is_ok() const noexcept { return type == kind::status && text == "OK"; }
};

// Appends one command as an array of bulk strings.
void append_command(std::string& out, std::span<const std::string_view> words);

// A bulk string at the front of what has been received: by far the most frequent reply, and one that needs no copy.
struct resp_front {
  enum class kind : std::uint8_t {
    bulk,     // all of it is here
    part,     // of a bulk string, or too little to tell
    another,  // for resp_reader
  };
  kind what;
  std::size_t size;       // of the whole reply; 0: not known yet
  std::string_view text;  // where it lies
};
resp_front look_at_front(std::string_view bytes) noexcept;

class resp_reader {
 public:
  // A reply that needs more buffered bytes than `reply_max` is a protocol error.
  explicit resp_reader(std::size_t reply_max);
  ~resp_reader();
  resp_reader(const resp_reader&) = delete;
  resp_reader& operator=(const resp_reader&) = delete;

  enum class state : std::uint8_t { reply, need_more, broken };

  bool feed(std::string_view bytes);  // false when broken
  state next(resp_value& out);        // call until it is not `reply`
  bool idle() const noexcept { return unread_ == 0; }  // between two replies

 private:
  struct functions;
  void start();

  std::size_t reply_max_;
  std::size_t unread_ = 0;      // bytes fed since the last whole reply
  std::size_t unread_max_ = 0;  // since start()
  resp_value top_;
  std::unique_ptr<redisReader, void (*)(redisReader*)> reader_;
};

}  // namespace asidecar::proto
