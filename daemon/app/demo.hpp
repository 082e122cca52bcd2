// `asidecar demo`: no Redis, no database server; sample data in SQLite behind a slowed origin.
#pragma once

namespace asidecar::app {

int run_demo();  // the process's exit code

}  // namespace asidecar::app
