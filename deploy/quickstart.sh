#!/usr/bin/env bash
# From a clean checkout on Debian 12 to a running demo: installs, builds, serves. --smoke checks the answers itself and exits.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/packages.sh
install_missing "${build_packages[@]}"
cmake --preset release >/dev/null
cmake --build --preset release

data=http://127.0.0.1:8700 admin=http://127.0.0.1:8701
if [ "${1:-}" != --smoke ]; then
  cat <<TEXT

Serving the demo. In another terminal, try:
  curl -i $data/v1/keys/user:1     # a miss: the origin takes 150 ms
  curl -i $data/v1/keys/user:1     # a hit
  curl -i $data/v1/keys/user:99    # no such record
  curl -i -X DELETE $data/v1/keys/user:1
  curl $admin/metrics/cache
TEXT
  exec build/release/asidecar demo
fi

log=$(mktemp)
build/release/asidecar demo 2>"$log" &
demo=$!
trap 'kill $demo 2>/dev/null || true; wait $demo 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 100); do curl -fsS -o /dev/null $admin/readyz 2>/dev/null && break; sleep 0.05; done
kill -0 $demo 2>/dev/null || { echo "smoke: the demo did not start:" >&2; cat "$log" >&2; exit 1; }

# expect TEXT CURL-ARGUMENTS…: the answer must contain TEXT.
expect() {
  local text=$1 answer
  shift
  answer=$(curl -sS -m 5 -i "$@")
  [[ $answer == *"$text"* ]] || { printf 'smoke: expected "%s" from curl %s, got:\n%s\n' "$text" "$*" "$answer" >&2; exit 1; }
}
expect 'fwd=uri-miss; stored' $data/v1/keys/user:1
expect '; hit; ttl=' $data/v1/keys/user:1
expect '"name":"Ada Lovelace"' $data/v1/keys/user:1
expect 'urn:asidecar:no-record' $data/v1/keys/user:99
expect ' 204 ' -X DELETE $data/v1/keys/user:1
expect 'fwd=uri-miss' $data/v1/keys/user:1
expect '"hitRate":' $admin/metrics/cache
echo "smoke: ok"
