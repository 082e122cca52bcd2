"""Redis started again from what it had on disk, which is older: what was invalidated since does not come back (contract 5.3)."""
import signal
import time

import pytest

from harness.upstream import Reply
from harness.wire import eventually


def config(upstream, redis, prefix, *, store=None, **more):
    upstream.on("*", Reply('"old"'))
    return {"store": {"redis": redis.url, "prefix": prefix, **(store or {})}, "origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /thing/{id}", "tags": ["people"],
                        "write": {"strategy": "through", "put": "PUT /thing/{id}"}},
                       {"name": "plain", "key": "plain:{id}", "origin": "web", "load": "GET /plain/{id}"}], **more}


INVALIDATIONS = {
    "DELETE": ("plain:1", lambda d: d.key("DELETE", "plain:1").status == 204),
    "keys": ("plain:1", lambda d: d.post("/v1/invalidate", {"keys": ["plain:1"]}).status == 200),
    "keys, expired": ("plain:1", lambda d: d.post("/v1/invalidate", {"keys": ["plain:1"], "mode": "expire"}).status == 200),
    "patterns": ("plain:1", lambda d: d.post("/v1/invalidate", {"patterns": ["pl*"]}).status == 200),
    "tags": ("thing:1", lambda d: d.post("/v1/invalidate", {"tags": ["people"]}).status == 200),
    "a record written through": ("thing:1", lambda d: d.request("PUT", "/v1/records/thing:1", b'"new"').status == 200),
}


@pytest.mark.parametrize("l1", ["0", "16MiB"])
@pytest.mark.parametrize("how", INVALIDATIONS)
def test_what_was_invalidated_does_not_come_back_from_the_disk(start_daemon, upstream, own_redis, prefix, how, l1):
    key, invalidate = INVALIDATIONS[how]
    parts = config(upstream, own_redis, prefix, l1={"size": l1})
    daemon = start_daemon(**parts)
    assert daemon.get(key).body == b'"old"'
    eventually(lambda: daemon.get(key).cache.hit)
    own_redis.client()("SAVE")
    upstream.on("*", Reply('"new"'))
    assert invalidate(daemon)
    own_redis.kill()
    own_redis.start()
    eventually(lambda: "recent invalidations were repeated" in daemon.log())
    eventually(lambda: daemon.get(key).body == b'"new"', within=1)
    assert start_daemon(**parts).get(key).body == b'"new"', "nor for other instances"


def test_it_is_repeated_until_confirmed_and_for_each_restart(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix))
    daemon.get("plain:1")
    own_redis.client()("SAVE")
    upstream.on("*", Reply('"new"'))
    assert daemon.key("DELETE", "plain:1").status == 204
    for count in (1, 2, 3):
        own_redis.kill()
        time.sleep(0.1)
        own_redis.start()
        eventually(lambda: daemon.log().count("recent invalidations were repeated") == count)
        eventually(lambda: daemon.get("plain:1").body == b'"new"', within=1)


def test_many_are_repeated(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix, store={"timeout": "2s"}))
    keys = [f"plain:{n}" for n in range(2000)]
    for n in range(0, len(keys), 500):
        assert daemon.post("/v1/mget", {"keys": keys[n:n + 500]}).status == 200
    own_redis.client()("SAVE")
    upstream.on("*", Reply('"new"'))
    for n in range(0, len(keys), 500):
        assert daemon.post("/v1/invalidate", {"keys": keys[n:n + 500]}).json()["invalidated"] == 500
    own_redis.kill()
    own_redis.start()
    eventually(lambda: "recent invalidations were repeated" in daemon.log())
    eventually(lambda: own_redis.client()("DBSIZE") == 0, within=2)
    assert all(daemon.get(key).body == b'"new"' for key in keys[::100])


def test_a_redis_that_refuses_writes_at_first_is_told_again(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix), threads=1)
    daemon.get("plain:1")
    own_redis.client()("SAVE")
    upstream.on("*", Reply('"new"'))
    assert daemon.key("DELETE", "plain:1").status == 204
    own_redis.kill()
    own_redis.start("--min-replicas-to-write", "1")
    eventually(lambda: "does not confirm the recent invalidations" in daemon.log())
    own_redis.client()("CONFIG", "SET", "min-replicas-to-write", "0")
    eventually(lambda: "recent invalidations were repeated" in daemon.log(), within=3)
    eventually(lambda: daemon.get("plain:1").body == b'"new"', within=1)


def test_tags_by_the_thousand(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix), threads=1)
    daemon.get("thing:1")
    own_redis.client()("SAVE")
    upstream.on("*", Reply('"new"'))
    for n in range(10):
        assert daemon.post("/v1/invalidate", {"tags": ["people"] + [f"t{n}-{m}" for m in range(400)]}).status == 200
    own_redis.kill()
    own_redis.start()
    eventually(lambda: 'recent invalidations were repeated count="4001"' in daemon.log())
    eventually(lambda: daemon.get("thing:1").body == b'"new"', within=1)


def test_without_info_they_are_repeated_after_a_lost_connection_but_not_at_a_reload(start_daemon, upstream, own_redis, prefix):
    own_redis.client()("ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", "-info")
    daemon = start_daemon(**config(upstream, own_redis, prefix, store={"redis": own_redis.url.replace("//", "//app:x@")}), threads=1)
    daemon.get("plain:1")
    assert daemon.key("DELETE", "plain:1").status == 204
    daemon.get("plain:1")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "configuration reloaded" in daemon.log())
    time.sleep(0.3)
    assert daemon.get("plain:1").cache.hit and "repeated" not in daemon.log()
    own_redis.client()("CLIENT", "KILL", "USER", "app")
    eventually(lambda: "recent invalidations were repeated" in daemon.log())
    assert daemon.get("plain:1").cache.fwd == "uri-miss"


def test_a_redis_that_was_only_out_of_reach_keeps_what_was_loaded_since(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix, store={"timeout": "200ms"}), threads=1)
    daemon.get("plain:1")
    daemon.key("DELETE", "plain:1")
    daemon.get("plain:1")
    own_redis.stall()
    assert daemon.get("plain:1").cache.detail == "redis-down"
    own_redis.go_on()
    eventually(lambda: "redis is back" in daemon.log())
    assert daemon.get("plain:1").cache.hit
    assert "repeated" not in daemon.log()
