"""L1 beside Redis: it hears of every other writer, and trusts nothing while it cannot hear."""
import json
import random
import threading
import time

import pytest

from harness.upstream import Reply
from harness.wire import eventually, get_text

MODES = ["tracking", "pubsub"]


def config(upstream, redis, prefix, backplane="tracking", **more):
    return {"store": {"redis": redis.url, "prefix": prefix, "backplane": backplane, **more.pop("store", {})}, "l1": {"size": "16MiB"},
            "origins": {"web": {"http": upstream.url, "breaker": {"failures": 10000}}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore", "ttl": "100s",
                        "stale_if_error": "100s", **more},
                       {"name": "session", "key": "session:{id}", "put": True}]}


def is_hit(daemon, key, tier, body=None):
    answer = daemon.get(key)
    return answer.cache.hit and answer.cache.detail == tier and (body is None or answer.body == body)


def warm(daemon, key, body=None):
    """Until the key is answered from L1."""
    eventually(lambda: is_hit(daemon, key, "L1", body), within=3)


@pytest.mark.parametrize("mode", MODES)
def test_a_read_promotes_to_l1(start_daemon, upstream, redis, prefix, mode):
    upstream.on("/things/1", Reply("1"))
    one, two = (start_daemon(**config(upstream, redis, prefix, mode)) for _ in range(2))
    warm(one, "thing:1", b"1")
    assert is_hit(two, "thing:1", "L2", b"1")
    warm(two, "thing:1", b"1")
    commands = redis.client()
    before = int(commands("INFO", "commandstats").decode().split("cmdstat_get:calls=")[1].split(",")[0])
    for _ in range(20):
        assert is_hit(one, "thing:1", "L1")
    after = int(commands("INFO", "commandstats").decode().split("cmdstat_get:calls=")[1].split(",")[0])
    assert after - before <= 1, "a hit in L1 asks Redis nothing"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", ["DELETE", "keys", "patterns", "PUT"])
def test_other_instances_hear_of_changes(start_daemon, upstream, redis, prefix, mode, change):
    one, two = (start_daemon(**config(upstream, redis, prefix, mode)) for _ in range(2))
    assert one.key("PUT", "session:1", b"old").status == 204
    warm(one, "session:1", b"old")
    warm(two, "session:1", b"old")
    if change == "PUT":
        assert one.key("PUT", "session:1", b"new").status == 204
        eventually(lambda: two.get("session:1").body == b"new", within=1)
    else:
        done = one.key("DELETE", "session:1") if change == "DELETE" else one.post("/v1/invalidate", {change: ["session:1"]})
        assert done.status in (200, 204)
        eventually(lambda: two.get("session:1").status == 404, within=1)
    assert one.get("session:1").body == (b"new" if change == "PUT" else one.get("session:1").body)


@pytest.mark.parametrize("write", ["SET", "DEL", "UNLINK", "EXPIRE", "FLUSHDB"])
def test_with_tracking_any_writer_is_heard(start_daemon, upstream, own_redis, prefix, write):
    daemon = start_daemon(**config(upstream, own_redis, prefix, "tracking", store={"format": "raw"}))
    client = own_redis.client()
    client("SET", f"{prefix}session:1", "old")
    warm(daemon, "session:1", b"old")
    commands = {"SET": ("SET", f"{prefix}session:1", "new"), "DEL": ("DEL", f"{prefix}session:1"), "UNLINK": ("UNLINK", f"{prefix}session:1"),
                "EXPIRE": ("PEXPIRE", f"{prefix}session:1", 1), "FLUSHDB": ("FLUSHDB",)}
    client(*commands[write])
    eventually(lambda: (daemon.get("session:1").body == b"new") if write == "SET" else (daemon.get("session:1").status == 404), within=1)


def test_with_pubsub_other_apps_can_tell(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, redis, prefix, "pubsub", store={"format": "raw"}))
    client = redis.client()
    client("SET", f"{prefix}session:1", "old")
    warm(daemon, "session:1", b"old")
    client("SET", f"{prefix}session:1", "new")
    assert is_hit(daemon, "session:1", "L1", b"old"), "nobody has told"
    client("PUBLISH", "cache:invalidate", f"{prefix}session:1")
    eventually(lambda: daemon.get("session:1").body == b"new", within=1)


def test_with_pubsub_other_apps_are_told(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, redis, prefix, "pubsub"))
    listener = redis.client()
    listener("SUBSCRIBE", "cache:invalidate")
    daemon.key("DELETE", "session:1")
    assert listener.pushed() == [b"message", b"cache:invalidate", f"{prefix}session:1".encode()]


@pytest.mark.parametrize("mode", MODES)
def test_while_the_backplane_is_away_redis_is_asked(start_daemon, upstream, own_redis, prefix, mode):
    daemon = start_daemon(**config(upstream, own_redis, prefix, mode, store={"format": "raw"}))
    client = own_redis.client()
    client("SET", f"{prefix}session:1", "0")
    for i in range(1, 10):
        warm(daemon, "session:1", str(i - 1).encode())
        client("CLIENT", "KILL", "TYPE", "pubsub")
        client("SET", f"{prefix}session:1", str(i))
        deadline = time.monotonic() + 1
        while daemon.get("session:1").body != str(i).encode():
            assert time.monotonic() < deadline
        # From here on nothing old comes back, not even when the connection is up again.
        for _ in range(30):
            assert daemon.get("session:1").body == str(i).encode()
            time.sleep(0.005)


