// The running daemon: threads, listeners, signals. SIGTERM and SIGINT drain and end it, SIGHUP reloads the configuration.
#pragma once

#include <string>

#include "config/settings.hpp"

namespace asidecar::app {

// Runs until a signal ends it; the process's exit code. `path` is read again on SIGHUP; empty: no reload (demo).
int run_daemon(config::settings settings, std::string path);

}  // namespace asidecar::app
