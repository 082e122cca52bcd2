#!/usr/bin/env bash
# From a clean checkout on Debian 12 to a running demo: installs what the build needs (as root, when something is missing),
# builds, then serves sample data on 127.0.0.1:8700 until Ctrl-C.
#
#   deploy/quickstart.sh           serve, after printing curl lines to try
#   deploy/quickstart.sh --smoke   run those curl lines, check the answers, stop; exit 0 or 1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/packages.sh

data=http://127.0.0.1:8700
admin=http://127.0.0.1:8701

# Each line is what a newcomer types, then a tab, then what the answer must match (a grep -E pattern; several with ' && ').
curl_lines=(
  "curl -si $data/v1/keys/user:1	^HTTP/1.1 200 && ^Cache-Status: asidecar; fwd=uri-miss; stored && \"id\": ?1 && \"name\""
  "curl -si $data/v1/keys/user:1	^HTTP/1.1 200 && ^Cache-Status: asidecar; hit; && \"id\": ?1 && \"name\""
  "curl -si $data/v1/keys/user:99	^HTTP/1.1 404 && urn:asidecar:no-record"
  "curl -si -X DELETE $data/v1/keys/user:1	^HTTP/1.1 204"
  "curl -si $data/v1/keys/user:1	^HTTP/1.1 200 && ^Cache-Status: asidecar; fwd=uri-miss; stored"
  "curl -s $admin/metrics/cache	\"hitRate\""
)

print_curl_lines() {
  echo "Try these in another terminal. The demo's origin takes 150 ms, so a miss can be told from a hit:"
  local line
  for line in "${curl_lines[@]}"; do echo "  ${line%%$'\t'*}"; done
}

# Runs one line and checks its answer; says what it got when that is wrong.
check_curl_line() {
  local command=${1%%$'\t'*} patterns=${1#*$'\t'} answer pattern
  answer=$(eval "$command --max-time 10" | tr -d '\r') || true
  while [ -n "$patterns" ]; do
    pattern=${patterns%% && *}
    if [ "$pattern" = "$patterns" ]; then patterns=; else patterns=${patterns#* && }; fi
    if ! grep -qiE -- "$pattern" <<<"$answer"; then
      printf 'FAILED  %s\n        expected %s in:\n%s\n' "$command" "$pattern" "$answer"
      return 1
    fi
  done
  echo "ok      $command"
}

smoke() {
  local failed=0 line ready=no
  log=$(mktemp)
  build/release/asidecar demo 2>"$log" &
  pid=$!
  trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi; rm -f "$log"' EXIT
  for _ in $(seq 100); do
    if ! kill -0 "$pid" 2>/dev/null; then break; fi
    if curl -sf -o /dev/null --max-time 1 "$admin/readyz"; then ready=yes; break; fi
    sleep 0.1
  done
  if [ "$ready" = no ] || ! kill -0 "$pid" 2>/dev/null; then
    echo "FAILED  the demo does not start:"
    cat "$log"
    return 1
  fi
  for line in "${curl_lines[@]}"; do check_curl_line "$line" || failed=1; done
  kill "$pid"
  if wait "$pid"; then echo "ok      stopped with exit code 0"; else echo "FAILED  exit code $? on SIGTERM"; failed=1; fi
  pid=
  return "$failed"
}

case "${1:-}" in
  "" | --smoke) ;;
  *) echo "usage: deploy/quickstart.sh [--smoke]" >&2; exit 2 ;;
esac

install_packages "${build_packages[@]}"
cmake --preset release >/dev/null
cmake --build --preset release --target asidecar

if [ "${1:-}" = --smoke ]; then
  smoke || exit 1
  exit 0
fi
print_curl_lines
exec build/release/asidecar demo
