"""One load per key per instance and per fleet; locks that die with their holder; no lost invalidation (contract 5.2 to 5.5)."""
import os
import pathlib
import socket
import threading
import time
import uuid

import pytest

from harness.upstream import Reply
from harness.wire import eventually, fire, get_text, readable


def config(redis, prefix, upstream, **more):
    store = {"redis": redis.url, "prefix": prefix, **more.pop("store", {})}
    return {"store": store, **origin_and_route(upstream, **more)}


def origin_and_route(upstream, **more):
    return {"origins": {"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore",
                        "timeout": "10s", **more}]}


@pytest.fixture
def keys_in_redis(redis, prefix):
    """All names in Redis that hold the test's prefix: values and locks."""
    client = redis.client()
    return lambda: sorted(name.decode() for name in client("KEYS", f"*{prefix}*"))


# --- how many loads


def test_concurrent_misses_of_one_key_are_one_load(start_daemon, redis, prefix, upstream):
    upstream.on("/things/1", Reply("1", delay=0.2))
    daemon = start_daemon(**config(redis, prefix, upstream))
    answers = fire([daemon.data], ["thing:1"] * 200)
    assert {(a.status, a.body) for a in answers} == {(200, b"1")}
    assert upstream.count("/things/1") == 1
    assert sum(a.cache.stored for a in answers) == 1
    assert all(a.cache.stored or a.cache.collapsed or a.cache.hit for a in answers)


def test_the_collapsed_form_of_cache_status(start_daemon, redis, prefix, upstream):
    upstream.on("/things/1", Reply("1", delay=0.2))
    daemon = start_daemon(**config(redis, prefix, upstream))
    forms = {a.headers["cache-status"] for a in fire([daemon.data], ["thing:1"] * 20)}
    assert "asidecar; fwd=uri-miss; stored" in forms
    assert "asidecar; fwd=uri-miss; collapsed" in forms


def test_concurrent_misses_are_one_load_without_a_store(start_daemon, upstream):
    upstream.on("/things/1", Reply("1", delay=0.2))
    daemon = start_daemon(l1={"size": "1MiB"}, **origin_and_route(upstream))
    assert {a.body for a in fire([daemon.data], ["thing:1"] * 100)} == {b"1"}
    assert upstream.count("/things/1") == 1


def test_different_keys_load_at_the_same_time(start_daemon, redis, prefix, upstream):
    upstream.on("*", Reply("x", delay=0.2))
    daemon = start_daemon(**config(redis, prefix, upstream))
    started = time.monotonic()
    fire([daemon.data], [f"thing:{i}" for i in range(20)])
    assert time.monotonic() - started < 1
    assert upstream.count() == 20


def test_a_thousand_misses_over_three_instances_are_one_http_call(start_daemon, redis, prefix, upstream):
    upstream.on("/things/1", Reply("1", delay=0.3))
    daemons = [start_daemon(**config(redis, prefix, upstream)) for _ in range(3)]
    answers = fire([d.data for d in daemons], ["thing:1"] * 1000)
    assert {(a.status, a.body) for a in answers} == {(200, b"1")}
    assert upstream.count("/things/1") == 1


def test_a_thousand_misses_over_three_instances_are_one_sql_call(start_daemon, redis, prefix, postgres):
    who = uuid.uuid4().hex
    parts = {"store": {"redis": redis.url, "prefix": prefix}, "origins": {"db": {"postgres": postgres.url, "connections": 2}},
             "routes": [{"name": "counted", "key": "counted:{who}", "origin": "db", "load": "SELECT * FROM counted({who}, 0.3)"}]}
    daemons = [start_daemon(**parts) for _ in range(3)]
    answers = fire([d.data for d in daemons], [f"counted:{who}"] * 1000)
    assert {a.status for a in answers} == {200}
    assert postgres.calls(who) == 1


def test_nothing_but_the_value_is_left_in_redis(start_daemon, redis, prefix, upstream, keys_in_redis):
    upstream.on("/things/1", Reply("1", delay=0.1))
    daemons = [start_daemon(**config(redis, prefix, upstream)) for _ in range(2)]
    fire([d.data for d in daemons], ["thing:1"] * 20)
    eventually(lambda: keys_in_redis() == [f"{prefix}thing:1"], within=2)


