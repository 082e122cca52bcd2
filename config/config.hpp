// Reading, checking, printing and documenting the configuration.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/settings.hpp"

namespace asidecar::config {

struct config_error {
  std::string file;
  int line = 0;    // from 1; 0 when the file could not be read at all
  int column = 0;  // from 1
  std::string message;

  std::string text() const;  // FILE:LINE:COL: message
};

struct load_result {
  std::optional<settings> value;  // set only when there are no errors
  std::vector<config_error> errors;  // every one, in the order of the file
};

load_result load_file(const std::string& path);
load_result load_text(const std::string& text, const std::string& file_name);  // file_name is for messages

// The effective configuration as YAML that load_text takes again (except for its secrets, shown as ***).
std::string print_effective(const settings& s);

std::string reference_markdown();  // docs/CONFIGURATION.md
std::string json_schema();         // config/asidecar.schema.json (draft 2020-12)

}  // namespace asidecar::config
