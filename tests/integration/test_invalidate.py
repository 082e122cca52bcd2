"""Calls over several keys: POST /v1/invalidate and POST /v1/mget (contract 3); what Redis must confirm, and what it fences (contract 5)."""
import base64
import json
import threading

import pytest

from harness.ports import free_port
from harness.upstream import Reply
from harness.wire import eventually, fire, get_text


def origin_and_routes(upstream):
    return {"origins": {"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore"},
                       {"name": "any", "key": "{all:rest}", "put": True}]}


@pytest.fixture(params=["L1", "L2"])
def daemon(start_daemon, request, redis, prefix, upstream):
    upstream.on("/things/1", Reply('{"id":1}'))
    upstream.on("/things/2", Reply("not JSON", headers={"Content-Type": "text/plain"}))
    upstream.on("/things/bad", Reply(status=500))
    tiers = {"l1": {"size": "16MiB"}} if request.param == "L1" else {"store": {"redis": redis.url, "prefix": prefix}}
    return start_daemon(**origin_and_routes(upstream), **tiers)


def put(daemon, *keys):
    for key in keys:
        assert daemon.key("PUT", key, b"1").status == 204


def cached(daemon, *keys):
    return [key for key in keys if daemon.get(key).status == 200]


# --- invalidate


def test_keys_are_invalidated_and_counted(daemon):
    put(daemon, "a", "b", "c")
    answer = daemon.post("/v1/invalidate", {"keys": ["a", "b"]})
    assert (answer.status, answer.json()) == (200, {"invalidated": 2})
    assert cached(daemon, "a", "b", "c") == ["c"]


def test_purge_is_the_default_mode_and_may_be_said(daemon):
    put(daemon, "a")
    assert daemon.post("/v1/invalidate", {"keys": ["a"], "patterns": [], "tags": [], "mode": "purge"}).json() == {"invalidated": 1}


def test_nothing_asked_is_nothing_done(daemon):
    put(daemon, "a")
    assert daemon.post("/v1/invalidate", {}).json() == {"invalidated": 0}
    assert daemon.post("/v1/invalidate", {"keys": []}).json() == {"invalidated": 0}
    assert cached(daemon, "a") == ["a"]


def test_keys_that_are_not_cached_are_fine(daemon):
    assert daemon.post("/v1/invalidate", {"keys": ["never"]}).json() == {"invalidated": 0}


@pytest.mark.parametrize("pattern, gone", [
    ("user:*", ["user:1", "user:22", "user:1:x"]),
    ("user:?", ["user:1"]),
    ("user:[12]", ["user:1"]),
    ("*:x", ["user:1:x"]),
    ("user", []),
    ("us\\*r", ["us*r"]),
    ("*", ["user:1", "user:22", "user:1:x", "us*r", "other"]),
])
def test_patterns_are_globs_over_the_whole_key(daemon, pattern, gone):
    keys = ["user:1", "user:22", "user:1:x", "us*r", "other"]
    put(daemon, *keys)
    assert daemon.post("/v1/invalidate", {"patterns": [pattern]}).json() == {"invalidated": len(gone)}
    assert cached(daemon, *keys) == [key for key in keys if key not in gone]


def test_a_pattern_covers_many_keys(daemon):
    put(daemon, *[f"many:{i}" for i in range(300)])
    assert daemon.post("/v1/invalidate", {"patterns": ["many:*"]}).json() == {"invalidated": 300}


def test_a_pattern_stays_within_the_prefix(start_daemon, redis, prefix):
    route = [{"name": "any", "key": "{all:rest}", "put": True}]
    one = start_daemon(store={"redis": redis.url, "prefix": prefix + "[a]*:"}, routes=route)
    two = start_daemon(store={"redis": redis.url, "prefix": prefix + "ax:"}, routes=route)
    put(one, "k")
    put(two, "k")
    assert one.post("/v1/invalidate", {"patterns": ["*"]}).json() == {"invalidated": 1}
    assert cached(two, "k") == ["k"], "the prefix is no pattern"


def test_invalidation_reaches_the_other_instances(start_daemon, store):
    route = [{"name": "any", "key": "{all:rest}", "put": True}]
    one, two = start_daemon(store=store, routes=route), start_daemon(store=store, routes=route)
    put(one, "a", "b")
    assert cached(two, "a", "b") == ["a", "b"]
    two.post("/v1/invalidate", {"keys": ["a"]})
    two.post("/v1/invalidate", {"patterns": ["b*"]})
    assert cached(one, "a", "b") == []


def test_patterns_are_run_by_scan_and_never_by_keys(start_daemon, own_redis, upstream):
    daemon = start_daemon(store={"redis": own_redis.url}, **origin_and_routes(upstream))
    put(daemon, "a", "b")
    assert daemon.post("/v1/invalidate", {"patterns": ["a*"]}).json() == {"invalidated": 1}
    commands = own_redis.client()("INFO", "commandstats").decode()
    assert "cmdstat_scan:" in commands and "cmdstat_keys:" not in commands


