#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test but the long runs. tests/run.sh [unit|integration] runs a part.
# The last line counts: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
part=${1:-all}
source deploy/packages.sh
install_missing "${build_packages[@]}" "${test_packages[@]}" || exit 1
cmake --preset release >/dev/null && cmake --build --preset release || { echo "the build failed"; echo "0 passed, 1 failed"; exit 1; }

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
passed=0 failed=0

# count FILE STATUS: adds a JUnit file's cases; a part that left none and failed counts as one failure.
count() {
  local p=0 f=0
  if [ -s "$1" ]; then
    read -r p f < <(/usr/bin/python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
cases = list(tree.parse(sys.argv[1]).iter("testcase"))
bad = sum(1 for c in cases if c.find("failure") is not None or c.find("error") is not None)
skipped = sum(1 for c in cases if c.find("skipped") is not None)
print(len(cases) - bad - skipped, bad)
PY
    )
  fi
  [ "$2" -ne 0 ] && [ "$f" -eq 0 ] && f=1
  passed=$((passed + p)) failed=$((failed + f))
}

if [ "$part" != integration ]; then
  build/release/tests/unit_tests -r junit -o "$results/unit.xml"
  status=$?
  count "$results/unit.xml" $status
  [ $status -eq 0 ] || build/release/tests/unit_tests
  if /usr/bin/python3 tests/layers.py && /usr/bin/python3 tests/layers.py --self-test; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  if build/release/asidecar reference | cmp - docs/CONFIGURATION.md && build/release/asidecar schema | cmp - config/asidecar.schema.json; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "regenerate: build/release/asidecar reference > docs/CONFIGURATION.md; build/release/asidecar schema > config/asidecar.schema.json"
  fi
fi
if [ "$part" != unit ]; then
  ASIDECAR_BIN=${ASIDECAR_BIN:-$PWD/build/release/asidecar} /usr/bin/python3 -m pytest -q -p no:cacheprovider --junitxml="$results/integration.xml" tests/integration
  count "$results/integration.xml" $?
fi
if [ "$part" = all ]; then
  cmake --preset asan >/dev/null && cmake --build --preset asan --target unit_tests && build/asan/tests/unit_tests -r junit -o "$results/asan.xml"
  count "$results/asan.xml" $?
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
