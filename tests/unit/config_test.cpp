// The configuration: what is read, every kind of error at its place, what is printed and documented.
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "config/config.hpp"

using namespace asidecar::config;
using namespace std::chrono_literals;

namespace {

// "LINE:COL: message" of every error, one a line.
std::string errors_of(const std::string& text) {
  std::string out;
  for (const auto& e : load_text(text, "f").errors) out.append(e.text().substr(2) + "\n");
  return out;
}

settings loaded(const std::string& text) {
  auto result = load_text(text, "f");
  for (const auto& e : result.errors) FAIL_CHECK(e.text());
  REQUIRE(result.value);
  return *result.value;
}

// A file that is there for the length of a test.
class secret_file {
 public:
  explicit secret_file(const std::string& content)
      : path_(std::filesystem::temp_directory_path() / ("asidecar_config_test." + std::to_string(getpid()))) {
    std::ofstream(path_) << content;
  }
  ~secret_file() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

const std::string full = R"(
listen:
  data: [127.0.0.1:8700, "unix:/tmp/a.sock"]
  admin: localhost:8701
  token: top-secret
  hosts: cache.internal
threads: auto
store:
  redis: redis://app:redis-secret@127.0.0.1:6379/0
  prefix: "cache:"
  format: record
  timeout: 100ms
  lock: {ttl: 10s, wait: 5s}
  backplane: off
l1: {size: 64MiB, ttl: 60s}
defaults: {ttl: 2h, ttl_jitter: 0.25, negative_ttl: 5s, max_value: 2MiB, batch: 1}
origins:
  main: {postgres: "postgresql://app:pg-secret@127.0.0.1/app", connections: 4, breaker: {failures: 3, open: 1s}}
  catalog: {http: "http://127.0.0.1:9000", connections: 32, retries: 2}
  local: {sqlite: ./demo.db}
routes:
  - name: user
    key: "user:{id:int}"
    origin: main
    load: "SELECT id, name FROM users WHERE id = {id}"
    rows: one
    ttl: 30m
    tags: ["user:{id}", "people"]
    write:
      strategy: through
      put: "UPDATE users SET name = {body.name} WHERE id = {id} AND v < {write.id} RETURNING id"
      delete: "DELETE FROM users WHERE id = {id}"
  - name: product
    key: "product:{sku}"
    origin: catalog
    load: GET /products/{sku}
    cache_control: ignore
    forward_headers: [Accept-Language, Authorization]
    write: {put: "PUT /products/{sku}"}
  - name: session
    key: "session:{id}"
    put: true
warm:
  - name: active-users
    origin: main
    query: "SELECT id FROM users LIMIT 1000"
    key: "user:{id}"
    when: 10m
log: {level: debug, format: json}
)";

}  // namespace

TEST_CASE("config: a full file", "[config]") {
  const auto s = loaded(full);
  CHECK(s.listen.data == std::vector<std::string>{"127.0.0.1:8700", "unix:/tmp/a.sock"});
  CHECK(s.threads == 0);
  REQUIRE(s.store);
  CHECK(s.store->lock_wait == 5s);
  CHECK(s.store->backplane == backplane_kind::off);
  CHECK(s.l1.size == 64u << 20);
  REQUIRE(s.origins.size() == 3);
  CHECK(s.origins[1].name == "catalog");
  CHECK(s.origins[0].breaker_open == 1s);
  REQUIRE(s.routes.size() == 3);
  CHECK(s.routes[0].rules.ttl == 30min);
  CHECK(s.routes[0].write->strategy == write_strategy::through);
  CHECK(s.routes[2].rules.ttl == 2h);
  CHECK(s.routes[2].rules.ttl_jitter == 0.25);
  CHECK(s.warm.at(0).when == "10m");
  CHECK(s.log.format == log_format::json);
}

TEST_CASE("config: defaults hold for routes that stand before them in the file", "[config]") {
  CHECK(loaded("routes: [{name: a, key: a, put: true}]\ndefaults: {ttl: 7d}\n").routes[0].rules.ttl == 168h);
}