def test_a_failed_load_is_shared_and_leaves_no_lock(start_daemon, redis, prefix, upstream, keys_in_redis):
    upstream.on("/things/1", Reply(status=500, delay=0.2), Reply("1"))
    daemon = start_daemon(**config(redis, prefix, upstream))
    answers = fire([daemon.data], ["thing:1"] * 50)
    assert {a.status for a in answers} == {502}
    eventually(lambda: keys_in_redis() == [], within=2)
    started = time.monotonic()
    assert daemon.get("thing:1").body == b"1"
    assert time.monotonic() - started < 1


# --- clients that go away


def test_a_client_that_goes_away_cancels_nothing_that_others_wait_for(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("1", gate=gate))
    daemons = [start_daemon(**config(redis, prefix, upstream)) for _ in range(3)]
    first = daemons[0].wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    others = [daemons[i % 3].wire().send(get_text("thing:1")) for i in range(30)]
    first.close()
    time.sleep(0.1)
    gate.set()
    assert {wire.read().body for wire in others} == {b"1"}
    for wire in others:
        wire.close()
    assert upstream.count("/things/1") == 1


def test_a_load_that_everybody_left_leaks_no_lock(start_daemon, redis, prefix, upstream, keys_in_redis):
    upstream.on("/things/1", Reply("1", delay=0.3))
    one, two = (start_daemon(**config(redis, prefix, upstream)) for _ in range(2))
    wire = one.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    wire.close()
    started = time.monotonic()
    assert two.get("thing:1").body == b"1"
    assert time.monotonic() - started < 2
    eventually(lambda: [k for k in keys_in_redis() if "lock" in k] == [], within=2)


# --- how waiters on another instance learn of the end


def channels(client):
    return [name.decode() for name in client("PUBSUB", "CHANNELS", "asidecar:lock:*")]


def test_a_waiter_listens_only_while_it_waits(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("1", gate=gate))
    holder, waiter = (start_daemon(**config(redis, prefix, upstream)) for _ in range(2))
    client = redis.client()
    with holder.wire() as first, waiter.wire() as second:
        first.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        assert channels(client) == []
        second.send(get_text("thing:1"))
        eventually(lambda: channels(client) != [], within=2)
        assert len(channels(client)) == 1
        gate.set()
        assert first.read().body == second.read().body == b"1"
    eventually(lambda: channels(client) == [], within=2)


def test_a_waiter_is_woken_by_the_release(start_daemon, redis, prefix, upstream):
    """A lock that nobody deletes but that is announced as released makes the waiter look at once: the look is counted."""
    upstream.on("/things/1", Reply("1"))
    daemon = start_daemon(**config(redis, prefix, upstream, store={"lock": {"wait": "60s"}}))
    client = redis.client()
    lock = f"asidecar:lock:{{{prefix}thing:1}}"
    client("SET", lock, "someone else", "PX", 60_000)
    with daemon.wire() as wire:
        wire.send(get_text("thing:1"))
        eventually(lambda: channels(client) == [lock], within=2)

        def looks():
            return int(client("INFO", "commandstats").decode().split("cmdstat_set:calls=")[1].split(",")[0])

        before = looks()
        for _ in range(100):
            assert client("PUBLISH", lock, "") == 1
            time.sleep(0.01)
        # By itself it would look 10 to 20 times in this second or so.
        assert looks() - before > 60
        client("DEL", lock)
        assert wire.read().status == 200


@pytest.mark.parametrize("remove", ["DELETE", "PUT", "pattern"])
def test_who_deletes_the_lock_wakes_those_who_wait_for_it(start_daemon, redis, prefix, upstream, remove):
    client = redis.client()
    lock = f"asidecar:lock:{{{prefix}thing:1}}"
    daemon = start_daemon(**config(redis, prefix, upstream, put=True))
    client("SET", lock, "someone else", "PX", 60_000)
    listener = redis.client()
    assert listener("SUBSCRIBE", lock)[0] == b"subscribe"
    if remove == "pattern":
        assert daemon.post("/v1/invalidate", {"patterns": ["thing:?"]}).status == 200
    else:
        assert daemon.key(remove, "thing:1", b"put" if remove == "PUT" else None).status == 204
    assert listener.pushed() == [b"message", lock.encode(), b""]


