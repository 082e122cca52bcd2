"""What reviews found, each named after what broke."""
import os
import pathlib
import signal
import socket
import threading
import time

import pytest

from harness.daemon import run_cli
from harness.upstream import Reply
from harness.wire import eventually, get_text


def config(upstream, **more):
    return {"origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "pair", "key": "{kind}:{id}", "origin": "web", "load": "GET /{kind}/{id}", **more}]}


def test_a_short_key_whose_placeholder_begins_it_is_loaded_as_it_is(start_daemon, upstream):
    upstream.on("/abc/1", Reply("fine"))
    daemon = start_daemon(**config(upstream))
    assert daemon.get("abc:1").body == b"fine"


def test_pipelined_requests_that_need_no_waiting_are_all_answered(start_daemon, upstream):
    daemon = start_daemon(**config(upstream))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        connection.connect(daemon.data)
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        got = b""
        while got.count(b"HTTP/1.1 404") < 20:
            piece = connection.recv(65536)
            assert piece
            got += piece


def test_a_very_large_foreign_value_does_not_cut_the_redis_connection(start_daemon, upstream, redis, prefix):
    upstream.on("/abc/1", Reply("small"))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, **config(upstream))
    redis.client()("SET", f"{prefix}abc:1", "x" * (3 << 20))
    assert daemon.get("abc:1").cache.stored
    assert daemon.get("abc:1").cache.hit


def test_the_daemons_own_names_cannot_be_invalidated(start_daemon, upstream, redis):
    daemon = start_daemon(store={"redis": redis.url, "prefix": ""}, **config(upstream))
    answer = daemon.request("POST", "/v1/invalidate", body=b'{"keys":["asidecar:lock:{x}"]}')
    assert answer.status == 400 and answer.slug == "bad-key"


def test_a_signal_right_after_start_does_not_take_the_drain_time(start_daemon, upstream, own_redis):
    own_redis.stall()
    try:
        daemon = start_daemon(store={"redis": own_redis.url}, **config(upstream))
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 5
    finally:
        own_redis.go_on()


# --- files, memory, secrets


