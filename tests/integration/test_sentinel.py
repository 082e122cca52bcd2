"""Redis behind Sentinels: the daemon follows the master."""
import threading
import time

import pytest

from harness.daemon import run_cli
from harness.ports import free_port
from harness.sentinel import MASTER, ReplicatedRedis
from harness.upstream import Reply
from harness.wire import eventually


@pytest.fixture
def watched(work_directory):
    it = ReplicatedRedis(work_directory).start()
    yield it
    it.stop()


@pytest.fixture(scope="module")
def shared(work_directory):
    """For tests that leave the master where it is."""
    it = ReplicatedRedis(work_directory).start()
    yield it
    it.stop()


def config(upstream, url, prefix, *, store=None, **more):
    upstream.on("*", Reply('"origin"'))
    return {"store": {"redis": url, "prefix": prefix, **(store or {})}, "origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /thing/{id}"}, {"name": "session", "key": "session:{id}", "put": True}],
            **more}


def is_away(daemon):
    return daemon.get("thing:1").cache.detail == "redis-down"


def holds(server, name):
    return server.client()("EXISTS", name) == 1


def test_values_lie_in_the_master_also_after_a_failover_by_hand(start_daemon, upstream, watched, prefix):
    daemon = start_daemon(**config(upstream, watched.url, prefix, l1={"size": "16MiB"}, store={"format": "raw"}), threads=1)
    first = watched.master
    assert daemon.get("thing:1").status == 200
    assert holds(first, f"{prefix}thing:1")
    assert daemon.key("DELETE", "thing:3").status == 204
    watched.fail_over()
    second = watched.master
    assert second is not first
    # Which may never have heard of the deletion. (test_redis_restart has that case.)
    eventually(lambda: "recent invalidations were repeated" in daemon.log(), within=10)
    # A value stored now lies in the new master, and L1 hears of its other writers.
    eventually(lambda: daemon.get("thing:2").status == 200 and holds(second, f"{prefix}thing:2"), within=10)
    eventually(lambda: daemon.get("thing:2").cache.detail == "L1", within=3)
    second.client()("SET", f"{prefix}thing:2", "another")
    eventually(lambda: daemon.get("thing:2").body == b"another", within=2)
    assert daemon.key("DELETE", "thing:2").status == 204
    assert not holds(second, f"{prefix}thing:2")


def test_no_read_fails_when_the_master_dies(start_daemon, upstream, watched, prefix):
    daemon = start_daemon(**config(upstream, watched.url, prefix))
    stop, bad, count = threading.Event(), [], [0]

    def read_on():
        while not stop.is_set():
            answer = daemon.get(f"thing:{count[0] % 50}")
            count[0] += 1
            if answer.status != 200 or answer.body != b'"origin"':
                bad.append(answer)

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        dead = watched.master
        dead.kill()
        eventually(lambda: int(watched.sentinels[1].master()["port"]) != dead.port, within=30)
        eventually(lambda: daemon.key("PUT", "session:1", b"1").status == 204, within=15)
    finally:
        stop.set()
        reader.join()
    assert not bad and count[0] > 50
    second = next(s for s in watched.servers if s is not dead)
    assert holds(second, f"{prefix}session:1")
    dead.start()  # a master, as it thinks
    assert dead.client()("ROLE")[0] == b"master"
    time.sleep(1.5)
    assert daemon.key("PUT", "session:2", b"1").status == 204
    assert holds(second, f"{prefix}session:2")


def test_sentinels_that_are_away_or_know_nothing(start_daemon, upstream, shared, prefix):
    away = f"redis-sentinel://127.0.0.1:{free_port()},127.0.0.1:{shared.sentinels[2].port}/{MASTER}"
    daemon = start_daemon(**config(upstream, away, prefix))
    assert not is_away(daemon)
    unknown = start_daemon(**config(upstream, shared.url.replace(MASTER, "nobody"), prefix))
    assert is_away(unknown)
    eventually(lambda: "No such master with that name" in unknown.log() and "nobody" in unknown.log())
    none = start_daemon(**config(upstream, f"redis-sentinel://127.0.0.1:{free_port()}/{MASTER}", prefix))
    assert is_away(none)
    eventually(lambda: f"no Sentinel says where the master '{MASTER}' is" in none.log(), within=5)


def test_sentinels_that_start_later_are_found(start_daemon, upstream, shared, prefix):
    for s in shared.sentinels:
        s.stop()
    daemon = start_daemon(**config(upstream, shared.url, prefix))
    assert is_away(daemon)
    for s in shared.sentinels:
        s.start()
    eventually(lambda: not is_away(daemon), within=10)
    for s in shared.sentinels:
        s.stop()
    time.sleep(1.5)
    assert not is_away(daemon), "a master that is known needs no Sentinel"
    for s in shared.sentinels:
        s.start()


def test_sentinels_with_a_password(start_daemon, upstream, work_directory, prefix):
    watched = ReplicatedRedis(work_directory, password="hush")
    try:
        watched.start()
        daemon = start_daemon(**config(upstream, watched.url, prefix, store={"sentinel_password": "hush"}))
        assert not is_away(daemon)
        assert "hush" not in run_cli("config", "-c", daemon.file).stdout
        refused = start_daemon(**config(upstream, watched.url, prefix))
        assert is_away(refused)
        eventually(lambda: "NOAUTH" in refused.log())
    finally:
        watched.stop()
