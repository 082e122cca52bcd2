# Debian 12 packages, sourced by deploy/quickstart.sh and tests/run.sh.
build_packages=(build-essential cmake ninja-build ccache mold libboost1.81-dev libboost-json1.81-dev libhiredis-dev libpq-dev
  libspdlog-dev libyaml-cpp-dev catch2 libzstd-dev libssl-dev libsqlite3-dev libcli11-dev prometheus-cpp-dev libxxhash-dev curl
  ca-certificates)
test_packages=(redis-server postgresql python3 python3-pytest python3-psycopg2 openssl)

# Installs what is missing; touches neither network nor dpkg when nothing is.
install_missing() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "installing: ${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
