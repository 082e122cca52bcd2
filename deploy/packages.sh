# The Debian 12 packages that the scripts need, and how to get them. Sourced by tests/run.sh and deploy/quickstart.sh.
# shellcheck shell=bash

build_packages=(
  build-essential cmake ninja-build ccache mold git ca-certificates curl
  libboost1.81-dev libboost-json1.81-dev libcli11-dev libhiredis-dev libpq-dev libspdlog-dev libsqlite3-dev libssl-dev
  libxxhash-dev libyaml-cpp-dev libzstd-dev prometheus-cpp-dev catch2
)

# For tests only: real servers, and what drives them.
test_packages=(redis-server postgresql python3 python3-pytest python3-psycopg2 sqlite3 openssl valgrind)

# Installs those of the named packages that are missing; needs no network, and no root, when none is.
install_packages() {
  local missing=() package
  for package in "$@"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then missing+=("$package"); fi
  done
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing, and only root can install them: ${missing[*]}" >&2
    return 1
  fi
  echo "Installing: ${missing[*]}" >&2
  # RUNLEVEL=1 keeps the packages' own services from being started: the tests start private servers.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}
