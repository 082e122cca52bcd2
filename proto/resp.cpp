#include "proto/resp.hpp"

#include <hiredis/read.h>

#include <algorithm>
#include <charconv>

namespace asidecar::proto {
namespace {

constexpr std::size_t buffer_kept = 64 * 1024;

void append_header(std::string& out, char type, std::size_t n) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out.push_back(type);
  out.append(digits, end);
  out.append("\r\n");
}

}  // namespace

void append_command(std::string& out, std::span<const std::string_view> words) {
  append_header(out, '*', words.size());
  for (const auto word : words) {
    append_header(out, '$', word.size());
    out.append(word);
    out.append("\r\n");
  }
}

resp_front look_at_front(std::string_view bytes) noexcept {
  using kind = resp_front::kind;
  constexpr std::size_t digits_max = 9;
  if (bytes.empty()) return {kind::part, 0, {}};
  if (bytes.front() != '$') return {kind::another, 0, {}};
  std::size_t length = 0;
  std::size_t at = 1;
  for (; at < bytes.size() && at <= digits_max && bytes[at] >= '0' && bytes[at] <= '9'; ++at) length = length * 10 + static_cast<std::size_t>(bytes[at] - '0');
  if (at == bytes.size()) return {kind::part, 0, {}};
  const bool canonical = at == 2 || bytes[1] != '0';
  if (at == 1 || !canonical || bytes[at] != '\r') return {kind::another, 0, {}};
  const std::size_t size = at + 2 + length + 2;
  if (bytes.size() < size) return {kind::part, size, {}};
  if (bytes[at + 1] != '\n' || bytes.substr(size - 2, 2) != "\r\n") return {kind::another, 0, {}};
  return {kind::bulk, size, bytes.substr(at + 2, length)};
}

// hiredis builds replies through these; a child is placed into its parent's `elements`. While a child is read only its
// ancestors are referred to, and their vectors do not grow, so the pointers stay valid.
struct resp_reader::functions {
  static resp_value* place(const redisReadTask* task) {
    if (task->parent != nullptr) return &static_cast<resp_value*>(task->parent->obj)->elements.emplace_back();
    auto* top = &static_cast<resp_reader*>(task->privdata)->top_;
    *top = {};
    return top;
  }
  static void* string(const redisReadTask* task, char* text, std::size_t size) {
    auto* value = place(task);
    value->type = task->type == REDIS_REPLY_STATUS  ? resp_value::kind::status
                  : task->type == REDIS_REPLY_ERROR ? resp_value::kind::error
                                                    : resp_value::kind::bulk;
    value->text.assign(text, size);
    return value;
  }
  static void* array(const redisReadTask* task, int) {  // the announced size is the peer's word: nothing is reserved
    auto* value = place(task);
    value->type = resp_value::kind::array;
    return value;
  }
  static void* integer(const redisReadTask* task, long long number) {
    auto* value = place(task);
    value->type = resp_value::kind::integer;
    value->integer = number;
    return value;
  }
  static void* nil(const redisReadTask* task) { return place(task); }
  static void free(void*) {}  // the tree belongs to top_

  static inline redisReplyObjectFunctions table{string, array, integer, nil, free};
};

resp_reader::resp_reader(std::size_t reply_max) : reply_max_(reply_max), reader_(nullptr, redisReaderFree) { start(); }

void resp_reader::start() {
  reader_.reset(redisReaderCreateWithFunctions(&functions::table));
  if (reader_ == nullptr) throw std::bad_alloc();
  reader_->privdata = this;
  unread_max_ = 0;
}

resp_reader::~resp_reader() = default;

bool resp_reader::feed(std::string_view bytes) {
  unread_ += bytes.size();
  unread_max_ = std::max(unread_max_, unread_);
  return redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) == REDIS_OK;
}

resp_reader::state resp_reader::next(resp_value& out) {
  void* reply = nullptr;
  if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) return state::broken;
  if (reply == nullptr) return unread_ > reply_max_ ? state::broken : state::need_more;
  unread_ = reader_->len - reader_->pos;
  out = std::move(top_);
  if (unread_ == 0 && unread_max_ > buffer_kept) start();  // hiredis would keep the buffer of a large reply until it is fed again
  return state::reply;
}

}  // namespace asidecar::proto