def test_a_file_where_the_socket_should_be_is_left_alone(start_daemon, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    config_file = tmp_path / "c.yaml"
    config_file.write_text(f'listen: {{data: "unix:{precious}", admin: "off"}}\n')
    done = run_cli("serve", "-c", str(config_file))
    assert done.returncode == 1 and "cannot listen" in done.stderr
    assert precious.read_text() == "precious"


def test_a_postgresql_result_that_is_too_large_never_reaches_the_daemon(start_daemon, postgres):
    daemon = start_daemon(origins={"db": {"postgres": postgres.url, "max_response": "1MiB"}},
                          routes=[{"name": "big", "key": "big:{n:int}", "origin": "db", "load": "SELECT repeat('x', {n}::int) AS text"},
                                  {"name": "many", "key": "many:{n:int}", "origin": "db", "rows": "many",
                                   "load": "SELECT repeat('x', 1000) AS text FROM generate_series(1, {n}::int)"}])
    assert daemon.get("big:1000").status == 200
    assert daemon.get("many:1000").status == 200
    assert daemon.get("big:100000000").status == 502
    assert daemon.get("many:100000").status == 502
    assert daemon.get("big:1001").status == 200, "the breaker is not opened by keys"
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kib < (600 if "ASIDECAR_SLOW" in os.environ else 60) * 1024  # sanitizers need much more


# --- what a column is called


@pytest.mark.parametrize("columns, expected", [("7 AS t", {"t": 7}), ("'x' AS t, 1 AS j", {"t": "x", "j": 1}),
                                               ("1 AS id, ROW(7, 8) AS t", {"id": 1, "t": {"f1": 7, "f2": 8}}), ("1 AS s, 2 AS k", {"s": 1, "k": 2})])
@pytest.mark.parametrize("rows", ["one", "many"])
def test_columns_may_be_called_anything(start_daemon, postgres, columns, expected, rows):
    daemon = start_daemon(origins={"db": {"postgres": postgres.url}},
                          routes=[{"name": "c", "key": "c:{id:int}", "origin": "db", "rows": rows, "load": f"SELECT {columns} WHERE {{id}} = 1"}])
    assert daemon.get("c:1").json() == (expected if rows == "one" else [expected])


# --- tiers and loads


def test_a_stale_answer_of_a_daemon_without_redis_is_from_l1(start_daemon, upstream):
    upstream.on("/abc/1", Reply("old"), Reply(status=500))
    daemon = start_daemon(**config(upstream, cache_control="ignore", ttl="1s", stale_if_error="60s"))
    daemon.get("abc:1")
    time.sleep(1.1)
    stale = daemon.get("abc:1")
    assert stale.body == b"old" and stale.cache.detail == "L1" and stale.cache.ttl < 0


def test_no_cache_does_not_share_a_load_that_began_before_it(start_daemon, upstream):
    gate = threading.Event()
    upstream.on("/abc/1", Reply("old", gate=gate), Reply("new"))
    daemon = start_daemon(**config(upstream, cache_control="ignore"))
    with daemon.wire() as first, daemon.wire() as second, daemon.wire() as third:
        first.send(get_text("abc:1"))
        upstream.wait_for("/abc/1")
        second.send(get_text("abc:1", "Cache-Control: no-cache"))
        third.send(get_text("abc:1", "Cache-Control: no-cache"))
        time.sleep(0.1)
        gate.set()
        assert first.read().body == b"old"
        assert second.read().body == third.read().body == b"new"
    assert upstream.count("/abc/1") <= 3, "each of the two begins one, or they share it"
    assert daemon.get("abc:1").body == b"new"


def test_no_store_waits_for_the_load_of_another_instance(start_daemon, upstream, store):
    upstream.on("/abc/1", Reply("1", delay=0.5))
    one, two = (start_daemon(store=store, **config(upstream, cache_control="ignore")) for _ in range(2))
    with one.wire() as first, two.wire() as second:
        first.send(get_text("abc:1"))
        upstream.wait_for("/abc/1")
        second.send(get_text("abc:1", "Cache-Control: no-store"))
        assert first.read().cache.stored
        assert not second.read().cache.stored
    assert upstream.running_max == 1


def test_only_if_cached_causes_no_load(start_daemon, upstream, store):
    upstream.on("/abc/1", Reply("1"))
    daemon = start_daemon(store=store, **config(upstream, cache_control="ignore", ttl="1s", stale_while_revalidate="60s"))
    daemon.get("abc:1")
    time.sleep(1.1)
    assert daemon.get("abc:1", cache_control="only-if-cached").cache.ttl < 0
    time.sleep(0.2)
    assert upstream.count("/abc/1") == 1


# --- one value, one key


def test_spellings_of_one_typed_key_are_one_value(start_daemon, upstream, store):
    upstream.on("*", Reply("1"))
    parts = {"origins": {"web": {"http": upstream.url}},
             "routes": [{"name": "n", "key": "n:{id:int}", "origin": "web", "load": "GET /n/{id}", "cache_control": "ignore"},
                        {"name": "u", "key": "u:{id:uuid}", "origin": "web", "load": "GET /u/{id}", "cache_control": "ignore"}]}
    daemon = start_daemon(store=store, **parts)
    assert daemon.get("n:007").cache.stored
    assert upstream.count("/n/7") == 1
    assert daemon.get("n:7").cache.hit
    assert daemon.key("DELETE", "n:0007").status == 204
    assert daemon.get("n:7").cache.stored
    assert daemon.get("n:-0").cache.stored and daemon.get("n:0").cache.hit
    lower = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert daemon.get(f"u:{lower.upper()}").cache.stored and daemon.get(f"u:{lower}").cache.hit
    assert daemon.post("/v1/invalidate", {"keys": [f"u:{lower.upper()}"]}).json() == {"invalidated": 1}
    many = daemon.post("/v1/mget", {"keys": ["n:07", "n:7"]}).json()["results"]
    assert {many["n:07"]["status"], many["n:7"]["status"]} == {200}


# --- keys that cannot be loaded are no reason to leave the origin alone


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_4xx_of_the_upstream_does_not_open_the_breaker(start_daemon, upstream, status):
    upstream.on("/abc/1", Reply(status=status))
    upstream.on("/abc/2", Reply("fine"))
    daemon = start_daemon(**{**config(upstream), "origins": {"web": {"http": upstream.url, "breaker": {"failures": 2}, "retries": 3}}})
    assert {daemon.get("abc:1").status for _ in range(4)} == {502}
    assert upstream.count("/abc/1") == 4, "and it is not tried again"
    assert daemon.get("abc:2").status == 200


def test_a_division_by_zero_does_not_open_the_breaker(start_daemon, postgres):
    daemon = start_daemon(origins={"db": {"postgres": postgres.url, "breaker": {"failures": 2}}},
                          routes=[{"name": "d", "key": "d:{n:int}", "origin": "db", "load": "SELECT 1 / {n}::int AS n"}])
    assert {daemon.get("d:0").status for _ in range(4)} == {502}
    assert daemon.get("d:1").json() == {"n": 1}


# --- format: raw


def test_a_raw_value_is_answered_alike_as_a_miss_and_as_a_hit(start_daemon, upstream, store):
    upstream.on("/abc/1", Reply("<p>", headers={"Content-Type": "text/html", "ETag": '"theirs"'}))
    daemon = start_daemon(store={**store, "format": "raw"}, **config(upstream, cache_control="ignore", content_type="text/plain"))
    miss, hit = daemon.get("abc:1"), daemon.get("abc:1")
    assert miss.cache.stored and hit.cache.hit
    assert miss.headers["content-type"] == hit.headers["content-type"] == "text/plain"
    assert miss.headers["etag"] == hit.headers["etag"]


# --- requests


def test_the_host_rule_holds_beside_an_absolute_target(start_daemon, upstream):
    daemon = start_daemon(**config(upstream))
    with daemon.wire(tcp=True) as wire:
        assert wire.ask("GET http://127.0.0.1/v1/keys/abc:1 HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 403


@pytest.mark.parametrize("origin, host, status", [
    ("http://localhost", "localhost:80", 404), ("http://localhost:80", "localhost", 404), ("https://localhost", "localhost:443", 404),
    ("http://LOCALHOST:8700", "localhost:8700", 404), ("ftp://localhost:8700", "localhost:8700", 403), ("http://localhost:1", "localhost:2", 403),
    ("", "localhost", 403), ("null", "localhost", 403), ("localhost", "localhost", 403)])
def test_an_origin_is_compared_with_its_port(start_daemon, upstream, origin, host, status):
    daemon = start_daemon(**config(upstream))
    with daemon.wire(tcp=True) as wire:
        assert wire.ask(f"GET /v1/keys/abc:1 HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n").status == status


def test_a_post_without_a_length_is_411(start_daemon, upstream):
    daemon = start_daemon(**config(upstream))
    with daemon.wire() as wire:
        answer = wire.ask("POST /v1/mget HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (answer.status, answer.slug) == (411, "length-required")


def test_deep_json_is_still_json_in_mget(start_daemon, upstream):
    deep = "[" * 500 + "]" * 500
    upstream.on("/abc/1", Reply(deep))
    daemon = start_daemon(**config(upstream))
    assert '"value":' + deep in daemon.post("/v1/mget", {"keys": ["abc:1"]}).body.decode()
    assert daemon.post("/v1/mget", {"keys": ["abc:1"], "keyz": []}).status == 400


# --- reload


def test_the_log_level_can_be_reloaded(start_daemon, upstream):
    upstream.on("*", Reply(status=500))
    parts = config(upstream)
    daemon = start_daemon(log={"level": "error"}, **parts)
    daemon.get("abc:1")
    daemon.write_config(log={"level": "warn"}, **parts)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.get("abc:2").status == 502 and "load failed" in daemon.log())
    assert "abc:1" not in daemon.log()


# --- what a review for production found


def test_patterns_for_other_keys_do_not_stop_loads_from_being_stored(start_daemon, upstream, store):
    upstream.on("/abc/1", Reply("1", delay=0.3))
    daemon = start_daemon(store=store, **config(upstream, cache_control="ignore"))
    with daemon.wire() as wire:
        wire.send(get_text("abc:1"))
        upstream.wait_for("/abc/1")
        assert daemon.post("/v1/invalidate", {"patterns": ["zzz:*"]}).status == 200
        assert wire.read().cache.stored


def test_a_request_after_another_instances_delete_does_not_get_the_value_from_before(start_daemon, upstream, store):
    gate = threading.Event()
    upstream.on("/abc/1", Reply("old", gate=gate), Reply("new"))
    parts = {**config(upstream, cache_control="ignore"), "store": {**store, "backplane": "off"}}
    one, two = start_daemon(**parts), start_daemon(**parts)
    with two.wire() as before, two.wire() as after:
        before.send(get_text("abc:1"))
        upstream.wait_for("/abc/1")
        assert one.key("DELETE", "abc:1").status == 204
        after.send(get_text("abc:1"))
        time.sleep(0.1)
        gate.set()
        before.read()
        assert after.read().body == b"new"


def test_a_lock_whose_release_was_lost_with_the_connection_is_released_later(start_daemon, upstream, own_redis):
    gate = threading.Event()
    upstream.on("/abc/1", Reply("1", gate=gate))
    daemon = start_daemon(store={"redis": own_redis.url, "lock": {"ttl": "60s"}, "backplane": "off"}, threads=1, **config(upstream, cache_control="ignore"))
    client = own_redis.client()
    with daemon.wire() as wire:
        wire.send(get_text("abc:1"))
        upstream.wait_for("/abc/1")
        own_redis.stall()
        gate.set()
        assert wire.read().body == b"1"
        own_redis.go_on()
    eventually(lambda: client("KEYS", "asidecar:lock:*") == [], within=3)


def test_an_http_answer_over_max_response_does_not_open_the_breaker(start_daemon, upstream):
    upstream.on("/abc/1", Reply("x" * 5000))
    upstream.on("/abc/2", Reply("fine"))
    daemon = start_daemon(**{**config(upstream), "origins": {"web": {"http": upstream.url, "max_response": 1000, "breaker": {"failures": 2}, "retries": 2}}})
    assert {daemon.get("abc:1").status for _ in range(4)} == {502}
    assert upstream.count("/abc/1") == 4
    assert daemon.get("abc:2").status == 200


def test_a_respelled_key_is_that_of_the_route_it_belongs_to(start_daemon, upstream):
    upstream.on("/zero", Reply("zero"))
    upstream.on("/user/0", Reply("user"))
    daemon = start_daemon(origins={"web": {"http": upstream.url}},
                          routes=[{"name": "zero", "key": "user:0", "origin": "web", "load": "GET /zero"},
                                  {"name": "user", "key": "user:{id:int}", "origin": "web", "load": "GET /user/{id}"}])
    assert daemon.get("user:00").body == b"zero"
    assert daemon.get("user:0").body == b"zero"


def test_raw_keys_are_as_they_are_spelled(start_daemon, upstream, redis, prefix):
    upper = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
    redis.client()("SET", f"{prefix}u:{upper}", "theirs")
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix, "format": "raw"}, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "u", "key": "u:{id:uuid}", "origin": "web", "load": "GET /u/{id}"}])
    assert daemon.get(f"u:{upper}").body == b"theirs"


