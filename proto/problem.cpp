#include "proto/problem.hpp"

#include "proto/text.hpp"

namespace asidecar::proto {

std::string problem_json(const problem_type& type, std::string_view detail) {
  std::string out = R"({"type":"urn:asidecar:)";
  out.append(type.slug).append(R"(","title":")");
  append_json_escaped(out, type.title);
  out.append(R"(","status":)").append(std::to_string(type.status)).append(R"(,"detail":")");
  append_json_escaped(out, detail);
  out.append("\"}");
  return out;
}

}  // namespace asidecar::proto
