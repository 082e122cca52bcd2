// What reading a configuration file found: its errors, and where each option stands. Options are named by a
// path such as "routes[2].load" or "origins[0].http" (by position also in mappings by name, since a name may
// hold dots). Used by one thread while one file is loaded.
#pragma once

#include <yaml-cpp/mark.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.hpp"

namespace asidecar::config {

class findings {
 public:
  explicit findings(std::string file) : file_(std::move(file)) {}

  void place(const std::string& path, const YAML::Mark& mark) { marks_.insert_or_assign(path, mark); }

  // The place of the option, or of the nearest enclosing one that is in the file.
  YAML::Mark where(std::string path) const;

  void error(const YAML::Mark& mark, std::string message);
  void error_at(const std::string& path, std::string message) { error(where(path), std::move(message)); }

  // A broken option has had its error; later checks must not draw conclusions from its value or its
  // children's.
  void set_broken(std::string path) { broken_.insert(std::move(path)); }
  bool broken(std::string path) const;

  std::vector<config_error> in_file_order() &&;

 private:
  std::string file_;
  std::map<std::string, YAML::Mark> marks_;
  std::set<std::string> broken_;
  std::vector<config_error> errors_;
};

std::string element_path(std::string_view list, std::size_t index);  // "routes[2]"

// The candidate that `name` is probably a misspelling of (at most two edits, case aside), or an empty string.
std::string near_miss(std::string_view name, const std::vector<std::string>& candidates);

// "; did you mean 'ttl'?", or nothing.
std::string spelling_hint(std::string_view name, const std::vector<std::string>& candidates);

// A value as error messages quote it: escaped and cut.
std::string quoted(std::string_view value);

}  // namespace asidecar::config
