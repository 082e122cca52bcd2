// From the file to checked settings: YAML, then the declarations (mapping_reader), then what needs more than
// one option (check).
#include <yaml-cpp/yaml.h>

#include "config/check.hpp"
#include "config/expansion.hpp"
#include "config/mapping_reader.hpp"
#include "config/units.hpp"

namespace asidecar::config {
namespace {

constexpr std::size_t file_max_bytes = std::size_t(4) << 20;

// The top-level mapping, or an error.
std::optional<YAML::Node> parse(findings& found, const std::string& text) {
  try {
    const auto documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      found.error(documents[1].Mark(),
                  "expected one YAML document, found " + std::to_string(documents.size()));
    } else if (documents.empty() || documents[0].IsNull()) {
      found.error({}, "the file is empty; expected a mapping with keys such as listen, origins and routes");
    } else if (!documents[0].IsMap()) {
      found.error(documents[0].Mark(),
                  "expected a mapping with keys such as listen, origins and routes, found " +
                      std::string(kind_of(documents[0])));
    } else {
      return documents[0];
    }
  } catch (const YAML::Exception& e) {
    found.error(e.mark, "YAML syntax: " + e.msg);
  }
  return std::nullopt;
}

load_result failed(const std::string& file, std::string message) {
  return {std::nullopt, {{file, 0, 0, std::move(message)}}};
}

}  // namespace

load_result load_text(const std::string& text, const std::string& file_name) {
  if (text.size() > file_max_bytes)
    return failed(file_name, "the file is larger than " + print_size(file_max_bytes));
  findings found(file_name);
  settings s;
  if (const auto root = parse(found, text)) {
    found.place("", root->Mark());
    mapping_reader reader(found, *root, "");
    describe(reader, s);
    reader.finish();
    check_settings(s, found);
  }
  load_result out;
  out.errors = std::move(found).in_file_order();
  if (out.errors.empty()) out.value = std::move(s);
  return out;
}

load_result load_file(const std::string& path) {
  const auto text = read_start(path, file_max_bytes);
  if (!text) return failed(path, "cannot read the file");
  return load_text(*text, path);
}

}  // namespace asidecar::config
