"""The command line (contract 1) and what `check` says of a configuration (contract 2)."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness.daemon import BINARY, ROOT, run_cli
from harness.ports import free_port
from harness.wire import call, eventually

ERROR_LINE = re.compile(r"^(?P<file>.+):(?P<line>\d+):(?P<column>\d+): (?P<message>.+)$")

GOOD = """\
listen:
  data: [127.0.0.1:8700]
  admin: 127.0.0.1:8701
origins:
  web: {http: "http://127.0.0.1:9000"}
routes:
  - {name: product, key: "product:{sku}", origin: web, load: "GET /products/{sku}"}
"""

# The block of the contract's section 2, word for word.
CONTRACT = """\
listen:
  data: [127.0.0.1:8700]          # host:port or unix:/path.sock, one or several
  admin: 127.0.0.1:8701
  token: file:/run/secrets/token  # optional; see 6
threads: auto                     # auto = CPUs this process may use (cgroup quota honoured)

store:                            # L2; omit the block for an L1-only daemon
  redis: redis://127.0.0.1:6379/0 # redis:// rediss:// redis+unix:///path?db=0
                                  # redis-cluster://h1:p1,h2:p2   redis-sentinel://h1:p1,h2:p2/mymaster/0
  prefix: "cache:"                # value of key K is at Redis key <prefix>K
  format: record                  # record (metadata kept with the value) | raw (plain body, shared with other apps)
  timeout: 100ms                  # budget of one Redis operation; past it the request goes on without Redis
  lock: {ttl: 10s, wait: 5s}      # fill lock; ttl is renewed while its load runs; wait = longest a waiter waits
  backplane: tracking             # tracking (CLIENT TRACKING, sees every writer) | pubsub (channel cache:invalidate) | off
l1:
  size: 0                         # bytes, 0 = off: then every request checks Redis. e.g. 64MiB
  ttl: 60s                        # upper bound of a value's life in L1

defaults:                         # policy; every key may be given per route too
  ttl: 1h
  ttl_jitter: 0                   # fraction in [0,1): the TTL is shortened by up to this share, at random
  negative_ttl: 0s                # how long "no such record" is remembered; 0 = not at all
  stale_while_revalidate: 0s      # serve stale for so long after the TTL, refreshing behind
  stale_if_error: 0s              # serve stale for so long when the origin fails
  early_refresh_beta: 1.0         # XFetch beta; 0 = off
  soft_timeout: 0s                # with a stale value at hand, wait at most so long for the origin; 0 = not used
  timeout: 5s                     # hard limit of one load
  max_value: 1MiB                 # larger values are served but not stored
  compress_above: 4KiB            # zstd in Redis from this size on; 0 = never
  batch: 64                       # SQL loads waiting at the same time share one query, at most so many; 1 = off

origins:
  main:    {postgres: "postgresql://app@127.0.0.1/app", connections: 4}
  catalog: {http: "http://127.0.0.1:9000", connections: 32}
  local:   {sqlite: ./demo.db}
  # each also: max_in_flight: 64, queue: 256, breaker: {failures: 5, open: 10s}, retries: 0

routes:                           # tried in order; the first whose key template matches the whole key wins
  - name: user
    key: "user:{id:int}"          # {name} matches [^:/]+ ; {name:int} {name:uuid} {name:rest} (rest = anything)
    origin: main
    load: "SELECT id, name, email FROM users WHERE id = {id}"   # placeholders are bound parameters, never text
    rows: one                     # one: JSON object, 404 when there is no row | many: JSON array, [] when none
    ttl: 30m
    tags: ["user:{id}", "people"]
    write:                        # enables /v1/records for this route
      strategy: invalidate        # invalidate | through | behind
      put: "UPDATE users SET name = {body.name}, email = {body.email} WHERE id = {id} RETURNING id, name, email"
      delete: "DELETE FROM users WHERE id = {id}"
  - name: product
    key: "product:{sku}"
    origin: catalog
    load: GET /products/{sku}     # placeholders are percent-encoded as ONE path segment or query value
    cache_control: obey           # obey (s-maxage, max-age, no-store, private, stale-*, ETag/304) | ignore
    forward_headers: []           # request headers sent on; each becomes part of the cache key
    # write: {strategy: invalidate, put: PUT /products/{sku}, delete: DELETE /products/{sku}}   the request's body is sent on
  - name: session
    key: "session:{id}"
    put: true                     # the app may PUT values itself; no origin: a miss is 404

