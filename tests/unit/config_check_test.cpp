// The configuration: how its parts fit together, with every error at its place.
#include <catch2/catch.hpp>
#include <string>

#include "config/config.hpp"

using namespace asidecar::config;

namespace {

// "LINE:COL: message" of every error, one a line.
std::string errors_of(const std::string& text) {
  std::string out;
  for (const auto& e : load_text(text, "f").errors) out.append(e.text().substr(2) + "\n");
  return out;
}

const std::string origins = "origins:\n  main: {postgres: \"postgresql://a@h/d\"}\n  web: {http: \"http://h\"}\n";  // 3 lines

// One route whose first line is the 5th.
std::string with_route(const std::string& route) {
  return origins + "routes:\n" + route;
}

}  // namespace

TEST_CASE("config: listening addresses", "[config]") {
  CHECK(errors_of("listen: {admin: \"10.0.0.1:1\"}")
            .find("1:17: admin: '10.0.0.1:1' is not a loopback address") == 0);
  CHECK(errors_of("listen: {data: \"0.0.0.0:1\", insecure: true}").empty());
  CHECK(errors_of("listen: {data: \"0.0.0.0:1\", token: t}").empty());
  CHECK(errors_of("listen: {admin: off, data: \"[::1]:1\"}").empty());
  CHECK(errors_of("listen: {data: [\"localhost:1\", \"127.0.0.1:1\"]}") ==
        "1:32: data: '127.0.0.1:1' is already the address of listen.data[0]\n");
  CHECK(errors_of("listen: {data: \"127.0.0.1:8701\"}").find("1:9: admin: '127.0.0.1:8701' is already") == 0);
  CHECK(errors_of("listen: {data: []}") == "1:16: data: expected at least one address\n");
}

TEST_CASE("config: origins", "[config]") {
  CHECK(errors_of("origins:\n  a: {connections: 1}\n") ==
        "2:3: origins: origin 'a' needs exactly one of postgres, http and sqlite\n");
  CHECK(errors_of("origins:\n  a: {sqlite: x, http: \"http://h\"}\n") ==
        "2:15: sqlite: origin 'a' needs exactly one of postgres, http and sqlite\n");
}

TEST_CASE("config: how routes fit together", "[config]") {
  CHECK(errors_of(with_route("  - {name: a, key: a, origin: mian, load: SELECT 1}")) ==
        "5:31: origin: there is no origin 'mian'; did you mean 'main'?\n");
  CHECK(errors_of(with_route("  - {name: a, key: a, origin: main}")) ==
        "5:31: origin: a route with an 'origin' needs a 'load'\n");
  CHECK(errors_of(with_route("  - {name: a, key: a, load: SELECT 1}")) ==
        "5:29: load: 'load' needs an 'origin'\n");
  CHECK(errors_of(with_route("  - {name: a, key: a}")) ==
        "5:5: routes: a route needs an 'origin' with a 'load', or 'put: true'\n");
  CHECK(errors_of(with_route("  - {name: a, key: a, put: true}\n  - {name: a, key: b, put: true}")) ==
        "6:12: name: name 'a' is already used at line 5\n");
  CHECK(errors_of(with_route(
            "  - {name: a, key: \"x:{r:rest}\", put: true}\n  - {name: b, key: \"x:{i:int}\", put: true}")) ==
        "6:20: key: no key reaches this route: the earlier route 'a' matches all of them\n");
  CHECK(errors_of(with_route("  - {name: a, key: a, put: true, forward_headers: [Accept]}")) ==
        "5:51: forward_headers: only a route with an http origin can forward headers\n");
  CHECK(errors_of(
            with_route("  - {name: a, key: a, origin: web, load: GET /, forward_headers: [Accept, hOST]}")) ==
        "5:75: forward_headers: 'hOST' cannot be forwarded\n");
}

TEST_CASE("config: templates", "[config]") {
  const auto sql = [](const std::string& load) {
    return errors_of(
        with_route("  - name: a\n    key: \"a:{id}\"\n    origin: main\n    load: \"" + load + "\"\n"));
  };
  CHECK(sql("SELECT {id}").empty());
  CHECK(sql("SELECT {idd}") ==
        "8:11: load: placeholder '{idd}' is not in the key template; did you mean 'id'?\n");
  CHECK(sql("SELECT {body.x}") == "8:11: load: placeholder '{body.x}' is not in the key template\n");
  CHECK(sql("SELECT '{id}'").find("8:11: load: the placeholder {id} inside quotes would be text") == 0);
  CHECK(sql("SELECT '{id}'").find("(at offset 8)") != std::string::npos);
  CHECK(errors_of(with_route("  - {name: a, key: a, origin: web, load: POST /x}")) ==
        "5:42: load: expected a GET request, found POST\n");
  CHECK(errors_of(with_route("  - {name: a, key: a, origin: web, load: GET x}"))
            .find("5:42: load: the path must") == 0);
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", put: true, tags: [\"t:{i}\", \"x{\"]}")) ==
        "5:48: tags: placeholder '{i}' is not in the key template; did you mean 'id'?\n"
        "5:57: tags: a brace that is not part of a placeholder such as {id} (at offset 1)\n");
}

