#include "proto/backplane_message.hpp"

#include <charconv>

namespace asidecar::proto {
namespace {

constexpr std::size_t sender_digits = 16;
constexpr std::size_t length_digits = 4;

void append_hex(std::string& out, std::uint64_t value, std::size_t digits) {
  static constexpr char names[] = "0123456789abcdef";
  for (auto i = digits; i > 0; --i) out.push_back(names[value >> (4 * (i - 1)) & 15]);
}

std::optional<std::uint64_t> take_hex(std::string_view& from, std::size_t digits) noexcept {
  std::uint64_t value = 0;
  if (from.size() < digits) return std::nullopt;
  const auto [end, error] = std::from_chars(from.data(), from.data() + digits, value, 16);
  if (error != std::errc{} || end != from.data() + digits) return std::nullopt;
  from.remove_prefix(digits);
  return value;
}

}  // namespace

std::string encode_backplane_message(const backplane_message& m, std::string_view prefix) {
  std::string out;
  append_hex(out, m.sender, sender_digits);
  out.push_back(static_cast<char>(m.what));
  append_hex(out, prefix.size(), length_digits);
  return out.append(prefix).append(m.text);
}

std::optional<backplane_message> decode_backplane_message(std::string_view bytes, std::string_view prefix) noexcept {
  backplane_message out;
  const auto sender = take_hex(bytes, sender_digits);
  if (!sender || bytes.empty()) return std::nullopt;
  constexpr std::string_view kinds = "kptc";
  if (kinds.find(bytes.front()) == std::string_view::npos) return std::nullopt;
  out.sender = *sender;
  out.what = static_cast<backplane_message::kind>(bytes.front());
  bytes.remove_prefix(1);
  const auto length = take_hex(bytes, length_digits);
  if (!length || *length != prefix.size() || !bytes.starts_with(prefix)) return std::nullopt;
  out.text = bytes.substr(prefix.size());
  return out;
}

}  // namespace asidecar::proto
