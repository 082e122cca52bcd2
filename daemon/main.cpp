#include "daemon/app/cli.hpp"

int main(int argc, char** argv) { return asidecar::app::run_cli(argc, argv); }