def test_deleting_variants_does_not_scan_redis(start_daemon, upstream, own_redis):
    upstream.on("/abc/1", *[Reply(str(i)) for i in range(9)])
    daemon = start_daemon(store={"redis": own_redis.url}, **config(upstream, cache_control="ignore", forward_headers=["Accept-Language"]))
    daemon.get("abc:1")
    daemon.get("abc:1", accept_language="de")
    assert daemon.key("DELETE", "abc:1").status == 204
    assert daemon.post("/v1/invalidate", {"keys": ["abc:1"]}).status == 200
    assert "cmdstat_scan" not in own_redis.client()("INFO", "commandstats").decode()
    assert daemon.get("abc:1", accept_language="de").body == b"2"
    assert daemon.get("abc:1").body == b"3"


def test_of_two_reloads_the_later_wins(start_daemon, upstream, own_redis):
    upstream.on("/abc/1", Reply("1"))
    own_redis.stall()  # so that beginning with a configuration takes a while
    try:
        store = {"redis": own_redis.url}
        daemon = start_daemon(store={**store, "timeout": "50ms"}, **config(upstream, cache_control="ignore", ttl="10s"))
        for ttl, timeout in (("20s", "99ms"), ("30s", "99ms"), ("40s", "1ms")):  # the last is ready first
            daemon.write_config(store={**store, "timeout": timeout}, **config(upstream, cache_control="ignore", ttl=ttl))
            daemon.signal(signal.SIGHUP)
            time.sleep(0.01)
        eventually(lambda: daemon.get("abc:1", cache_control="no-cache").max_age in (39, 40))
        time.sleep(0.3)
        assert {daemon.get("abc:1", cache_control="no-cache").max_age in (39, 40) for _ in range(20)} == {True}
    finally:
        own_redis.go_on()


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_with_waiters_everywhere_ends_cleanly(start_daemon, upstream, own_redis, postgres, signals):
    """Waits for locks, for HTTP and for SQL, on several threads."""
    gate = threading.Event()
    upstream.on("*", Reply("1", gate=gate))
    daemon = start_daemon(store={"redis": own_redis.url, "lock": {"wait": "60s"}}, threads=4,
                          origins={"web": {"http": upstream.url}, "db": {"postgres": postgres.url}},
                          routes=[{"name": "pair", "key": "abc:{id}", "origin": "web", "load": "GET /abc/{id}", "timeout": "60s"},
                                  {"name": "sql", "key": "sql:{id}", "origin": "db", "load": "SELECT {id} AS id, pg_sleep(60) IS NULL AS x", "timeout": "60s"}])
    client = own_redis.client()
    for i in range(20):
        client("SET", f"asidecar:lock:{{cache:abc:{i}}}", "someone", "PX", 60_000)
    wires = [daemon.wire().send(get_text(f"{kind}:{i}")) for i in range(40) for kind in ("abc", "sql")]
    eventually(lambda: upstream.running >= 8)
    daemon.signal(signal.SIGTERM)
    if signals == 2:
        time.sleep(0.1)
        daemon.signal(signal.SIGTERM)
    assert daemon.wait(within=14) == 0
    gate.set()
    for wire in wires:
        wire.close()


def test_a_postgresql_that_hangs_freezes_neither_reload_nor_stop(start_daemon, upstream, postgres):
    upstream.on("/abc/1", Reply("1"))
    parts = config(upstream)
    sql = {"name": "sql", "key": "sql:{id}", "origin": "db", "load": "SELECT {id} AS id", "timeout": "300ms"}
    everything = {"origins": {**parts["origins"], "db": {"postgres": postgres.url}}, "routes": [sql, *parts["routes"]]}
    daemon = start_daemon(**everything)
    assert daemon.get("sql:1").status == 200
    postgres.stall()
    try:
        assert daemon.get("sql:2").status in (502, 504)
        time.sleep(0.2)
        daemon.write_config(**parts)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: daemon.get("sql:3").status != 504, within=3)
        assert daemon.get("abc:1").status == 200
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 5
    finally:
        postgres.go_on()