TEST_CASE("config: empty blocks, anchors and single texts", "[config]") {
  CHECK(loaded("l1:\nlisten:\norigins:\nroutes:\nlog:\n").routes.empty());
  CHECK(loaded("l1: {ttl: &t 3s}\ndefaults: {ttl: *t}\n").defaults.ttl == 3s);
  CHECK(errors_of("store:\n") == "1:1: store: missing 'redis'\n");
}

TEST_CASE("config: the file as a whole", "[config]") {
  CHECK(errors_of("").find("1:1: the file is empty") == 0);
  CHECK(errors_of("# only a comment\n").find("1:1: the file is empty") == 0);
  CHECK(errors_of("- a\n").find("1:1: expected a mapping") == 0);
  CHECK_FALSE(errors_of(",# x\n\nl:\na").empty());  // yaml-cpp's LoadAll never ends on this
  CHECK(errors_of("l1: {ttl: 1s}\n---\nl1: {}\n").find("expected one YAML document, found more") !=
        std::string::npos);
  CHECK(errors_of("l1: {ttl: 1s\nlog: }\n").find("YAML syntax: ") != std::string::npos);
  CHECK(load_text(std::string((4u << 20) + 1, ' '), "f").errors.at(0).text() ==
        "f: the file is larger than 4MiB");
  CHECK(load_file("/no/such/file").errors.at(0).text() == "/no/such/file: cannot read the file");
}

TEST_CASE("config: values that do not fit", "[config]") {
  CHECK(errors_of("l1:\n  ttl: 5 mins\n") ==
        "2:8: ttl: expected a duration such as 250ms, 2s, 5m, 1h or 7d, found '5 mins'\n");
  CHECK(errors_of("l1: {ttl: 0s}") == "1:11: ttl: expected a duration from 1ms to 366d, found '0s'\n");
  CHECK(errors_of("l1: {size: 5MB}") ==
        "1:12: size: expected a size such as 512, 4KiB, 64MiB or 2GiB, found '5MB'\n");
  CHECK(errors_of("defaults: {max_value: 1GiB}") ==
        "1:23: max_value: expected a size of at most 512MiB, found '1GiB'\n");
  CHECK(errors_of("defaults:\n  ttl_jitter: 1\n") ==
        "2:15: ttl_jitter: expected a number from 0 to less than 1, found '1'\n");
  CHECK(errors_of("defaults: {ttl_jitter: nan}").find("1:24: ttl_jitter: expected") == 0);
  CHECK(errors_of("defaults: {batch: 0}") ==
        "1:19: batch: expected a whole number from 1 to 1024, found '0'\n");
  CHECK(errors_of("threads: 0") ==
        "1:10: threads: expected auto or a whole number from 1 to 256, found '0'\n");
  CHECK(errors_of("listen: {insecure: yes}") == "1:20: insecure: expected true or false, found 'yes'\n");
  CHECK(errors_of("log: {format: txt}") ==
        "1:15: format: expected one of text, json, found 'txt'; did you mean 'text'?\n");
  CHECK(errors_of("log: {level: [info]}") ==
        "1:14: level: expected one of trace, debug, info, warn, error, found a list\n");
  CHECK(errors_of("log: {level: }") ==
        "1:7: level: expected one of trace, debug, info, warn, error, found nothing\n");
  CHECK(errors_of("log: info") == "1:6: log: expected a mapping, found a single value\n");
  CHECK(errors_of("routes: {a: b}") == "1:9: routes: expected a list, found a mapping\n");
  CHECK(errors_of("routes:\n  - text\n") == "2:5: routes[0]: expected a mapping, found a single value\n");
  CHECK(errors_of("listen: {hosts: {a: b}}") ==
        "1:17: hosts: expected text or a list of texts, found a mapping\n");
  CHECK(errors_of("listen:\n  data: [127.0.0.1:1, nowhere, 0.0.0.0:2]\n") ==
        "2:23: data: expected IP:port, localhost:port or unix:/path.sock\n"
        "2:32: data: '0.0.0.0:2' is not a loopback address, so listen.token is needed (or listen.insecure: "
        "true)\n");
  CHECK(errors_of("store: {redis: \"redis://h\", prefix: \"asidecar:\"}").find("1:37: prefix: ") == 0);
  CHECK(errors_of("store: {redis: \"redis://h\", prefix: \"a\\0b\"}").find("1:37: prefix: ") == 0);
}