warm:
  - name: active-users
    origin: main
    query: "SELECT id FROM users WHERE last_active_at > now() - interval '24 hours' LIMIT 1000"
    key: "user:{id}"              # placeholders are the query's columns
    when: startup                 # startup | 10m (interval) | manual
    concurrency: 8
    before_ready: false           # true: /readyz answers 503 until it has run
log: {level: info, format: text}  # text | json
"""


@pytest.fixture
def check(tmp_path):
    """check(text) is (exit code, [(line, column, message)], everything that was printed)."""
    file = tmp_path / "asidecar.yaml"

    def run(text, env=None):
        file.write_text(text)
        done = run_cli("check", "-c", str(file), env=env)
        lines = (done.stdout + done.stderr).splitlines()
        found = [m for m in map(ERROR_LINE.match, lines) if m and m["file"] == str(file)]
        return done.returncode, [(int(m["line"]), int(m["column"]), m["message"]) for m in found], done.stdout + done.stderr

    return run


# --- commands and exit codes


def test_version_prints_the_name_and_a_version():
    done = run_cli("--version")
    assert done.returncode == 0
    assert re.search(r"asidecar.*\d+\.\d+", done.stdout)


def test_help_names_every_command():
    done = run_cli("--help")
    assert done.returncode == 0
    for command in ("serve", "check", "config", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize("args", [[], ["frobnicate"], ["serve"], ["check"], ["config"], ["serve", "-c"], ["--frobnicate"],
                                  ["check", "-c", "a", "b"]], ids=" ".join)
def test_wrong_usage_exits_2(args):
    assert run_cli(*args).returncode == 2


@pytest.mark.parametrize("command", ["serve", "check", "config"])
def test_a_missing_file_exits_2_and_is_named(command, tmp_path):
    done = run_cli(command, "-c", str(tmp_path / "absent.yaml"))
    assert done.returncode == 2
    assert "absent.yaml" in done.stdout + done.stderr


WITHOUT_LIBPQ = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
void *dlopen(const char *name, int flags) {
  void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
  return real(name != 0 && strstr(name, "libpq") != 0 ? "libpq.so.absent" : name, flags);
}
"""


@pytest.mark.skipif(any(preset in BINARY for preset in ("/asan/", "/tsan/")), reason="a sanitizer wants to be loaded first")
def test_without_libpq_only_a_postgres_origin_fails_and_says_why(tmp_path):
    source, library = tmp_path / "without_libpq.c", tmp_path / "without_libpq.so"
    source.write_text(WITHOUT_LIBPQ)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    env = {"LD_PRELOAD": str(library)}
    assert run_cli("check", "-c", str(file), env=env).returncode == 0
    file.write_text(GOOD.replace("web: {http: \"http://127.0.0.1:9000\"}", "web: {http: \"http://127.0.0.1:9000\"}\n  pg: {postgres: \"host=h password=hunter2\"}"))
    assert run_cli("check", "-c", str(file)).returncode == 0
    done = run_cli("check", "-c", str(file), env=env)
    assert done.returncode == 2
    assert re.search(r"a.yaml:6:.*libpq5.*libpq.so.absent", done.stdout + done.stderr)
    assert "hunter2" not in done.stdout + done.stderr + run_cli("config", "-c", str(file), env=env).stdout


def test_a_good_file_exits_0(check):
    code, errors, _ = check(GOOD)
    assert (code, errors) == (0, [])


@pytest.mark.parametrize("command", ["serve", "config"])
def test_a_wrong_file_is_refused_by_every_command(command, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD + "nonsense: 1\n")
    done = run_cli(command, "-c", str(file))
    assert done.returncode == 2
    assert f"{file}:8:1: " in done.stdout + done.stderr


