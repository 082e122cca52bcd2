"""Tags, mode expire, compression: what is kept beside the value in Redis."""
import threading
import time

import pytest

from harness.upstream import Reply
from harness.wire import eventually, get_text


@pytest.fixture(params=["L2", "L1 and L2", "L1"])
def tiers(request, redis, prefix):
    parts = {}
    if "L2" in request.param:
        parts["store"] = {"redis": redis.url, "prefix": prefix}
    parts["l1"] = {"size": "16MiB" if "L1" in request.param else 0}
    return parts


def config(upstream, tiers, **more):
    route = {"origin": "web", "cache_control": "ignore", "ttl": "100s", **more}
    return {**tiers, "origins": {"web": {"http": upstream.url, "breaker": {"failures": 10000}}},
            "routes": [{"name": "user", "key": "user:{id}", "load": "GET /users/{id}", "tags": ["user:{id}", "people"], **route},
                       {"name": "order", "key": "order:{user}:{id}", "load": "GET /orders/{user}/{id}", "tags": ["user:{user}"], **route},
                       {"name": "session", "key": "session:{user}:{id}", "put": True, "tags": ["user:{user}"]}]}


def number_upstream(upstream, *targets):
    for target in targets:
        upstream.on(target, *[Reply(str(i)) for i in range(100)])


def purge(daemon, **what):
    answer = daemon.post("/v1/invalidate", what)
    assert answer.status == 200, answer.body
    return answer.json()["invalidated"]


# --- tags


def test_a_tag_invalidates_all_that_carry_it_and_nothing_else(start_daemon, upstream, tiers):
    number_upstream(upstream, "/users/1", "/users/2", "/orders/1/7")
    daemon = start_daemon(**config(upstream, tiers))
    daemon.key("PUT", "session:1:a", b"put")
    keys = ["user:1", "user:2", "order:1:7", "session:1:a"]
    before = {key: daemon.get(key).body for key in keys}
    assert all(daemon.get(key).cache.hit for key in keys)
    purge(daemon, tags=["user:1"])
    assert daemon.get("user:1").body == b"1"
    assert daemon.get("order:1:7").body == b"1"
    assert daemon.get("session:1:a").status == 404
    assert daemon.get("user:2").cache.hit and daemon.get("user:2").body == before["user:2"]
    assert daemon.get("user:1").cache.hit, "what was loaded since then carries the new version"
    purge(daemon, tags=["people"])
    assert daemon.get("user:1").body == b"2" and daemon.get("user:2").body == b"1"
    assert daemon.get("order:1:7").cache.hit


def test_a_tag_reaches_other_instances(start_daemon, upstream, redis, prefix):
    number_upstream(upstream, "/users/1")
    tiers = {"store": {"redis": redis.url, "prefix": prefix}, "l1": {"size": "16MiB"}}
    one, two = (start_daemon(**config(upstream, tiers)) for _ in range(2))
    for daemon in (one, two):
        eventually(lambda daemon=daemon: daemon.get("user:1").cache.detail == "L1", within=3)
    purge(one, tags=["people"])
    eventually(lambda: two.get("user:1").body == b"1", within=1)
    assert one.get("user:1").body == b"1"


@pytest.mark.parametrize("where", ["same", "other"])
def test_no_load_that_began_before_a_tags_invalidation_is_ever_served_after_it(start_daemon, upstream, redis, prefix, where):
    gate = threading.Event()
    upstream.on("/users/1", Reply("old", gate=gate), Reply("new"))
    tiers = {"store": {"redis": redis.url, "prefix": prefix}, "l1": {"size": "16MiB"}}
    one, two = (start_daemon(**config(upstream, tiers)) for _ in range(2))
    with one.wire() as first:
        first.send(get_text("user:1"))
        upstream.wait_for("/users/1")
        purge(one if where == "same" else two, tags=["people"])
        gate.set()
        first.read()
    time.sleep(0.05)
    for _ in range(10):
        assert one.get("user:1").body == b"new" and two.get("user:1").body == b"new"