@pytest.mark.parametrize("document", [
    {"keys": ["k"] * 1001}, {"patterns": ["k"] * 1001}, {"patterns": [""]},
    {"keys": "a"}, {"keys": [1]}, {"keys": None}, {"patterns": "a*"}, {"patterns": [None]}, {"mode": "explode"}, {"mode": 1},
    ["a"], "a", None,
], ids=lambda d: str(d)[:30])
def test_a_body_of_the_wrong_shape_is_400(daemon, document):
    answer = daemon.post("/v1/invalidate", document)
    assert answer.status == 400 and answer.slug in ("bad-request", "bad-key")


@pytest.mark.parametrize("body", [b"", b"{", b"{'keys':[]}", b"\xff\xfe", b'{"keys":["\xff"]}', b"[" * 10_000, b'{"keys":["a"]} trailing'], ids=lambda b: repr(b[:20]))
@pytest.mark.parametrize("target", ["/v1/invalidate", "/v1/mget"])
def test_a_body_that_is_not_json_is_400(daemon, target, body):
    answer = daemon.request("POST", target, body)
    assert answer.status == 400 and answer.slug in ("bad-request", "bad-key")


@pytest.mark.parametrize("key", ["x" * 1025, "a\u0000b"], ids=["too long", "NUL"])
def test_a_bad_key_is_400(daemon, key):
    assert daemon.post("/v1/invalidate", {"keys": [key]}).slug in ("bad-key", "bad-request")


def test_a_thousand_keys_are_accepted(daemon):
    put(daemon, "k0", "k999")
    assert daemon.post("/v1/invalidate", {"keys": [f"k{i}" for i in range(1000)]}).json() == {"invalidated": 2}


# --- what Redis did not confirm