def test_waiters_outlive_the_loss_of_the_backplane(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("1", gate=gate))
    holder, waiter = (start_daemon(**config(redis, prefix, upstream)) for _ in range(2))
    client = redis.client()
    with holder.wire() as first, waiter.wire() as second:
        first.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        second.send(get_text("thing:1"))
        for _ in range(5):
            eventually(lambda: channels(client) != [], within=3)
            client("CLIENT", "KILL", "TYPE", "pubsub")
        gate.set()
        assert first.read().body == second.read().body == b"1"
    assert upstream.count("/things/1") == 1


def test_an_acl_without_channels_leaves_everything_else_at_work(start_daemon, own_redis, prefix, upstream):
    own_redis.client()("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "resetchannels")
    url = own_redis.url.replace("redis://", "redis://app:secret@")
    upstream.on("/things/1", Reply("1", delay=0.3))
    parts = config(own_redis, prefix, upstream)
    parts["store"]["redis"] = url
    daemons = [start_daemon(**parts) for _ in range(2)]
    answers = fire([d.data for d in daemons], ["thing:1"] * 20)
    assert {a.body for a in answers} == {b"1"}
    assert upstream.count("/things/1") == 1
    assert daemons[0].key("DELETE", "thing:1").status == 204
    assert daemons[1].get("thing:1").cache.stored


# --- holders that die, waiters that lose patience


def test_a_holder_that_is_killed_is_replaced_after_the_locks_ttl(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("lost", gate=gate), Reply("1"))
    parts = config(redis, prefix, upstream, store={"lock": {"ttl": "1s", "wait": "8s"}})
    holder, other = start_daemon(**parts), start_daemon(**parts)
    with holder.wire() as wire:
        wire.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        holder.kill()
    started = time.monotonic()
    assert other.get("thing:1").body == b"1"
    assert time.monotonic() - started < 2
    gate.set()


def test_the_lock_is_renewed_while_its_load_runs(start_daemon, redis, prefix, upstream):
    upstream.on("/things/1", Reply("1", delay=1.2))
    parts = config(redis, prefix, upstream, store={"lock": {"ttl": "300ms", "wait": "8s"}})
    daemons = [start_daemon(**parts) for _ in range(3)]
    answers = fire([d.data for d in daemons], ["thing:1"] * 30)
    assert {a.body for a in answers} == {b"1"}
    assert upstream.count("/things/1") == 1


def test_a_waiter_that_waited_lock_wait_loads_by_itself(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("slow", gate=gate), Reply("quick"))
    parts = config(redis, prefix, upstream, store={"lock": {"ttl": "10s", "wait": "300ms"}})
    holder, other = start_daemon(**parts), start_daemon(**parts)
    wire = holder.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    started = time.monotonic()
    assert other.get("thing:1").body == b"quick"
    assert 0.25 < time.monotonic() - started < 1.5
    gate.set()
    assert wire.read().status == 200
    wire.close()


def test_a_waiter_that_waited_lock_wait_is_served_stale_when_that_is_allowed(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old"), Reply("new", gate=gate))
    parts = config(redis, prefix, upstream, store={"lock": {"ttl": "10s", "wait": "300ms"}}, ttl="1s", stale_if_error="60s")
    holder, other = start_daemon(**parts), start_daemon(**parts)
    holder.get("thing:1")
    time.sleep(1.2)
    with holder.wire() as first, other.wire() as second:
        first.send(get_text("thing:1"))
        upstream.wait_for("/things/1", 2)
        second.send(get_text("thing:1"))
        assert readable(second, within=2), "it waits neither for the holder nor for a load of its own"
        stale = second.read()
        assert stale.body == b"old" and stale.cache.hit and stale.cache.ttl <= 0
        gate.set()
        assert first.read().body == b"new"


# --- invalidation while a load is under way


def invalidate_by_delete(daemon):
    assert daemon.key("DELETE", "thing:1").status == 204


def invalidate_by_key(daemon):
    assert daemon.post("/v1/invalidate", {"keys": ["thing:1"]}).status == 200


def invalidate_by_pattern(daemon):
    assert daemon.post("/v1/invalidate", {"patterns": ["thing:*"]}).status == 200


@pytest.mark.parametrize("invalidate", [invalidate_by_delete, invalidate_by_key, invalidate_by_pattern])
@pytest.mark.parametrize("where", ["the same instance", "another instance"])
def test_no_load_that_began_before_an_invalidation_stores_its_value(start_daemon, redis, prefix, upstream, invalidate, where):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old", gate=gate), Reply("new"))
    loader, other = (start_daemon(**config(redis, prefix, upstream)) for _ in range(2))
    wire = loader.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    invalidate(loader if where == "the same instance" else other)

    # A request that starts after the invalidation does not join the load from before it.
    invalidating = loader if where == "the same instance" else other
    assert invalidating.get("thing:1").body == b"new"

    gate.set()
    assert wire.read().status == 200  # the request from before may get either value
    wire.close()
    time.sleep(0.1)
    for daemon in (loader, other):
        assert daemon.get("thing:1").body == b"new"


@pytest.mark.parametrize("where", ["the same instance", "another instance"])
def test_an_invalidated_load_leaves_nothing_in_redis(start_daemon, redis, prefix, upstream, keys_in_redis, where):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old", gate=gate))
    loader, other = (start_daemon(**config(redis, prefix, upstream)) for _ in range(2))
    wire = loader.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    invalidate_by_delete(loader if where == "the same instance" else other)
    gate.set()
    answer = wire.read()
    wire.close()
    assert answer.status == 200 and not answer.cache.stored
    eventually(lambda: keys_in_redis() == [], within=2)


def test_no_lost_invalidation_without_a_store(start_daemon, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old", gate=gate), Reply("new"))
    daemon = start_daemon(l1={"size": "1MiB"}, **origin_and_route(upstream))
    wire = daemon.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    invalidate_by_delete(daemon)
    assert daemon.get("thing:1").body == b"new"
    gate.set()
    wire.read()
    wire.close()
    assert daemon.get("thing:1").body == b"new"


def test_a_put_overtakes_a_load_that_began_before_it(start_daemon, redis, prefix, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("loaded", gate=gate))
    one, two = (start_daemon(**config(redis, prefix, upstream, put=True)) for _ in range(2))
    wire = one.wire().send(get_text("thing:1"))
    upstream.wait_for("/things/1")
    assert two.key("PUT", "thing:1", b"put").status == 204
    gate.set()
    wire.read()
    wire.close()
    time.sleep(0.1)
    assert one.get("thing:1").body == b"put"
    assert two.get("thing:1").body == b"put"


def test_after_every_write_every_instance_reads_the_new_value(start_daemon, redis, prefix, upstream):
    """Writers change the origin and then invalidate; readers hammer all the while. No reader goes back in time."""
    parts = config(redis, prefix, upstream)
    daemons = [start_daemon(**parts) for _ in range(2)]
    upstream.on("/things/1", Reply("0"))
    stop = threading.Event()

    def read_on(daemon):
        while not stop.is_set():
            daemon.get("thing:1")

    readers = [threading.Thread(target=read_on, args=(d,)) for d in daemons for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for version in range(1, 40):
            upstream.on("/things/1", Reply(str(version)))
            assert daemons[version % 2].key("DELETE", "thing:1").status == 204
            for daemon in daemons:
                assert int(daemon.get("thing:1").body) == version
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_clients_that_vanish_during_a_load_cost_no_cpu(start_daemon, redis, prefix, upstream):
    """A closed Unix socket is reported as hung up for as long as it is watched: the daemon must let go of it."""
    upstream.on("/things/slow", Reply("1", delay=1.5))
    daemon = start_daemon(**config(redis, prefix, upstream))
    for _ in range(3):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(daemon.data)
        connection.sendall(b"GET /v1/keys/thing:slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.05)
        connection.close()

    def cpu_seconds():
        fields = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_seconds()
    time.sleep(1)
    assert cpu_seconds() - before < 0.2
