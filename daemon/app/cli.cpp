#include "daemon/app/cli.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "config/config.hpp"
#include "daemon/app/daemon.hpp"
#include "daemon/app/demo.hpp"

namespace asidecar::app {
namespace {

constexpr int usage_error = 2;

std::optional<config::settings> load_or_complain(const std::string& path, std::FILE* out) {
  auto loaded = config::load_file(path);
  for (const auto& e : loaded.errors) std::fprintf(out, "%s\n", e.text().c_str());
  return std::move(loaded.value);
}

}  // namespace

int run_cli(int argc, char** argv) {
  CLI::App cli("Cache-aside sidecar: an HTTP key-fetch API over Redis and the origin of your data.", "asidecar");
  cli.set_version_flag("--version", "asidecar " ASIDECAR_VERSION);
  cli.require_subcommand(1);
  std::string path;
  const auto with_file = [&](const char* name, const char* help) {
    auto* command = cli.add_subcommand(name, help);
    command->add_option("-c,--config", path, "configuration file (YAML)")->required();
    return command;
  };
  auto* serve = with_file("serve", "run in the foreground; SIGTERM/SIGINT drain and exit, SIGHUP reloads");
  auto* check = with_file("check", "validate the configuration; lists every error as FILE:LINE:COL: message");
  auto* print = with_file("config", "print the effective configuration, defaults filled in, secrets as ***");
  auto* demo = cli.add_subcommand("demo", "run with embedded sample data: no Redis, no database server");
  auto* reference = cli.add_subcommand("reference", "print the configuration reference (Markdown)")->group("");
  auto* schema = cli.add_subcommand("schema", "print the JSON schema of the configuration")->group("");
  try {
    cli.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return cli.exit(e) == 0 ? 0 : usage_error;
  }
  if (*demo) return run_demo();
  if (*reference) return std::fputs(config::reference_markdown().c_str(), stdout) < 0 ? 1 : 0;
  if (*schema) return std::fputs(config::json_schema().c_str(), stdout) < 0 ? 1 : 0;
  auto settings = load_or_complain(path, *check ? stdout : stderr);
  if (!settings) return usage_error;
  if (*serve) return run_daemon(std::move(*settings), path);
  if (*check) std::printf("%s: ok\n", path.c_str());
  if (*print) std::fputs(config::print_effective(*settings).c_str(), stdout);
  return 0;
}

}  // namespace asidecar::app
