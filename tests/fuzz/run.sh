#!/usr/bin/env bash
# Fuzzes every target for SECONDS (default 600), two at a time. Seeds are in tests/fuzz/seeds; what is found stays in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600}
. deploy/packages.sh
install_packages "${build_packages[@]}" clang-19 libclang-rt-19-dev
cmake --preset fuzz >/dev/null
targets=(http_head known_heads resp record template config)
cmake --build --preset fuzz --target "${targets[@]/%/_fuzz}"
run() {
  mkdir -p "build/fuzz/corpus/$1"
  "build/fuzz/tests/fuzz/$1_fuzz" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$1-" "build/fuzz/corpus/$1" "tests/fuzz/seeds/$1" >"build/fuzz/$1.log" 2>&1 &&
    echo "$1: no finding, $(grep -o 'stat::number_of_executed_units: *[0-9]*' "build/fuzz/$1.log" | grep -o '[0-9]*$') runs" ||
    { echo "$1: FINDING, see build/fuzz/$1.log"; return 1; }
}
export -f run
export seconds
printf '%s\n' "${targets[@]}" | xargs -P2 -I{} bash -c 'run {}'
