"""Start, drain, reload, stop (contract 1)."""
import json
import os
import signal
import socket
import threading
import time

import pytest

from harness.daemon import run_cli
from harness.ports import free_port
from harness.upstream import Reply
from harness.wire import call, eventually, get_text


def parts(store, upstream, *names):
    return {"store": store, "origins": {"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
            "routes": [{"name": name, "key": f"{name}:{{id}}", "origin": "web", "load": f"GET /{name}/{{id}}", "cache_control": "ignore"} for name in names]}


def reload(daemon, **config):
    """Writes the file and waits until the daemon has said something about it."""
    daemon.write_config(**config)
    signal_reload(daemon)


def signal_reload(daemon):
    before = len(daemon.log())
    daemon.signal(signal.SIGHUP)
    eventually(lambda: len(daemon.log()) > before)


# --- stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_finishes_the_request_in_flight_and_exits_0(start_daemon, store, upstream, number):
    gate = threading.Event()
    upstream.on("/a/1", Reply("1", gate=gate))
    daemon = start_daemon(**parts(store, upstream, "a"))
    with daemon.wire() as wire:
        wire.send(get_text("a:1"))
        upstream.wait_for("/a/1")
        daemon.signal(number)
        time.sleep(0.2)
        assert daemon.running, "it waits for the request"
        gate.set()
        answer = wire.read()
        assert (answer.status, answer.body) == (200, b"1")
        assert wire.is_closed()
    assert daemon.wait() == 0


def test_a_stopping_daemon_accepts_no_new_connection(start_daemon, store, upstream):
    gate = threading.Event()
    upstream.on("/a/1", Reply("1", gate=gate))
    daemon = start_daemon(**parts(store, upstream, "a"))
    wire = daemon.wire().send(get_text("a:1"))
    upstream.wait_for("/a/1")
    daemon.signal(signal.SIGTERM)

    def refused():
        try:
            daemon.wire(tcp=True).close()
            return False
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # was still in the backlog of the socket that closed just then
            return False

    eventually(refused, within=3)
    gate.set()
    assert wire.read().status == 200
    wire.close()
    assert daemon.wait() == 0


def test_idle_connections_do_not_hold_up_a_stop(start_daemon, store, upstream):
    daemon = start_daemon(**parts(store, upstream, "a"))
    wires = [daemon.wire(tcp) for tcp in (False, True) for _ in range(5)]
    wires[0].ask(get_text("a:none"))
    started = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - started < 2
    for wire in wires:
        wire.close()


def test_a_stop_under_load_drops_no_accepted_request(start_daemon, store, upstream):
    upstream.on("*", Reply("1", delay=0.2))
    daemon = start_daemon(**parts(store, upstream, "a"))
    wires = [daemon.wire().send(get_text(f"a:{i}")) for i in range(50)]
    upstream.wait_for(None, 50)
    daemon.signal(signal.SIGTERM)
    assert {wire.read().status for wire in wires} == {200}
    for wire in wires:
        wire.close()
    assert daemon.wait() == 0


@pytest.mark.slow
def test_a_request_that_does_not_end_holds_a_stop_for_ten_seconds_at_most(start_daemon, store, upstream):
    gate = threading.Event()
    upstream.on("/a/1", Reply("1", gate=gate))
    config = parts(store, upstream, "a")
    config["routes"][0]["timeout"] = "60s"
    daemon = start_daemon(**config)
    wire = daemon.wire(timeout=30).send(get_text("a:1"))
    upstream.wait_for("/a/1")
    started = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(within=15) == 0
    assert 8 < time.monotonic() - started < 13
    gate.set()
    wire.close()


# --- start


def test_a_killed_daemon_can_be_started_again_on_its_sockets(start_daemon, store, upstream):
    upstream.on("/a/1", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    daemon.get("a:1")
    daemon.kill()
    daemon.start()
    assert daemon.get("a:1").cache.hit, "Redis outlives the daemon"


def test_a_second_daemon_does_not_take_the_first_ones_socket(start_daemon, store, upstream):
    daemon = start_daemon(**parts(store, upstream, "a"))
    assert run_cli("serve", "-c", daemon.file).returncode == 1
    assert daemon.get("a:none").status == 404
    assert daemon.admin("GET", "/readyz").status == 200


def test_a_stopped_daemon_leaves_no_socket_file(start_daemon, store, upstream):
    daemon = start_daemon(**parts(store, upstream, "a"))
    daemon.stop()
    assert not os.path.exists(daemon.data)


def test_both_apis_may_listen_on_an_ipv6_address(start_daemon, store):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    data, admin = free_port(), free_port()
    daemon = start_daemon.make(store=store, routes=[{"name": "s", "key": "s:{id}", "put": True}],
                               listen={"data": f"[::1]:{data}", "admin": f"[::1]:{admin}"})
    daemon.admin_address = ("::1", admin)
    daemon.start()
    assert call(("::1", data), "GET", "/v1/keys/s:1").slug == "no-record"


def test_a_daemon_without_store_and_l1_serves(start_daemon, upstream):
    upstream.on("/a/1", Reply("1"))
    daemon = start_daemon(**parts(None, upstream, "a"))
    for _ in range(2):
        assert daemon.get("a:1").body == b"1"


# --- reload


def test_sighup_loads_new_routes(start_daemon, store, upstream):
    upstream.on("*", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    assert daemon.get("b:1").slug == "no-route"
    reload(daemon, **parts(store, upstream, "b"))
    eventually(lambda: daemon.get("b:1").status == 200)
    eventually(lambda: daemon.get("a:1").status == 404)


@pytest.mark.parametrize("text, reason", [("routes: [\n", ""), ("nonsense: 1\n", "nonsense"), ("listen: {data: [\"0.0.0.0:8700\"]}\n", "0.0.0.0:8700")],
                         ids=["no YAML", "an unknown key", "an insecure address"])
def test_a_bad_file_keeps_the_old_configuration_and_the_log_says_why(start_daemon, store, upstream, text, reason):
    upstream.on("*", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    with open(daemon.file, "w") as file:
        file.write(text)
    signal_reload(daemon)
    eventually(lambda: f"{daemon.file}:1:" in daemon.log() or f"{daemon.file}:2:" in daemon.log())
    eventually(lambda: reason in daemon.log())
    assert daemon.get("a:1").status == 200


def test_a_file_that_is_gone_keeps_the_old_configuration(start_daemon, store, upstream):
    upstream.on("*", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    os.remove(daemon.file)
    signal_reload(daemon)
    assert daemon.get("a:1").status == 200


FIXED = {
    "listen.data": lambda daemon: {"listen": {"data": f"unix:{daemon.data}2", "admin": f"unix:{daemon.admin_address}"}},
    "listen.admin": lambda daemon: {"listen": {"data": [f"unix:{daemon.data}", f"127.0.0.1:{daemon.tcp[1]}"], "admin": "off"}},
    "threads": lambda daemon: {"threads": 3},
    "l1.size": lambda daemon: {"l1": {"size": "1MiB"}},
    "log.format": lambda daemon: {"log": {"format": "json"}},
    "one of store.redis, ca, cert, key, sentinel_password, prefix, format and backplane": lambda daemon: {"store": {"redis": "redis://127.0.0.1:1/0"}},
}


@pytest.mark.parametrize("option", FIXED)
def test_a_reload_that_changes_what_is_fixed_at_start_is_refused_and_the_log_names_it(start_daemon, store, upstream, option):
    upstream.on("*", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    before = len(daemon.log())
    reload(daemon, **{**parts(store, upstream, "b"), **FIXED[option](daemon)})
    eventually(lambda: f'"{option} ' in daemon.log()[before:])
    assert daemon.get("a:1").status == 200
    assert daemon.get("b:1").slug == "no-route"


def test_a_request_in_flight_finishes_on_the_old_configuration(start_daemon, store, upstream):
    gate = threading.Event()
    upstream.on("/a/1", Reply("old", gate=gate))
    upstream.on("/b/1", Reply("new"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    with daemon.wire() as wire:
        wire.send(get_text("a:1"))
        upstream.wait_for("/a/1")
        reload(daemon, **parts(store, upstream, "b"))
        eventually(lambda: daemon.get("b:1").body == b"new")
        gate.set()
        assert wire.read().body == b"old"
        # The connection goes on, on the new configuration.
        assert wire.ask(get_text("b:1")).body == b"new"


def test_reloads_under_load_fail_no_request(start_daemon, store, upstream):
    upstream.on("*", Reply("1"))
    daemon = start_daemon(**parts(store, upstream, "a"))
    stop, bad = threading.Event(), []

    def read_on(worker):
        i = 0
        while not stop.is_set():
            i += 1
            answer = daemon.get(f"a:{worker}-{i}")
            if answer.status != 200:
                bad.append(answer)

    workers = [threading.Thread(target=read_on, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for i in range(10):
        daemon.write_config(**parts(store, upstream, "a", f"b{i}"))
        daemon.signal(signal.SIGHUP)
        time.sleep(0.05)
    stop.set()
    for worker in workers:
        worker.join()
    assert not bad
    eventually(lambda: daemon.get("b9:1").status == 200)


def test_a_new_token_holds_after_a_reload(start_daemon, store, tmp_path):
    file = tmp_path / "token"
    file.write_text("first-token")
    config = {"store": store, "routes": [{"name": "s", "key": "s:{id}", "put": True}]}
    daemon = start_daemon(listen={"token": f"file:{file}"}, **config)
    assert daemon.get("s:1", authorization="Bearer first-token").status == 404
    file.write_text("second-token")
    signal_reload(daemon)
    eventually(lambda: daemon.get("s:1", authorization="Bearer second-token").status == 404)
    assert daemon.get("s:1", authorization="Bearer first-token").status == 401


def test_the_cache_survives_a_reload(start_daemon, upstream):
    upstream.on("*", Reply("1"))
    config = {**parts(None, upstream, "a"), "l1": {"size": "1MiB"}}
    daemon = start_daemon(**config)
    daemon.get("a:1")
    reload(daemon, **{**parts(None, upstream, "a", "b"), "l1": {"size": "1MiB"}})
    eventually(lambda: daemon.get("b:1").status == 200)
    assert daemon.get("a:1").cache.hit


# --- log


def test_json_logs_are_one_object_per_line(start_daemon, store, upstream):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**parts(store, upstream, "a"), log={"format": "json", "level": "debug"})
    daemon.request("GET", "/v1/keys/a:%22quote%5C")
    daemon.stop()
    lines = daemon.log().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.parametrize("level, ready, failed", [("debug", True, True), ("info", True, True), ("warn", False, True), ("error", False, False)])
def test_the_log_holds_what_its_level_says(start_daemon, store, upstream, level, ready, failed):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**parts(store, upstream, "a"), log={"level": level})
    assert daemon.get("a:1").status == 502
    daemon.stop()
    log = daemon.log()
    assert ("ready" in log, "load failed" in log) == (ready, failed), log
