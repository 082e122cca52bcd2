#include "config/findings.hpp"

#include <algorithm>
#include <tuple>

#include "proto/text.hpp"

namespace asidecar::config {
namespace {

constexpr std::size_t edits_max = 2;

std::string parent(const std::string& path) {
  const auto cut = path.find_last_of(".[");
  return path.substr(0, cut == std::string::npos ? 0 : cut);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string config_error::text() const {
  if (line == 0) return file + ": " + message;
  return file + ':' + std::to_string(line) + ':' + std::to_string(column) + ": " + message;
}

YAML::Mark findings::where(std::string path) const {
  for (;; path = parent(path)) {
    const auto found = marks_.find(path);
    if (found != marks_.end()) return found->second;
    if (path.empty()) return {};
  }
}

void findings::error(const YAML::Mark& mark, std::string message) {
  errors_.push_back({file_, std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1, std::move(message)});
}

bool findings::broken(std::string path) const {
  for (; !path.empty(); path = parent(path))
    if (broken_.contains(path)) return true;
  return false;
}

std::vector<config_error> findings::in_file_order() && {
  std::stable_sort(errors_.begin(), errors_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return std::move(errors_);
}

std::string element_path(std::string_view list, std::size_t index) {
  return std::string(list) + '[' + std::to_string(index) + ']';
}

std::string near_miss(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = edits_max + 1;
  for (const auto& candidate : candidates) {
    const auto longer = std::max(name.size(), candidate.size());
    if (longer - std::min(name.size(), candidate.size()) > edits_max) continue;
    const auto distance = edit_distance(lower(name), lower(candidate));
    // Two edits turn any two-letter word into any other, so at most half of the word may differ.
    if (distance >= best_distance || distance * 2 > longer) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

std::string spelling_hint(std::string_view name, const std::vector<std::string>& candidates) {
  const auto meant = near_miss(name, candidates);
  return meant.empty() ? "" : "; did you mean '" + meant + "'?";
}

std::string quoted(std::string_view value) {
  constexpr std::size_t shown_max = 80;
  const auto cut = value.size() > shown_max;
  return '\'' + proto::escape_for_log(value, shown_max) + (cut ? "...'" : "'");
}

}  // namespace asidecar::config