TEST_CASE("config: writes", "[config]") {
  const auto write = [](const std::string& origin, const std::string& load, const std::string& inside) {
    return errors_of(with_route("  - name: a\n    key: \"a:{id}\"\n    origin: " + origin +
                                "\n    load: " + load + "\n    write: {" + inside + "}\n"));
  };
  CHECK(write("main", "SELECT 1", "put: 'UPDATE t SET a={body.a} WHERE i={id} AND w={write.id}'").empty());
  CHECK(write("main", "SELECT 1", "put: 'UPDATE t SET a={nody.a}'")
            .find("9:18: put: placeholder '{nody.a}' is not") == 0);
  CHECK(write("main", "SELECT 1", "") == "9:12: write: 'write' needs a 'put' or a 'delete'\n");
  CHECK(write("web", "GET /", "put: 'GET /{id}'") ==
        "9:18: put: expected a request that writes, found GET\n");
  CHECK(write("web", "GET /", "delete: 'DELETE /{x}'").find("9:21: delete: placeholder '{x}'") == 0);
  CHECK(errors_of(with_route("  - {name: a, key: a, put: true, write: {put: x}}")) ==
        "5:41: write: 'write' needs an 'origin'\n");
}

TEST_CASE("config: warming", "[config]") {
  const auto warm = [](const std::string& inside) {
    return errors_of(origins + "warm:\n  - {name: w, " + inside + "}\n");
  };
  CHECK(warm("origin: main, query: SELECT 1, key: \"a:{id}\"").empty());
  CHECK(warm("origin: web, query: SELECT 1, key: a") ==
        "5:23: origin: a warm query needs a postgres or sqlite origin\n");
  CHECK(warm("origin: maim, query: SELECT 1, key: a") ==
        "5:23: origin: there is no origin 'maim'; did you mean 'main'?\n");
  CHECK(warm("origin: main, query: '', key: a") == "5:36: query: the statement is empty (at offset 0)\n");
  CHECK(warm("origin: main, query: 'SELECT {a}', key: a") ==
        "5:36: query: a warm query has no key to take placeholders from\n");
  CHECK(warm("origin: main, query: SELECT 1, key: \"{\"").find("5:51: key: '{' without '}'") == 0);
  CHECK(warm("origin: main, query: SELECT 1, key: a, when: soon").find("5:60: when: expected startup") == 0);
}

TEST_CASE("config: a misspelt option is not reported as missing as well", "[config]") {
  CHECK(errors_of(with_route("  - {name: a, key: a, origin: main,\n     laod: SELECT 1}\n")) ==
        "6:6: unknown key 'laod'; did you mean 'load'?\n");
}

TEST_CASE("config: what could only be a misunderstanding", "[config]") {
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", origin: main, load: \"GET /a/{id}\"}")).find("expected a query that begins with SELECT") != std::string::npos);
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", origin: main, load: \"DELETE FROM a WHERE id = {id}\"}")).find("found 'DELETE'") != std::string::npos);
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", origin: main, load: \"/* x /* y */ */ -- z\\n ((select {id}))\"}")).empty());
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", put: true, ttl: 0s}")).find("would never be served") != std::string::npos);
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", origin: web, load: \"GET /a/{id}\", rows: many}")).find("only a route with an SQL origin") != std::string::npos);
  CHECK(errors_of(with_route("  - {name: a, key: \"a:{id}\", origin: main, load: \"SELECT {id}\", cache_control: ignore}")).find("only a route with an HTTP origin") != std::string::npos);
  CHECK(errors_of("store: {prefix: \"\"}\n" + with_route("  - {name: a, key: \"asidecar:{id}\", put: true}")).find("the daemon's own") != std::string::npos);
}

TEST_CASE("config: no password is printed, however it is written", "[config]") {
  for (const std::string url : {"postgresql://app:s3cr3t@h/app", "postgresql://app:pa?s3cr3t@127.0.0.1/app", "postgresql://app:pa/s3cr3t@127.0.0.1/app",
                                "postgresql://app:p@s3cr3t@127.0.0.1/app", "postgresql://127.0.0.1/app?user=a&passw%6Frd=s3cr3t",
                                "postgresql://127.0.0.1/app?sslpassword=s3cr3t&user=a"}) {
    settings s;
    s.origins.emplace_back();
    s.origins.front().name = "main";
    s.origins.front().postgres = url;
    INFO(url);
    CHECK(print_effective(s).find("s3cr3t") == std::string::npos);
  }
}

TEST_CASE("config: '${' in values", "[config]") {
  CHECK(errors_of("store: {prefix: \"${A:-${B}}\"}").find("a default may not hold another '${'") != std::string::npos);
  const auto loaded = load_text("origins: {a: {sqlite: \"$${A}-${NO_SUCH_VARIABLE:-x}\"}}", "f");
  REQUIRE(loaded.value);
  CHECK(loaded.value->origins[0].sqlite == "${A}-x");
}

TEST_CASE("config: what is printed is what is in effect", "[config]") {
  const auto loaded = load_text(origins, "f");
  REQUIRE(loaded.value);
  CHECK(loaded.value->l1.size == std::uint64_t(64) << 20);
  CHECK(loaded.value->origins[0].connections == 4);
  CHECK(loaded.value->origins[1].connections == 32);
}