TEST_CASE("config: keys that are unknown, duplicate or missing", "[config]") {
  CHECK(errors_of("l1:\n  tll: 5s\n") == "2:3: unknown key 'tll'; did you mean 'ttl'?\n");
  CHECK(errors_of("defaults: {maxValue: 1}") == "1:12: unknown key 'maxValue'; did you mean 'max_value'?\n");
  CHECK(errors_of("zz: 1") == "1:1: unknown key 'zz'\n");
  CHECK(errors_of("l1: {ttl: 1s,\n  ttl: 2s}") == "2:3: duplicate key 'ttl'; it is already at line 1\n");
  CHECK(errors_of("origins:\n  a: {sqlite: x}\n  a: {sqlite: y}\n") ==
        "3:3: duplicate key 'a'; it is already at line 2\n");
  CHECK(errors_of("routes:\n  - key: a\n    put: true\n") == "2:5: routes[0]: missing 'name'\n");
}

TEST_CASE("config: every error in one run, in the order of the file", "[config]") {
  CHECK(errors_of(
            "log: {level: loud}\nl1: {ttl: x, tll: 1s}\nroutes:\n  - {name: a, key: \"{\", put: true}\n") ==
        "1:14: level: expected one of trace, debug, info, warn, error, found 'loud'\n"
        "2:11: ttl: expected a duration such as 250ms, 2s, 5m, 1h or 7d, found 'x'\n"
        "2:14: unknown key 'tll'; did you mean 'ttl'?\n"
        "4:20: key: '{' without '}' (write '{{' for a literal brace) (at offset 0)\n");
}

TEST_CASE("config: the environment in values", "[config]") {
  setenv("ASIDECAR_TEST_TTL", "9", 1);
  setenv("ASIDECAR_TEST_EMPTY", "", 1);
  unsetenv("ASIDECAR_TEST_UNSET");
  CHECK(loaded("l1: {ttl: '${ASIDECAR_TEST_TTL}m'}").l1.ttl == 9min);
  CHECK(loaded("l1: {ttl: '${ASIDECAR_TEST_UNSET:-3s}'}").l1.ttl == 3s);
  CHECK(loaded("l1:\n  ttl: ${ASIDECAR_TEST_EMPTY:-4s}\n").l1.ttl == 4s);
  CHECK(loaded("store: {redis: \"redis://h\", prefix: \"$a$\"}").store->prefix == "$a$");
  CHECK(errors_of("l1:\n  ttl: ${ASIDECAR_TEST_UNSET}\n") ==
        "2:8: ttl: the environment variable 'ASIDECAR_TEST_UNSET' is not set and has no default\n");
  CHECK(errors_of("l1:\n  ttl: ${1x}\n").find("2:8: ttl: '${' does not begin") == 0);
  CHECK(errors_of("l1:\n  ttl: ${A\n") == "2:8: ttl: '${' without '}'\n");
  // What came from the environment may be a secret, so the message has the value as the file has it.
  CHECK(errors_of("threads: ${HOME}\n").find("found '${HOME}'") != std::string::npos);
}

TEST_CASE("config: secrets from files", "[config]") {
  const secret_file token("from-file\n");
  CHECK(loaded("listen: {token: \"file:" + token.path() + "\"}").listen.token == "from-file");
  const secret_file url("postgresql://a:hidden@h/db\r\n");
  CHECK(loaded("origins: {m: {postgres: \"file:" + url.path() + "\"}}").origins[0].postgres ==
        "postgresql://a:hidden@h/db");
  CHECK(errors_of("listen: {token: \"file:/no/such\"}") == "1:17: token: cannot read the file '/no/such'\n");
  CHECK(errors_of("listen: {token: \"file:/tmp\"}") == "1:17: token: cannot read the file '/tmp'\n");
  CHECK(errors_of("listen: {token: \"file:/dev/null\"}") == "1:17: token: the file '/dev/null' is empty\n");
  CHECK(errors_of("listen: {token: \"file:/dev/zero\"}").find("larger than 64KiB") != std::string::npos);
  CHECK(errors_of("listen: {token: \"\"}") ==
        "1:17: token: must not be empty; leave the option out instead\n");
}