def test_a_tag_costs_the_same_however_many_keys_carry_it(start_daemon, upstream, own_redis):
    upstream.on("*", Reply("x"))
    daemon = start_daemon(**config(upstream, {"store": {"redis": own_redis.url}}))
    for i in range(300):
        daemon.get(f"user:{i}")
    client = own_redis.client()
    client("CONFIG", "RESETSTAT")
    purge(daemon, tags=["people"])
    stats = client("INFO", "commandstats").decode()
    assert "cmdstat_scan" not in stats and "cmdstat_keys" not in stats
    assert "cmdstat_unlink:calls=1," in stats
    assert not daemon.get("user:7").cache.hit


def test_a_tag_whose_version_redis_forgot_is_a_miss(start_daemon, upstream, redis, prefix):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, {"store": {"redis": redis.url, "prefix": prefix}}))
    daemon.get("user:1")
    assert redis.client()("DEL", f"asidecar:tag:{prefix}people") == 1
    assert daemon.get("user:1").body == b"1"
    assert daemon.get("user:1").cache.hit


def test_a_tags_version_outlives_its_values(start_daemon, upstream, redis, prefix):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, {"store": {"redis": redis.url, "prefix": prefix}}, ttl="30h"))
    daemon.get("user:1")
    client = redis.client()
    assert client("PTTL", f"asidecar:tag:{prefix}people") >= client("PTTL", f"{prefix}user:1") - 1000


def test_other_tags_of_a_new_configuration_are_a_miss(start_daemon, upstream, redis, prefix):
    number_upstream(upstream, "/users/1")
    tiers = {"store": {"redis": redis.url, "prefix": prefix}}
    start_daemon(**config(upstream, tiers)).get("user:1")
    parts = config(upstream, tiers)
    parts["routes"][0]["tags"] = ["user:{id}", "persons"]
    assert start_daemon(**parts).get("user:1").body == b"1"


@pytest.mark.parametrize("tags", [[""], ["x" * 2049], "people", [1], ["x"] * 1001])
def test_tags_of_other_forms_are_400(start_daemon, upstream, store, tags):
    daemon = start_daemon(**config(upstream, {"store": store}))
    assert daemon.post("/v1/invalidate", {"tags": tags}).status == 400


# --- mode expire


@pytest.mark.parametrize("what", [{"keys": ["user:1"]}, {"patterns": ["user:*"]}, {"tags": ["people"]}])
def test_expire_marks_stale_and_keeps_for_errors(start_daemon, upstream, tiers, what):
    if "store" not in tiers and "tags" in what:
        pytest.skip("without a store a tag can only be purged")
    upstream.on("/users/1", Reply("old"), Reply(status=500), Reply("new"))
    daemon = start_daemon(**config(upstream, tiers, stale_if_error="100s"))
    daemon.get("user:1")
    assert purge(daemon, mode="expire", **what) == 1
    stale = daemon.get("user:1")
    assert (stale.status, stale.body) == (200, b"old")
    assert stale.cache.hit and stale.cache.ttl <= 0
    time.sleep(1.1)  # a failed load is not repeated for a second
    assert daemon.get("user:1").body == b"new"
    assert daemon.get("user:1").cache.hit


def test_an_expired_value_is_served_while_it_is_revalidated(start_daemon, upstream, tiers):
    upstream.on("/users/1", Reply("old"), Reply("new"))
    daemon = start_daemon(**config(upstream, tiers, stale_while_revalidate="100s"))
    daemon.get("user:1")
    purge(daemon, mode="expire", keys=["user:1"])
    assert daemon.get("user:1").body == b"old"
    eventually(lambda: daemon.get("user:1").body == b"new", within=2)


def test_expire_without_stale_rules_is_a_miss(start_daemon, upstream, tiers):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, tiers))
    daemon.get("user:1")
    purge(daemon, mode="expire", keys=["user:1", "user:absent"])
    assert daemon.get("user:1").body == b"1"


