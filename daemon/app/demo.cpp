#include "daemon/app/demo.hpp"

#include <sqlite3.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "config/config.hpp"
#include "daemon/app/daemon.hpp"

namespace asidecar::app {
namespace {

constexpr const char* sample_data = R"sql(
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
INSERT INTO users VALUES (1,'Ada Lovelace','ada@example.com'),(2,'Alan Turing','alan@example.com'),
  (3,'Grace Hopper','grace@example.com'),(4,'Edsger Dijkstra','edsger@example.com'),(5,'Barbara Liskov','barbara@example.com');
CREATE TABLE products (sku TEXT PRIMARY KEY, title TEXT NOT NULL, price REAL NOT NULL);
INSERT INTO products VALUES ('tea-1','Green tea',4.5),('tea-2','Black tea',3.9),('cup','Cup',12);
)sql";

std::string demo_configuration(const std::string& database) {
  return R"yaml(
listen: {data: ["127.0.0.1:8700"], admin: "127.0.0.1:8701"}
l1: {size: 16MiB, ttl: 10m}
origins:
  local: {sqlite: ")yaml" + database + R"yaml(", delay: 150ms}
routes:
  - name: user
    key: "user:{id:int}"
    origin: local
    load: "SELECT id, name, email FROM users WHERE id = {id}"
    ttl: 1m
  - name: product
    key: "product:{sku}"
    origin: local
    load: "SELECT sku, title, price FROM products WHERE sku = {sku}"
    ttl: 1m
  - name: users
    key: "users"
    origin: local
    rows: many
    load: "SELECT id, name FROM users ORDER BY id"
    ttl: 1m
  - {name: session, key: "session:{id}", put: true, ttl: 10m}
)yaml";
}

bool make_database(const std::string& path) {
  sqlite3* opened = nullptr;
  const int status = sqlite3_open(path.c_str(), &opened);
  const std::unique_ptr<sqlite3, int (*)(sqlite3*)> database(opened, sqlite3_close);
  return status == SQLITE_OK && sqlite3_exec(database.get(), sample_data, nullptr, nullptr, nullptr) == SQLITE_OK;
}

}  // namespace

int run_demo() {
  std::string directory = (std::filesystem::temp_directory_path() / "asidecar-demo-").string() + std::string(6, 'X');  // mkdtemp fills them in
  if (mkdtemp(directory.data()) == nullptr || !make_database(directory + "/demo.db")) {
    std::fprintf(stderr, "asidecar: cannot write the sample data below %s\n", directory.c_str());
    return 1;
  }
  const auto loaded = config::load_text(demo_configuration(directory + "/demo.db"), "(demo)");
  int code = 1;
  if (loaded.value) {
    std::fprintf(stderr,
                 "The demo's origin is slowed by 150 ms, so that a miss can be told from a hit. Try twice:\n"
                 "  curl -i http://127.0.0.1:8700/v1/keys/user:1\n"
                 "and see the figures:\n"
                 "  curl http://127.0.0.1:8701/metrics/cache\n");
    code = run_daemon(*loaded.value, {});
  } else {
    for (const auto& e : loaded.errors) std::fprintf(stderr, "%s\n", e.text().c_str());
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  return code;
}

}  // namespace asidecar::app
