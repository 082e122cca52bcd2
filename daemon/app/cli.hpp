// The command line.
#pragma once

namespace asidecar::app {

// Exit codes: 0 ok; 1 failed while running; 2 wrong usage or configuration.
int run_cli(int argc, char** argv);

}  // namespace asidecar::app