CHANGES = {
    "PUT": lambda daemon, key: daemon.key("PUT", key, b"1"),
    "DELETE": lambda daemon, key: daemon.key("DELETE", key),
    "invalidate by key": lambda daemon, key: daemon.post("/v1/invalidate", {"keys": [key]}),
    "invalidate by pattern": lambda daemon, key: daemon.post("/v1/invalidate", {"patterns": [key + "*"]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_503_without_redis(start_daemon, upstream, change):
    daemon = start_daemon(store={"redis": f"redis://127.0.0.1:{free_port()}/0"}, **origin_and_routes(upstream))
    answer = CHANGES[change](daemon, "a")
    assert (answer.status, answer.slug) == (503, "store-down")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_full_redis_takes_no_put_but_every_delete_and_keeps_no_lock(start_daemon, own_redis, upstream):
    upstream.on("/things/1", Reply("1"))
    daemon = start_daemon(store={"redis": own_redis.url}, **origin_and_routes(upstream))
    put(daemon, "a")
    client = own_redis.client()
    client("CONFIG", "SET", "maxmemory-policy", "noeviction")
    client("CONFIG", "SET", "maxmemory", "1")
    assert daemon.key("PUT", "a", b"2").slug == "store-down"
    assert daemon.get("thing:1").body == b"1"
    assert daemon.key("DELETE", "a").status == 204
    assert client("KEYS", "*") == []


def test_a_redis_that_became_a_replica_still_serves_reads(start_daemon, own_redis, upstream):
    upstream.on("/things/1", Reply("1"))
    daemon = start_daemon(store={"redis": own_redis.url}, **origin_and_routes(upstream))
    put(daemon, "a")
    client = own_redis.client()
    client("REPLICAOF", "127.0.0.1", free_port())
    assert daemon.get("a").cache.hit
    answer = daemon.get("thing:1")
    assert (answer.status, answer.body) == (200, b"1") and not answer.cache.stored
    assert daemon.key("DELETE", "a").slug == "store-down"
    client("REPLICAOF", "NO", "ONE")
    eventually(lambda: daemon.get("thing:1").cache.hit)


# --- loads under way, in Redis


@pytest.fixture
def pair(start_daemon, redis, prefix, upstream):
    """pair(format) is two instances that share a Redis."""
    def start(form):
        store = {"redis": redis.url, "prefix": prefix, "format": form}
        return [start_daemon(store=store, **origin_and_routes(upstream)) for _ in range(2)]

    return start


def test_misses_over_two_instances_are_one_load_in_raw_format_too(pair, upstream):
    upstream.on("/things/1", Reply("1", delay=0.2))
    answers = fire([daemon.data for daemon in pair("raw")], ["thing:1"] * 100)
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"1")}
    assert upstream.count("/things/1") == 1


@pytest.mark.parametrize("change", ["DELETE", "invalidate by key", "invalidate by pattern"])
@pytest.mark.parametrize("where", [0, 1], ids=["the same instance", "another instance"])
def test_no_load_that_an_invalidation_overtook_stores_its_value_in_raw_format_either(pair, upstream, where, change):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old", gate=gate), Reply("new"))
    daemons = pair("raw")
    with daemons[0].wire() as wire:
        wire.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        assert CHANGES[change](daemons[where], "thing:1").status in (200, 204)
        gate.set()
        answer = wire.read()
    assert answer.status == 200 and not answer.cache.stored
    assert {daemon.get("thing:1").body for daemon in daemons} == {b"new"}


@pytest.mark.parametrize("form", ["record", "raw"])
def test_a_load_whose_lock_another_took_stores_nothing_and_leaves_the_lock(pair, redis, prefix, upstream, form):
    gate = threading.Event()
    upstream.on("/things/1", Reply("late", gate=gate))
    client = redis.client()
    lock = f"asidecar:lock:{{{prefix}thing:1}}"
    with pair(form)[0].wire() as wire:
        wire.send(get_text("thing:1"))
        upstream.wait_for("/things/1")
        assert client("SET", lock, "another", "XX", "PX", 60_000) == b"OK"
        gate.set()
        answer = wire.read()
    assert (answer.status, answer.body) == (200, b"late") and not answer.cache.stored
    assert client("EXISTS", f"{prefix}thing:1") == 0
    assert client("GET", lock) == b"another"
    client("DEL", lock)


# --- mget


def test_mget_answers_every_key(daemon):
    daemon.get("thing:1")
    answer = daemon.post("/v1/mget", {"keys": ["thing:1", "thing:2", "thing:none"]})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    results = answer.json()["results"]
    assert set(results) == {"thing:1", "thing:2", "thing:none"}
    assert results["thing:1"] == {"status": 200, "value": {"id": 1}}
    assert results["thing:2"] == {"status": 200, "base64": base64.b64encode(b"not JSON").decode()}
    assert results["thing:none"] == {"status": 404}


def test_mget_loads_and_stores_what_is_missing(daemon, upstream):
    daemon.post("/v1/mget", {"keys": ["thing:1"]})
    assert daemon.get("thing:1").cache.hit
    assert upstream.count("/things/1") == 1


def test_mget_tells_errors_key_by_key(daemon):
    results = daemon.post("/v1/mget", {"keys": ["thing:bad", "thing:1"]}).json()["results"]
    assert results["thing:bad"]["status"] == 502
    assert results["thing:1"]["status"] == 200


def test_mget_tells_bad_keys_key_by_key(daemon):
    bad = ["x" * 1025, "a\u0000b", ""]
    results = daemon.post("/v1/mget", {"keys": [*bad, "thing:1"]}).json()["results"]
    assert {key: result["status"] for key, result in results.items()} == {**dict.fromkeys(bad, 400), "thing:1": 200}


@pytest.mark.parametrize("directive, status", [("only-if-cached", 504), ("no-cache", 200)])
def test_the_requests_cache_control_holds_for_every_key_of_an_mget(daemon, upstream, directive, status):
    body = json.dumps({"keys": ["thing:1", "thing:2"]})
    daemon.get("thing:1")
    results = daemon.request("POST", "/v1/mget", body, {"Cache-Control": directive}).json()["results"]
    assert (results["thing:1"]["status"], results["thing:2"]["status"]) == (200, status)
    assert upstream.count("/things/1") == (2 if directive == "no-cache" else 1)


def test_mget_of_nothing_is_empty(daemon):
    assert daemon.post("/v1/mget", {"keys": []}).json() == {"results": {}}


def test_mget_takes_a_thousand_keys_and_no_more(daemon):
    put(daemon, "k1", "k500")
    answer = daemon.post("/v1/mget", {"keys": [f"k{i}" for i in range(1000)]})
    assert answer.status == 200
    found = [key for key, result in answer.json()["results"].items() if result["status"] == 200]
    assert sorted(found) == ["k1", "k500"]
    assert daemon.post("/v1/mget", {"keys": [f"k{i}" for i in range(1001)]}).slug == "bad-request"


@pytest.mark.parametrize("document", [{}, {"keys": "a"}, {"keys": [1]}, {"keys": {}}, [], 1], ids=str)
def test_mget_of_the_wrong_shape_is_400(daemon, document):
    assert daemon.post("/v1/mget", document).slug == "bad-request"


def test_mget_keys_come_back_as_they_were_sent(daemon):
    keys = ["quote\"d", "back\\slash", "ünï✓🔑", "tab\there", "a/b?c#d%41"]
    results = daemon.post("/v1/mget", {"keys": keys}).json()["results"]
    assert set(results) == set(keys)


def test_values_that_only_look_like_json_come_as_base64(daemon):
    for key, body in (("j1", b"{"), ("j2", b"NaN"), ("j3", b"1 2"), ("j4", b"\"\xff\""), ("j5", b"")):
        daemon.key("PUT", key, body)
    results = daemon.post("/v1/mget", {"keys": ["j1", "j2", "j3", "j4", "j5"]}).json()["results"]
    for key, body in (("j1", b"{"), ("j2", b"NaN"), ("j3", b"1 2"), ("j4", b"\"\xff\""), ("j5", b"")):
        assert base64.b64decode(results[key]["base64"]) == body


def test_the_same_key_twice_is_answered_once(daemon):
    answer = daemon.post("/v1/mget", {"keys": ["thing:1", "thing:1"]})
    assert answer.json()["results"]["thing:1"]["status"] == 200
    assert answer.body.count(b'"thing:1"') == 1, "no member of a JSON object stands there twice"