def test_no_load_that_began_before_an_expire_is_stored_as_fresh(start_daemon, upstream, redis, prefix):
    gate = threading.Event()
    upstream.on("/users/1", Reply("old", gate=gate), Reply("new"))
    tiers = {"store": {"redis": redis.url, "prefix": prefix}, "l1": {"size": "16MiB"}}
    one, two = (start_daemon(**config(upstream, tiers)) for _ in range(2))
    with one.wire() as first:
        first.send(get_text("user:1"))
        upstream.wait_for("/users/1")
        purge(two, mode="expire", keys=["user:1"])
        gate.set()
        first.read()
    time.sleep(0.05)
    assert one.get("user:1").body == two.get("user:1").body == b"new"


def test_a_foreign_value_is_not_written_into(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, {"store": {"redis": redis.url, "prefix": prefix}}))
    client = redis.client()
    client("SET", f"{prefix}user:1", "somebody else's, and longer than a mark is")
    client("LPUSH", f"{prefix}user:2", "a list")
    assert purge(daemon, mode="expire", keys=["user:1", "user:2"]) == 0
    assert client("GET", f"{prefix}user:1") == b"somebody else's, and longer than a mark is"


# --- compression


def test_large_values_are_compressed_in_redis_alone(start_daemon, upstream, redis, prefix):
    text = "".join(f'{{"line": {i}}}\n' for i in range(2000))
    upstream.on("/users/1", Reply(text))
    upstream.on("/users/2", Reply("x" * 100))
    tiers = {"store": {"redis": redis.url, "prefix": prefix}}
    daemon = start_daemon(**config(upstream, tiers, compress_above="4KiB"))
    for _ in range(2):
        assert daemon.get("user:1").body.decode() == text
        daemon.get("user:2")
    client = redis.client()
    assert client("STRLEN", f"{prefix}user:1") < len(text) / 3
    assert b"x" * 100 in client("GET", f"{prefix}user:2")
    off = start_daemon(**config(upstream, tiers, compress_above=0))
    assert off.get("user:1").body.decode() == text, "whoever reads need not be configured alike"


def test_a_value_of_one_letter_is_kept_as_it_is(start_daemon, upstream, redis, prefix):
    """It would look like a decompression bomb."""
    upstream.on("/users/1", Reply("x" * 500_000))
    daemon = start_daemon(**config(upstream, {"store": {"redis": redis.url, "prefix": prefix}}))
    assert daemon.get("user:1").cache.stored
    assert daemon.get("user:1").cache.hit


# --- what a review found


def test_a_pattern_reaches_variants(start_daemon, upstream, tiers):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, tiers, forward_headers=["X-Lang"]))
    assert daemon.get("user:1", x_lang="de").body == b"0"
    daemon.get("user:1", x_lang="de")
    purge(daemon, patterns=["user:?"])
    assert daemon.get("user:1", x_lang="de").body == b"1"


def test_a_tag_still_reaches_what_was_expired(start_daemon, upstream, tiers):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, tiers, stale_if_error="100s", stale_while_revalidate="100s"))
    daemon.get("user:1")
    purge(daemon, keys=["user:1"], mode="expire")
    purge(daemon, tags=["people"])
    assert daemon.get("user:1").body == b"1"


def test_what_a_tag_expired_ages(start_daemon, upstream, redis, prefix):
    number_upstream(upstream, "/users/1")
    daemon = start_daemon(**config(upstream, {"store": {"redis": redis.url, "prefix": prefix}}, stale_while_revalidate="1s"))
    daemon.get("user:1")
    purge(daemon, tags=["people"], mode="expire")
    time.sleep(1.2)
    assert daemon.get("user:1").body == b"1", "its time of revalidation is over"


def test_a_tag_that_came_with_a_reload_reaches_what_is_in_l1(start_daemon, upstream, tiers):
    import signal
    number_upstream(upstream, "/users/1")
    parts = config(upstream, tiers)
    daemon = start_daemon(**parts)
    daemon.get("user:1")
    daemon.get("user:1")
    parts["routes"][0]["tags"] = ["new"]
    daemon.write_config(**parts)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.admin("GET", "/v1/explain/user:1").json()["tags"] == ["new"])
    purge(daemon, tags=["new"])
    assert daemon.get("user:1").body != b"0"
