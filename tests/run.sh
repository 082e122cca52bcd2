#!/usr/bin/env bash
# Builds the project and runs every test against a real Redis, a real PostgreSQL and a real HTTP upstream. From a clean
# checkout on Debian 12, as root, it also installs what is missing. The last line is always "N passed, N failed".
#
#   tests/run.sh               everything
#   tests/run.sh PART...       layers, unit, sim, integration, instructions (per request, against their ceilings), asan (the unit tests
#                              under ASan and UBSan), and the long runs
#                              asan-daemon, tsan-daemon (all tests with the daemon under sanitizers), tidy (clang-tidy)
#
# PYTEST_ARGS is handed to pytest, e.g. PYTEST_ARGS="-k framing" tests/run.sh integration
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/packages.sh

parts=("$@")
if [ ${#parts[@]} -eq 0 ]; then parts=(layers unit sim integration instructions asan); fi
for part in "${parts[@]}"; do
  case "$part" in
    layers | unit | sim | integration | instructions | asan | asan-daemon | tsan-daemon | tidy) ;;
    *) echo "usage: tests/run.sh [layers|unit|sim|integration|instructions|asan|asan-daemon|tsan-daemon|tidy]..." >&2; exit 2 ;;
  esac
done

export CC=${CC:-gcc} CXX=${CXX:-g++} CCACHE_DIR=${CCACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ccache}
# So that ccache also serves files with precompiled headers, and another checkout of the same files.
export CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
export PYTHONDONTWRITEBYTECODE=1
reports=$(mktemp -d)
passed=0
failed=0
finish() {
  local code=$?
  rm -rf "$reports"
  if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  echo "$passed passed, $failed failed"
  if [ "$failed" -ne 0 ]; then exit 1; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title() { printf '\n=== %s\n' "$*"; }

# count NAME REPORT EXIT_CODE: adds the JUnit report's test cases to the totals. A report that is absent, broken or without
# a failure although the program failed counts as one failure.
count() {
  local numbers
  numbers=$(python3 - "$2" "$3" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
try:
    cases = list(tree.parse(sys.argv[1]).iter("testcase"))
except (OSError, tree.ParseError):
    cases = []
bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
skipped = [c for c in cases if c.find("skipped") is not None]
failed = len(bad) or (1 if sys.argv[2] != "0" or not cases else 0)
print(len(cases) - len(bad) - len(skipped), failed)
PYTHON
  )
  echo "$1: ${numbers% *} passed, ${numbers#* } failed"
  passed=$((passed + ${numbers% *}))
  failed=$((failed + ${numbers#* }))
}

count_one() {
  if [ "$2" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}

# build PRESET TARGET...
build() {
  local preset=$1
  shift
  cmake --preset "$preset" >"$reports/configure" 2>&1 || { cat "$reports/configure"; return 1; }
  cmake --build --preset "$preset" --target "$@"
}

# unit_tests PRESET NAME: builds and runs them. Fails only when they did not build.
unit_tests() {
  local code=0
  local tests=build/$1/tests/unit_tests
  build "$1" unit_tests || code=$?
  if [ "$code" -ne 0 ]; then count_one "build of the unit tests, preset $1" "$code"; return 1; fi
  "$tests" -r junit -o "$reports/$2.xml" || code=$?
  # The JUnit report hides what failed in a file; say it again for a reader.
  if [ "$code" -ne 0 ]; then "$tests" || true; fi
  count "$2" "$reports/$2.xml" "$code"
}

part_layers() {
  title "layers: includes point down only"
  local code=0
  python3 tests/layers.py --self-test && python3 tests/layers.py || code=$?
  count_one layers "$code"
}

part_unit() {
  title "unit tests"
  unit_tests release unit || true
}

part_sim() {
  title "simulation: 200 seeds, and that it notices each broken variant of the engine"
  local code=0
  build release sim || code=$?
  if [ "$code" -ne 0 ]; then count_one "build of the simulation" "$code"; return 0; fi
  build/release/tests/sim --seeds 200 || code=$?
  count_one "simulation" "$code"
  code=0
  python3 tests/sim/broken.py || code=$?
  count_one "broken variants are noticed" "$code"
}

part_integration() {
  title "integration tests"
  local code=0
  if [ -z "${ASIDECAR_BIN:-}" ]; then build release asidecar || code=$?; fi
  if [ "$code" -ne 0 ]; then count_one "build of asidecar" "$code"; return 0; fi
  # shellcheck disable=SC2086
  /usr/bin/python3 -m pytest -q -p no:cacheprovider --tb=short --junit-xml="$reports/integration.xml" ${PYTEST_ARGS:-} tests/integration || code=$?
  count integration "$reports/integration.xml" "$code"
}

part_instructions() {
  title "instructions per request"
  local code=0
  build release asidecar || code=$?
  if [ "$code" -eq 0 ]; then python3 tests/bench/instructions.py --check || code=$?; fi
  count_one "instructions per request" "$code"
}

part_asan() {
  title "unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
  unit_tests asan asan || true
}

# sanitized PRESET: unit and integration tests with everything under a sanitizer.
sanitized() {
  title "unit and integration tests, preset $1"
  local code=0
  unit_tests "$1" "$1" || return 0
  build "$1" asidecar || code=$?
  if [ "$code" -ne 0 ]; then count_one "build of asidecar, preset $1" "$code"; return 0; fi
  # shellcheck disable=SC2086
  ASIDECAR_SLOW=1 ASIDECAR_BIN=$PWD/build/$1/asidecar /usr/bin/python3 -m pytest -q -p no:cacheprovider --tb=short \
    --junit-xml="$reports/$1-daemon.xml" ${PYTEST_ARGS:-} tests/integration || code=$?
  count "$1 daemon" "$reports/$1-daemon.xml" "$code"
}
part_asan-daemon() { sanitized asan; }
part_tsan-daemon() {
  export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp"
  sanitized tsan
}

part_tidy() {
  title "clang-tidy"
  local code=0
  install_packages clang-19 clang-tidy-19
  cmake --preset tidy >/dev/null
  find daemon config proto -name '*.cpp' -print0 | xargs -0 -P2 -n1 clang-tidy-19 -p build/tidy --quiet || code=$?
  count_one clang-tidy "$code"
}

install_packages "${build_packages[@]}" "${test_packages[@]}"
for part in "${parts[@]}"; do "part_$part"; done
