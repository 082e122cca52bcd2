// From the file to checked settings: YAML, then the declarations (mapping_reader), then what needs more than
// one option (check).
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/parser.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "config/check.hpp"
#include "config/expansion.hpp"
#include "config/mapping_reader.hpp"
#include "config/units.hpp"

namespace asidecar::config {
namespace {

constexpr std::size_t file_max_bytes = std::size_t(4) << 20;

// Notes where each document begins, and drops the rest.
class document_starts final : public YAML::EventHandler {
 public:
  YAML::Mark last;

  void OnDocumentStart(const YAML::Mark& mark) override { last = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Not YAML::LoadAll: on some malformed text yaml-cpp 0.7 finds one more document without end, without moving on.
std::optional<YAML::Mark> second_document(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  document_starts starts;
  if (!parser.HandleNextDocument(starts) || !parser.HandleNextDocument(starts)) return std::nullopt;
  return starts.last;
}

// The top-level mapping, or an error.
std::optional<YAML::Node> parse(findings& found, const std::string& text) {
  try {
    auto document = YAML::Load(text);
    if (const auto second = second_document(text)) {
      found.error(*second, "expected one YAML document, found more");
    } else if (!document.IsDefined() || document.IsNull()) {
      found.error({}, "the file is empty; expected a mapping with keys such as listen, origins and routes");
    } else if (!document.IsMap()) {
      found.error(document.Mark(), "expected a mapping with keys such as listen, origins and routes, found " +
                                       std::string(kind_of(document)));
    } else {
      return document;
    }
  } catch (const YAML::Exception& e) {
    found.error(e.mark, "YAML syntax: " + e.msg);
  }
  return std::nullopt;
}

// Defaults that depend on something else.
settings with_defaults_decided(settings s) {
  constexpr std::uint64_t l1_without_store = std::uint64_t(64) << 20;
  if (!s.store && s.l1.size == 0) s.l1.size = l1_without_store;  // else such a daemon would cache nothing
  for (auto& o : s.origins)
    if (o.connections == 0) o.connections = o.is_sql() ? 4 : 32;
  return s;
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
  if (out.errors.empty()) out.value = with_defaults_decided(std::move(s));
  return out;
}

load_result load_file(const std::string& path) {
  const auto text = read_start(path, file_max_bytes);
  if (!text) return failed(path, "cannot read the file");
  return load_text(*text, path);
}

}  // namespace asidecar::config