def test_an_address_in_use_exits_1(tmp_path):
    port = free_port()
    file = tmp_path / "asidecar.yaml"
    file.write_text(GOOD.replace("8700", str(port)).replace("8701", str(free_port())))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = run_cli("serve", "-c", str(file))
    assert done.returncode == 1
    assert str(port) in done.stderr


def test_a_socket_in_a_directory_that_is_not_there_exits_1(tmp_path):
    file = tmp_path / "asidecar.yaml"
    file.write_text(GOOD.replace("127.0.0.1:8700", "unix:/nonexistent/data.sock").replace("127.0.0.1:8701", "off"))
    done = run_cli("serve", "-c", str(file))
    assert done.returncode == 1
    assert "/nonexistent/data.sock" in done.stderr


def test_serve_writes_nothing_to_stdout(tmp_path):
    file = tmp_path / "asidecar.yaml"
    file.write_text(GOOD.replace("8700", str(free_port())).replace("127.0.0.1:8701", "off"))
    process = subprocess.Popen([BINARY, "serve", "-c", str(file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        log = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=15)
    finally:
        process.kill()
    assert b"ready" in log and b"stopped" in stderr
    assert stdout == b""


# --- threads


def thread_count(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/task"))


def test_threads_auto_is_one_for_each_cpu_that_the_process_may_use(start_daemon):
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        auto, one, two = (thread_count(start_daemon(threads=threads)) for threads in ("auto", 1, 2))
    finally:
        os.sched_setaffinity(0, usable)
    assert auto == one == two - 1


# --- every error, at its place


def test_every_error_of_a_file_is_listed(check):
    code, errors, _ = check("""\
listen:
  data: [127.0.0.1:8700]
  colour: red
threads: many
store:
  redis: redis://127.0.0.1:6379/0
  timeout: 100 parsecs
origins:
  web: {http: "http://127.0.0.1:9000"}
routes:
  - {name: a, key: "a:{id}", origin: wbe, load: "GET /a/{id}"}
  - {name: b, key: "b:{id}", origin: web, load: "GET /b/{idd}"}
""")
    assert code == 2
    assert [line for line, _, _ in errors] == [3, 4, 7, 11, 12]
    assert errors[0][1] == 3  # the column of `colour`


@pytest.mark.parametrize("text, line", [
    ("listne:\n  data: [127.0.0.1:8700]\n", 1),                                          # unknown key at the top
    ("l1: {size: 64MiB, tll: 1s}\n", 1),                                                # unknown key inside
    ("l1:\n  size: 64 elephants\n", 2),                                                  # unit that does not parse
    ("l1:\n  size: -1\n", 2),
    ("l1:\n  ttl: 5 apples\n", 2),
    ("defaults:\n  ttl_jitter: 1.5\n", 2),                                               # out of its range
    ("defaults:\n  ttl: [1, 2]\n", 2),                                                   # wrong type
    ("listen: hello\n", 1),
    ("store:\n  format: msgpack\n  redis: redis://127.0.0.1\n", 2),                       # not one of the choices
    ("origins:\n  x: {http: \"ftp://127.0.0.1\"}\n", 2),
    ("origins:\n  x: {http: \"http://127.0.0.1\", sqlite: ./x.db}\n", 2),                 # two kinds of origin
    ("origins:\n  x: {connections: 4}\n", 2),                                            # none
    ("routes:\n  - {name: a, key: \"a:{id}\", origin: nowhere, load: \"GET /{id}\"}\n", 2),
    ("routes:\n  - {name: a, key: \"a:{id\", put: true}\n", 2),                           # a key template that is broken
    ("routes:\n  - {name: a, key: \"a:{id:float}\", put: true}\n", 2),                    # no such type
    ("routes:\n  - {name: a, put: true}\n", 2),                                          # no key
    ("routes:\n  - {name: a, key: \"a:{id}\"}\n", 2),                                     # neither origin nor put
    ("routes:\n  - {name: a, key: \"a:{id}\", put: true}\n  - {name: a, key: \"b:{id}\", put: true}\n", 3),   # a name twice
    ("routes:\n  - {name: a, key: \"a:{id}\", put: true}\n  - {name: b, key: \"a:{x:int}\", put: true}\n", 3),  # shadowed
    ("origins:\n  x: {sqlite: ./x.db}\nroutes:\n  - name: a\n    key: \"a:{id}\"\n    origin: x\n    load: \"SELECT '{id}'\"\n", 7),  # quoted
    ("origins:\n  x: {sqlite: ./x.db}\nroutes:\n  - name: a\n    key: \"a:{id}\"\n    origin: x\n    load: \"SELECT {other}\"\n", 7),
    ("origins:\n  x: {http: \"http://h\"}\nroutes:\n  - name: a\n    key: \"a:{id}\"\n    origin: x\n    load: \"GET http://evil/{id}\"\n", 7),
    ("log: {level: loud}\n", 1),
    ("routes: [\n", 2),                                                                  # not YAML
    ("listen: {data: [nowhere]}\n", 1),
])
def test_one_error_is_reported_at_its_line(check, text, line):
    code, errors, output = check(text)
    assert code == 2
    assert errors and {at for at, _, _ in errors} <= {line, line + 1}, output
    assert line in {at for at, _, _ in errors} or "routes: [" in text, output


def test_a_near_miss_gets_a_hint(check):
    _, errors, _ = check("defaults: {ttl_jiter: 0.1}\n")
    assert "ttl_jitter" in errors[0][2]


@pytest.mark.parametrize("url", ["redis-cluster://127.0.0.1:7000,127.0.0.1:7001"])
def test_redis_forms_that_come_later_say_so(check, url):
    code, errors, _ = check(f"store:\n  redis: {url}\n")
    assert code == 2
    assert errors[0][0] == 2
    assert "not yet supported" in errors[0][2]


@pytest.mark.parametrize("url, good", [("redis-sentinel://h1,h2:26380/mymaster", True), ("redis-sentinel://u:p@h1:1/m/3", True), ("redis-sentinel://[::1]:1,h/m", True),
                                       ("redis-sentinel://u:p@h1,u:p@h2/m", False), ("redis-sentinel://h1", False), ("redis-sentinel://h1/", False), ("redis-sentinel:///m", False), ("redis-sentinel://h1,/m", False),
                                       ("redis-sentinel://h1/m/x", False), ("redis-sentinel://h1/m m", False), ("redis-sentinel://h1:0/m", False),
                                       ("rediss://h1", True), ("rediss://u:p@h1:1/3", True), ("rediss://h1/x", False), ("rediss:///path.sock", False),
                                       ("redis://h1/", True), ("redis://h1/1/2", False), ("redis+unix:///a.sock?db=", False)])
def test_forms_of_redis_urls(check, url, good):
    code, errors, _ = check(f"store:\n  redis: {url}\nroutes:\n  - {{name: s, key: \"s:{{id}}\", put: true}}\n")
    assert code == (0 if good else 2)
    if not good:
        assert errors[0][0] == 2 and "expected redis" in errors[0][2]


@pytest.mark.parametrize("store, line, what", [("redis: redis://h\n  ca: x.pem", 3, "only a rediss:// store"), ("redis: redis://h\n  cert: x.pem\n  key: y.pem", 3, "only a rediss:// store"),
                                               ("redis: rediss://h\n  cert: x.pem", 3, "together"), ("redis: rediss://h\n  key: x.pem", 3, "together"),
                                               ("redis: redis-sentinel://h/m\n  ca: x.pem", 3, "Sentinel over TLS is not supported"),
                                               ("redis: redis://h\n  sentinel_password: hush", 3, "only a redis-sentinel:// store")])
def test_options_of_the_store_that_its_url_has_no_use_for(check, store, line, what):
    code, errors, text = check(f"store:\n  {store}\nroutes:\n  - {{name: s, key: \"s:{{id}}\", put: true}}\n")
    assert code == 2 and "hush" not in text
    assert any(at == line and what in message for at, _, message in errors)


@pytest.mark.parametrize("listen", ["data: [0.0.0.0:8700]", "data: [127.0.0.1:8700, \"10.1.2.3:8700\"]", "data: [\"[::]:8700\"]", "admin: 0.0.0.0:8701"])
def test_a_non_loopback_address_without_token_is_an_error(check, listen):
    code, errors, _ = check(f"listen:\n  {listen}\n")
    assert code == 2
    assert errors[0][0] == 2


@pytest.mark.parametrize("extra", ["token: sesame-0123456789", "insecure: true"])
def test_a_non_loopback_address_is_fine_with_a_token_or_when_it_is_said_to_be(check, extra):
    code, errors, _ = check(f"listen:\n  data: [0.0.0.0:8700]\n  {extra}\n")
    assert (code, errors) == (0, [])


@pytest.mark.parametrize("option, value", [
    ("data", "127.0.0.1:0"), ("data", "127.0.0.1:65536"), ("data", "127.0.0.1"), ("data", "unix:data.sock"), ("data", "cache.internal:8700"),
    ("admin", "127.0.0.1:0"), ("admin", "unix:admin.sock"),
    ("hosts", "*"), ("hosts", "*.internal"), ("hosts", "cache.internal:8700"),
])
def test_an_address_or_host_that_cannot_work_is_an_error_at_its_place(check, option, value):
    code, errors, output = check(f"listen:\n  {option}: \"{value}\"\n")
    assert code == 2
    assert [error[:2] for error in errors] == [(2, len(option) + 5)], output


@pytest.mark.parametrize("token", ["token: ${TEST_TOKEN}", "token: ${TEST_TOKEN:-}", "token: \"\"", "token:", "token: ~"])
@pytest.mark.parametrize("data", ["127.0.0.1:8700", "0.0.0.0:8700"])
def test_an_empty_token_is_an_error_and_never_no_token(check, data, token):
    code, errors, output = check(f"listen:\n  data: {data}\n  {token}\n", env={"TEST_TOKEN": ""})
    assert code == 2
    assert [line for line, _, _ in errors] == [3], output


# --- values


@pytest.mark.parametrize("value", ["250ms", "2s", "5m", "1h", "7d"])
def test_durations_have_units(check, value):
    assert check(f"defaults: {{stale_if_error: {value}}}\n")[0] == 0


@pytest.mark.parametrize("value", ["512", "4KiB", "64MiB"])
def test_sizes_have_units(check, value):
    assert check(f"l1: {{size: {value}}}\n")[0] == 0


@pytest.mark.parametrize("option, value", [
    ("ttl", "90"), ("ttl", "1.5s"), ("ttl", "1h30m"), ("ttl", "-5s"), ("ttl", "18446744073709552s"), ("ttl", "99999999999999999999s"),
    ("size", "64M"), ("size", "1.5MiB"), ("size", "17179869185GiB"), ("size", "99999999999999999999"),
])
def test_durations_and_sizes_of_other_forms_are_errors_at_their_place(check, option, value):
    code, errors, output = check(f"l1:\n  {option}: {value}\n")
    assert code == 2
    assert [error[:2] for error in errors] == [(2, len(option) + 5)], output


def test_environment_variables_expand_in_values(check):
    text = "store: {redis: \"${TEST_REDIS}\", prefix: \"${TEST_PREFIX:-fallback:}\"}\n"
    assert check(text, env={"TEST_REDIS": "redis://127.0.0.1:6379/3"})[0] == 0
    code, errors, _ = check(text, env={"TEST_REDIS": "gopher://x"})
    assert code == 2 and errors[0][0] == 1


def test_an_environment_variable_that_is_not_set_is_an_error(check):
    code, errors, _ = check("store:\n  redis: ${ASIDECAR_TEST_NOT_SET}\n")
    assert code == 2
    assert errors[0][0] == 2 and "ASIDECAR_TEST_NOT_SET" in errors[0][2]


def test_config_prints_defaults_and_expansions(tmp_path):
    file = tmp_path / "asidecar.yaml"
    file.write_text(GOOD + "store: {redis: \"redis://127.0.0.1:6379/0\", prefix: \"${P:-pre}:\"}\n")
    done = run_cli("config", "-c", str(file))
    assert done.returncode == 0
    for expected in ("max_value", "1MiB", "pre:", "connections", "stale_if_error", "product:{sku}"):
        assert expected in done.stdout


def test_config_never_prints_a_secret(tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("token-in-a-file-s3cr3t\n")
    file = tmp_path / "asidecar.yaml"
    file.write_text(f"""\
listen: {{token: "file:{token_file}"}}
store: {{redis: "redis://user:redis-s3cr3t@127.0.0.1:6379/0"}}
origins:
  a: {{postgres: "postgresql://app:pg-s3cr3t@127.0.0.1/app"}}
  b: {{postgres: "host=127.0.0.1 user=app password=kw-s3cr3t dbname=app"}}
  c: {{postgres: "postgresql://127.0.0.1/app?user=app&password=query-s3cr3t"}}
  d: {{http: "http://127.0.0.1:9000"}}
""")
    done = run_cli("config", "-c", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "***" in done.stdout
    assert "s3cr3t" not in done.stdout + done.stderr


def test_what_config_prints_is_a_configuration(tmp_path):
    file = tmp_path / "asidecar.yaml"
    file.write_text(GOOD)
    again = tmp_path / "again.yaml"
    again.write_text(run_cli("config", "-c", str(file)).stdout)
    assert run_cli("check", "-c", str(again)).returncode == 0
    assert run_cli("config", "-c", str(again)).stdout == again.read_text()


def test_errors_do_not_repeat_secrets(check):
    _, errors, output = check("store:\n  redis: redis://user:s3cr3t@127.0.0.1:notaport/0\norigins:\n  a: {postgres: \"postgresql://u:s3cr3t@[/x\"}\n")
    assert [line for line, _, _ in errors] == [2, 4]
    assert "s3cr3t" not in output


def test_a_secret_file_that_cannot_be_read_is_an_error_at_its_line(check):
    code, errors, _ = check("listen:\n  token: file:/nonexistent/token\n")
    assert code == 2
    assert errors[0][0] == 2


def test_the_configuration_of_the_contract_is_valid(check, tmp_path):
    (tmp_path / "token").write_text("sesame-0123456789\n")
    code, errors, _ = check(CONTRACT.replace("/run/secrets/token", str(tmp_path / "token")))
    assert (code, errors) == (0, [])


def test_the_example_in_the_tree_is_valid():
    assert run_cli("check", "-c", str(ROOT / "config/example.yaml")).returncode == 0


# --- demo


def test_the_demo_serves_a_slow_miss_and_then_a_hit():
    process = subprocess.Popen([BINARY, "demo"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    data, admin = ("127.0.0.1", 8700), ("127.0.0.1", 8701)
    try:
        def ready():
            if process.poll() is not None:
                stderr = process.stderr.read().decode()
                if "in use" in stderr:
                    pytest.skip("port 8700 or 8701 is taken on this machine")
                raise AssertionError(stderr)
            try:
                return call(admin, "GET", "/readyz").status == 200
            except OSError:
                return False
        eventually(ready, within=20)
        started = time.monotonic()
        miss = call(data, "GET", "/v1/keys/user:1")
        slow = time.monotonic() - started
        started = time.monotonic()
        hit = call(data, "GET", "/v1/keys/user:1")
        fast = time.monotonic() - started
        assert (miss.status, hit.status) == (200, 200)
        assert miss.headers["cache-status"] == "asidecar; fwd=uri-miss; stored"
        assert hit.cache.hit
        assert slow >= 0.15 > fast
        assert miss.body == hit.body
        assert json.loads(hit.body)["id"] == 1 and "name" in json.loads(hit.body)
        assert call(data, "GET", "/v1/keys/user:99").slug == "no-record"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stderr.close()
