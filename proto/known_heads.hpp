// Request heads that were seen before. The clients of a sidecar ask for one key after the other with heads that differ in the key
// alone, so what the framing gate (http_head.hpp) made of one holds for the next, and comparing bytes is all that is left to do. Only
// plain GETs in HTTP/1.1 are learnt: no body, nothing that ends the connection, no Cache-Control. Never says anything that
// parse_request_head() would not say of the same bytes. Heads may hold a token, so the time a comparison takes tells nothing of
// where they differ. One thread only.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "proto/http_head.hpp"

namespace asidecar::proto {

class known_heads {
 public:
  // `path`: before the key in the target, e.g. "/v1/keys/".
  explicit known_heads(std::string_view path);

  // Keeps a head that it is shown for the second time. `head` is what parse_request_head() made of `bytes`. `context` is what else the caller's judgement of it depended on.
  void learn(std::string_view bytes, const request_head& head, bool context);
  void forget();

  struct match {
    const request_head* like = nullptr;  // all of it but target, fields and size holds; null: not known
    std::string_view fields;             // its field lines; like the key, a view of `bytes`
    std::string_view key;
    std::size_t size = 0;                // of the head
  };
  match find(std::string_view bytes, bool context) const noexcept;

 private:
  bool is_known(std::string_view tail, bool context) const noexcept;

  static constexpr std::size_t heads_max = 4;
  static constexpr std::size_t bytes_max = 2048;
  struct known {
    std::string bytes;
    request_head head{};    // views into `bytes`
    std::string_view tail;  // everything behind the target
    bool context = false;
  };

  std::string start_;
  std::array<known, heads_max> heads_;
  std::size_t count_ = 0;
  std::size_t next_ = 0;             // to be replaced
  std::array<std::uint64_t, 8> seen_once_{};  // hashes: a head that no second request has is not worth keeping
};

}  // namespace asidecar::proto
