"""The command line (contract 1) and what `check` says of a configuration (contract 2)."""
import json
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


@pytest.mark.parametrize("url", ["rediss://127.0.0.1:6379/0", "redis-cluster://127.0.0.1:7000,127.0.0.1:7001",
                                 "redis-sentinel://127.0.0.1:26379/mymaster/0"])
def test_redis_forms_that_come_later_say_so(check, url):
    code, errors, _ = check(f"store:\n  redis: {url}\n")
    assert code == 2
    assert errors[0][0] == 2
    assert "not yet supported" in errors[0][2]


@pytest.mark.parametrize("listen", ["data: [0.0.0.0:8700]", "data: [127.0.0.1:8700, \"10.1.2.3:8700\"]", "data: [\"[::]:8700\"]", "admin: 0.0.0.0:8701"])
def test_a_non_loopback_address_without_token_is_an_error(check, listen):
    code, errors, _ = check(f"listen:\n  {listen}\n")
    assert code == 2
    assert errors[0][0] == 2


@pytest.mark.parametrize("extra", ["token: sesame-0123456789", "insecure: true"])
def test_a_non_loopback_address_is_fine_with_a_token_or_when_it_is_said_to_be(check, extra):
    code, errors, _ = check(f"listen:\n  data: [0.0.0.0:8700]\n  {extra}\n")
    assert (code, errors) == (0, [])


# --- values


@pytest.mark.parametrize("value", ["250ms", "2s", "5m", "1h", "7d"])
def test_durations_have_units(check, value):
    assert check(f"defaults: {{stale_if_error: {value}}}\n")[0] == 0


@pytest.mark.parametrize("value", ["512", "4KiB", "64MiB"])
def test_sizes_have_units(check, value):
    assert check(f"l1: {{size: {value}}}\n")[0] == 0


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