def test_while_redis_is_away_l1_takes_the_load_off_the_origin(start_daemon, upstream, own_redis, prefix):
    upstream.on("/things/1", *[Reply(str(i)) for i in range(100)])
    daemon = start_daemon(**config(upstream, own_redis, prefix))
    warm(daemon, "thing:1", b"0")
    own_redis.kill()
    eventually(lambda: daemon.get("thing:1").body != b"0", within=2)  # what was held before is not trusted
    before = upstream.count()
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        assert daemon.get("thing:1").status == 200
    assert upstream.count() - before <= 3
    own_redis.start()
    eventually(lambda: daemon.get("thing:1").cache.detail == "L2", within=5)


def test_without_redis_and_origin_l1_still_answers(start_daemon, upstream, own_redis, prefix):
    upstream.on("/things/1", Reply("1"), Reply(status=500))
    daemon = start_daemon(**config(upstream, own_redis, prefix))
    warm(daemon, "thing:1", b"1")
    own_redis.kill()
    time.sleep(0.2)
    for _ in range(20):
        answer = daemon.get("thing:1")
        assert (answer.status, answer.body) == (200, b"1")


def test_a_delete_that_redis_does_not_confirm_still_removes_the_copy_here(start_daemon, upstream, own_redis, prefix):
    upstream.on("/things/1", Reply("old"), Reply("new"))
    daemon = start_daemon(**config(upstream, own_redis, prefix))
    warm(daemon, "thing:1", b"old")
    own_redis.kill()
    assert daemon.key("DELETE", "thing:1").status == 503
    assert daemon.get("thing:1").body == b"new"


@pytest.mark.parametrize("mode", MODES)
def test_a_load_that_another_instances_delete_overtook_stays_out_of_l1(start_daemon, upstream, redis, prefix, mode):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old", gate=gate), Reply("new"))
    one, two = (start_daemon(**config(upstream, redis, prefix, mode)) for _ in range(2))
    with one.wire() as first:
        first.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        assert two.key("DELETE", "thing:1").status == 204
        gate.set()
        first.read()
    for _ in range(20):
        assert one.get("thing:1").body == b"new"


@pytest.mark.parametrize("killed", [False, True], ids=["heard", "backplane killed at random"])
def test_no_daemon_serves_a_value_much_older_than_a_foreign_write(start_daemon, upstream, own_redis, prefix, killed):
    """Three daemons with L1, and a writer that knows nothing of them."""
    redis = own_redis
    writes = 10_000
    daemons = [start_daemon(**config(upstream, redis, prefix, store={"format": "raw"})) for _ in range(3)]
    client = redis.client()
    written = {}  # version -> when the SET had been answered
    client("SET", f"{prefix}session:1", "0")
    stop, late, from_l1 = threading.Event(), [], [0]

    def read_on(daemon):
        with daemon.wire() as wire:
            while not stop.is_set():
                began = time.monotonic()
                answer = wire.ask(get_text("session:1"))
                version = int(answer.body)
                from_l1[0] += answer.cache.detail == "L1"
                newer = written.get(version + 1)
                if newer is not None and began - newer > 0.15:
                    late.append((version, began - newer))

    readers = [threading.Thread(target=read_on, args=(d,)) for d in daemons]
    for reader in readers:
        reader.start()
    for version in range(1, writes + 1):
        client("SET", f"{prefix}session:1", str(version))
        written[version] = time.monotonic()
        if killed and random.random() < 0.02:
            client("CLIENT", "KILL", "TYPE", "pubsub")
        if version % 3 == 0:
            time.sleep(0.001 * random.random())
    stop.set()
    for reader in readers:
        reader.join()
    assert late == []
    assert from_l1[0] > 20


def test_metrics_tell_of_l1_and_the_backplane(start_daemon, upstream, redis, prefix):
    upstream.on("/things/1", Reply("1"))
    daemon = start_daemon(**config(upstream, redis, prefix))
    warm(daemon, "thing:1")
    text = daemon.admin("GET", "/metrics").body.decode()
    assert "\nasidecar_backplane_up 1\n" in text
    assert "\nasidecar_l1_entries 1\n" in text
    assert json.loads(daemon.admin("GET", "/metrics/cache").body)["hits"] >= 1


def test_after_a_reload_the_backplane_and_redis_still_count_as_up(start_daemon, upstream, redis, prefix):
    import signal
    upstream.on("/things/1", Reply("1"))
    parts = config(upstream, redis, prefix)
    daemon = start_daemon(**parts)
    daemon.write_config(**{**parts, "routes": parts["routes"][:1]})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.get("session:1").slug == "no-route")
    time.sleep(0.3)
    text = daemon.admin("GET", "/metrics").body.decode()
    assert "\nasidecar_redis_up 1\n" in text and "\nasidecar_backplane_up 1\n" in text
    warm(daemon, "thing:1")