TEST_CASE("config: errors never repeat a secret", "[config]") {
  const secret_file url("redis://a:hush@:bad:port/x\n");
  for (const auto& text : {std::string("listen: {token: \"hush hush\"}"), std::string("listen: {token:hush}"),
                           std::string("store: {redis: \"redis://:hush@h:bad\"}"),
                           std::string("origins: {m: {postgres: \"postgresql://a:hush@h:5432/?hush=1\"}}"),
                           std::string("origins: {m: {http: \"ftp://a:hush@h\"}}"),
                           "store: {redis: \"file:" + url.path() + "\"}"}) {
    const auto errors = errors_of(text);
    CAPTURE(text, errors);
    CHECK(!errors.empty());
    CHECK(errors.find("hush") == std::string::npos);
  }
}

TEST_CASE("config: what is printed loads again and shows no secret", "[config]") {
  const auto s = loaded(full);
  const auto printed = print_effective(s);
  CAPTURE(printed);
  CHECK(printed.find("-secret") == std::string::npos);
  CHECK(printed.find("token: \"***\"") != std::string::npos);
  auto again = loaded(printed);
  CHECK(print_effective(again) == printed);
  again.listen.token = s.listen.token;
  again.store->redis = s.store->redis;
  again.origins[0].postgres = s.origins[0].postgres;
  CHECK(again.listen == s.listen);
  CHECK(again.store == s.store);
  CHECK(again.l1 == s.l1);
  CHECK(again.defaults == s.defaults);
  CHECK(again.origins == s.origins);
  CHECK(again.routes == s.routes);
  CHECK(again.warm == s.warm);
  CHECK(again.log == s.log);
  CHECK(loaded(print_effective(settings{})).routes.empty());
}

TEST_CASE("config: text of any kind survives printing", "[config]") {
  settings s;
  s.store.emplace().prefix = "a\"b\\c\n\t\x01: # 'é' {[*&!|>%@`";
  CHECK(loaded(print_effective(s)).store->prefix == s.store->prefix);
  s.store->prefix.clear();
  CHECK(loaded(print_effective(s)).store->prefix.empty());
}

namespace {

void names_in(const YAML::Node& effective, std::set<std::string>& out, bool by_name = false) {
  if (effective.IsSequence())
    for (const auto& item : effective) names_in(item, out);
  if (!effective.IsMap()) return;
  for (const auto& pair : effective) {
    const auto name = pair.first.Scalar();
    if (!by_name) out.insert(name);
    names_in(pair.second, out, !by_name && name == "origins");
  }
}

}  // namespace

TEST_CASE("config: the schema and the reference know every option", "[config]") {
  std::set<std::string> names;
  names_in(YAML::Load(full), names);
  names.insert({"max_connections", "insecure", "hosts", "max_in_flight", "queue", "ca", "delay",
                "content_type", "soft_timeout"});
  const auto schema = json_schema();
  CHECK_NOTHROW(YAML::Load(schema));
  CHECK(YAML::Load(schema)["properties"]["routes"]["items"]["required"].as<std::vector<std::string>>() ==
        std::vector<std::string>{"name", "key"});
  CHECK(YAML::Load(schema)["properties"]["l1"]["properties"]["ttl"]["default"].as<std::string>() == "1m");
  const auto page = reference_markdown();
  for (const auto& name : names) {
    CAPTURE(name);
    CHECK(schema.find('"' + name + "\": {\"description\"") != std::string::npos);
    CHECK(page.find("| `" + name + "` |") != std::string::npos);
  }
}
