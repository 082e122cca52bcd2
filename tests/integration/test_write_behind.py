"""Write-behind: acknowledged once it is in the journal, applied at least once, in order per key."""
import json
import random
import threading
import time
import uuid

import pytest

from harness.upstream import Reply
from harness.wire import eventually


@pytest.fixture
def table(postgres):
    name = f"behind_{uuid.uuid4().hex}"
    postgres.run(f"CREATE TABLE {name} (id text PRIMARY KEY, n int, write_id text CHECK (n IS NULL OR n >= 0)); CREATE TABLE {name}_log (id text, n int, at bigserial)")
    return name


def config(redis, prefix, postgres, table, **more):
    put = (f"WITH l AS (INSERT INTO {table}_log (id, n) VALUES ({{id}}, {{body.n}}::int)) "
           f"INSERT INTO {table} (id, n, write_id) VALUES ({{id}}, {{body.n}}::int, {{write.id}}) ON CONFLICT (id) DO UPDATE SET n = excluded.n, write_id = excluded.write_id")
    return {"store": {"redis": redis.url, "prefix": prefix}, "origins": {"db": {"postgres": postgres.url, "breaker": {"failures": 10000}}},
            "routes": [{"name": "item", "key": "item:{id}", "origin": "db", "load": f"SELECT id, n FROM {table} WHERE id = {{id}}",
                        "write": {"strategy": "behind", "put": put, "delete": f"DELETE FROM {table} WHERE id = {{id}}"}, **more}]}


def put(daemon, key, n):
    return daemon.request("PUT", f"/v1/records/{key}", json.dumps({"n": n}).encode())


def metric(daemon, name):
    text = daemon.admin("GET", "/metrics").body.decode()
    return float(text.split(f"\n{name} ")[1].split("\n")[0])


def test_a_write_is_acknowledged_and_soon_applied(start_daemon, redis, prefix, postgres, table):
    daemon = start_daemon(**config(redis, prefix, postgres, table))
    assert daemon.get("item:a").status == 404
    answer = put(daemon, "item:a", 7)
    assert answer.status == 202
    eventually(lambda: postgres.run(f"SELECT n, write_id FROM {table} WHERE id = 'a'") == [(7, answer.json()["id"])])
    eventually(lambda: daemon.get("item:a").status == 200 and daemon.get("item:a").json() == {"id": "a", "n": 7})
    assert daemon.request("DELETE", "/v1/records/item:a").status == 202
    eventually(lambda: daemon.get("item:a").status == 404)
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0)
    assert metric(daemon, "asidecar_write_behind_applied_total") == 2


def test_what_was_loaded_before_an_acknowledged_write_answers_nobody_after_it(start_daemon, redis, prefix, postgres, table):
    postgres.run(f"INSERT INTO {table} VALUES ('a', 1)")
    daemon = start_daemon(**config(redis, prefix, postgres, table), l1={"size": "1MiB"})
    eventually(lambda: daemon.get("item:a").cache.detail == "L1")
    postgres.run(f"BEGIN; LOCK TABLE {table}_log")  # so that it is not applied
    try:
        assert put(daemon, "item:a", 2).status == 202
        answer = daemon.get("item:a")
        assert answer.cache.fwd == "uri-miss" and answer.json()["n"] == 1, "loaded anew, though not written yet"
    finally:
        postgres.run("COMMIT")
    eventually(lambda: daemon.get("item:a").json()["n"] == 2)


def test_the_cached_value_is_replaced_when_the_write_is_applied(start_daemon, redis, prefix, postgres, table):
    postgres.run(f"INSERT INTO {table} VALUES ('a', 1)")
    parts = {**config(redis, prefix, postgres, table), "l1": {"size": "1MiB"}}
    one, two = start_daemon(**parts), start_daemon(**parts)
    for daemon in (one, two):
        eventually(lambda daemon=daemon: daemon.get("item:a").cache.detail == "L1")
    put(one, "item:a", 2)
    for daemon in (one, two):
        eventually(lambda daemon=daemon: daemon.get("item:a").json()["n"] == 2, within=3)


def test_writes_of_one_key_are_applied_in_order(start_daemon, redis, prefix, postgres, table):
    daemons = [start_daemon(**config(redis, prefix, postgres, table)) for _ in range(2)]
    for n in range(300):
        assert put(daemons[n % 2], f"item:k{n % 3}", n).status == 202
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0, within=15)
    for k in range(3):
        seen = [n for (n,) in postgres.run(f"SELECT n FROM {table}_log WHERE id = 'k{k}' ORDER BY at")]
        assert seen == list(range(k, 300, 3))


def test_what_is_wrong_with_the_request_is_told_at_once(start_daemon, redis, prefix, postgres, table):
    daemon = start_daemon(**config(redis, prefix, postgres, table))
    answer = daemon.request("PUT", "/v1/records/item:a", b'{"m": 1}')
    assert answer.status == 400 and "'n'" in answer.json()["detail"]
    assert redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0


def test_without_redis_a_write_is_refused(start_daemon, own_redis, prefix, postgres, table):
    daemon = start_daemon(**config(own_redis, prefix, postgres, table))
    own_redis.kill()
    eventually(lambda: put(daemon, "item:a", 1).status == 503)
    assert put(daemon, "item:a", 1).slug == "store-down"


def test_what_the_origin_refuses_goes_to_the_dead_letters_and_the_rest_goes_on(start_daemon, redis, prefix, postgres, table):
    daemon = start_daemon(**config(redis, prefix, postgres, table))
    put(daemon, "item:a", "not a number")
    put(daemon, "item:a", 5)
    put(daemon, "item:b", -1)
    put(daemon, "item:b", 6)
    daemon.request("DELETE", "/v1/records/item:absent")
    eventually(lambda: postgres.run(f"SELECT id, n FROM {table} ORDER BY id") == [("a", 5), ("b", 6)])
    client = redis.client()
    letters = eventually(lambda: (lambda l: l if len(l) == 3 else None)(client("XRANGE", f"asidecar:{{writes:{prefix}}}:dead", "-", "+")))
    fields = [dict(zip(f[::2], f[1::2])) for _, f in letters]
    assert sorted((f[b"key"], f[b"route"]) for f in fields) == [(b"item:a", b"item"), (b"item:absent", b"item"), (b"item:b", b"item")]
    reasons = {f[b"key"]: f[b"reason"] for f in fields}
    assert b"22P02" in reasons[b"item:a"] and b"23514" in reasons[b"item:b"] and b"no such record" in reasons[b"item:absent"]
    assert metric(daemon, "asidecar_write_behind_dead_letters_total") == 3
    assert client("XLEN", f"asidecar:{{writes:{prefix}}}") == 0


def test_an_origin_that_is_away_is_waited_for(start_daemon, redis, prefix, postgres, table):
    daemon = start_daemon(**config(redis, prefix, postgres, table))
    postgres.run("CHECKPOINT")  # the tests' server does not sync
    postgres.stop()
    try:
        for n in range(5):
            assert put(daemon, "item:a", n).status == 202
        time.sleep(0.5)
        assert redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 5
    finally:
        postgres.start()
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(4,)], within=10)
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0)
    assert redis.client()("EXISTS", f"asidecar:{{writes:{prefix}}}:dead") == 0


def test_a_full_journal_refuses(start_daemon, redis, prefix, postgres, table):
    parts = config(redis, prefix, postgres, table)
    client = redis.client()
    stream = f"asidecar:{{writes:{prefix}}}"
    client("SET", f"{stream}:lease", "somebody", "PX", 60_000)
    client("EVAL", "for i=1,100000 do redis.call('XADD',KEYS[1],'*','a','b') end return 1", 1, stream)
    daemon = start_daemon(**parts)
    answer = put(daemon, "item:a", 1)
    assert (answer.status, answer.slug) == (503, "overloaded") and answer.headers["retry-after"]
    client("DEL", stream, f"{stream}:lease")


def test_a_journal_of_too_many_bytes_refuses(start_daemon, redis, prefix, postgres, table):
    parts = config(redis, prefix, postgres, table)
    parts["store"]["journal_max"] = "1MiB"
    client = redis.client()
    stream = f"asidecar:{{writes:{prefix}}}"
    client("SET", f"{stream}:lease", "somebody", "PX", 60_000)
    daemon = start_daemon(**parts)
    def put_large():
        return daemon.request("PUT", "/v1/records/item:a", json.dumps({"n": 1, "more": "x" * 100_000}).encode())
    answers = [put_large() for _ in range(15)]
    assert answers[0].status == 202
    assert (answers[-1].status, answers[-1].slug) == (503, "overloaded")
    assert 9 <= client("XLEN", stream) <= 12
    client("DEL", f"{stream}:lease")
    eventually(lambda: put_large().status == 202)


@pytest.mark.parametrize("server, warned", [({"appendonly": "yes"}, None), ({}, "appendonly is off"),
                                            ({"appendonly": "yes", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "allkeys-lru may evict")])
def test_a_redis_that_may_lose_the_journal_is_warned_of(start_daemon, own_redis, prefix, postgres, table, server, warned):
    for name, value in server.items():
        own_redis.client()("CONFIG", "SET", name, value)
    daemon = start_daemon(**config(own_redis, prefix, postgres, table))
    assert put(daemon, "item:a", 1).status == 202
    if warned is not None:
        eventually(lambda: "could get lost" in daemon.log() and warned in daemon.log())
    else:
        eventually(lambda: postgres.run(f"SELECT n FROM {table}") == [(1,)])
        assert "could get lost" not in daemon.log()


def test_http_origins_are_written_behind_too(start_daemon, redis, prefix, upstream):
    upstream.on("/products/1", Reply(status=500), Reply(status=503), Reply("ok"))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, origins={"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
                          routes=[{"name": "p", "key": "p:{sku}", "origin": "web", "load": "GET /products/{sku}",
                                   "write": {"strategy": "behind", "put": "PUT /products/{sku}"}}])
    assert daemon.request("PUT", "/v1/records/p:1", b"body", {"Content-Type": "text/x"}).status == 202
    eventually(lambda: upstream.count("/products/1") == 3, within=5)
    assert {(r.method, r.body, r.headers["content-type"]) for r in upstream.requests} == {("PUT", b"body", "text/x")}
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0)


def test_another_instance_takes_over_from_one_that_is_killed(start_daemon, redis, prefix, postgres, table):
    one = start_daemon(**config(redis, prefix, postgres, table, timeout="1s"))
    put(one, "item:a", 1)
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(1,)])
    two = start_daemon(**config(redis, prefix, postgres, table, timeout="1s"))
    assert put(one, "item:a", 2).status == 202
    one.kill()
    assert put(two, "item:a", 3).status == 202
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(3,)], within=18)


def test_no_acknowledged_write_is_lost_when_daemons_are_killed(start_daemon, redis, prefix, postgres, table):
    """Killed at random moments; the long form, with 200 kills, runs with ASIDECAR_LONG."""
    import os
    kills = 200 if os.environ.get("ASIDECAR_LONG") else 12
    parts = config(redis, prefix, postgres, table, timeout="1s")
    daemon = start_daemon(**parts)
    last, stop, lock = {}, threading.Event(), threading.Lock()
    current = [daemon]

    def write_on(key):
        n = 0
        while not stop.is_set():
            n += 1
            try:
                while not stop.is_set() and put(current[0], f"item:{key}", n).status != 202:
                    time.sleep(0.005)
                last[key] = n
            except (OSError, EOFError, ValueError):
                time.sleep(0.005)  # not acknowledged: the next number says the same key again

    writers = [threading.Thread(target=write_on, args=(f"w{i}",)) for i in range(6)]
    for w in writers:
        w.start()
    for _ in range(kills):
        time.sleep(0.02 + 0.1 * random.random())
        current[0].kill()
        redis.client()("DEL", f"asidecar:{{writes:{prefix}}}:lease")  # as if its ttl were over: else this takes 10 s each
        current[0].start()
    stop.set()
    for w in writers:
        w.join()
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0, within=60)
    rows = dict(postgres.run(f"SELECT id, n FROM {table}"))
    assert set(last) <= set(rows)
    for key, n in last.items():
        assert rows[key] in (n, n + 1), "n + 1 may have been journaled without its answer"
        seen = [v for (v,) in postgres.run(f"SELECT n FROM {table}_log WHERE id = %s ORDER BY at", key)]
        missing = set(range(1, n + 1)) - set(seen)
        assert all(m not in seen for m in missing)
    assert redis.client()("EXISTS", f"asidecar:{{writes:{prefix}}}:dead") == 0


# --- what a review found


def test_a_write_that_never_succeeds_does_not_hold_up_other_keys(start_daemon, redis, prefix, upstream):
    upstream.on("/a/bad", Reply(status=500))
    upstream.on("/a/good", Reply("ok"))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, origins={"web": {"http": upstream.url, "breaker": {"failures": 100000}}},
                          routes=[{"name": "a", "key": "a:{id}", "origin": "web", "load": "GET /a/{id}", "write": {"strategy": "behind", "put": "PUT /a/{id}"}}])
    daemon.request("PUT", "/v1/records/a:bad", b"1")
    eventually(lambda: upstream.count("/a/bad") >= 2)
    for n in range(5):
        before = upstream.count("/a/good")
        assert daemon.request("PUT", "/v1/records/a:good", str(n).encode()).status == 202
        eventually(lambda: upstream.count("/a/good") > before, within=3)
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 1)


def test_a_backlog_of_large_bodies_is_worked_off(start_daemon, redis, prefix, upstream):
    upstream.on("*", Reply(status=503))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix, "timeout": "500ms"}, origins={"web": {"http": upstream.url, "breaker": {"failures": 100000}}},
                          routes=[{"name": "a", "key": "a:{id}", "origin": "web", "load": "GET /a/{id}", "write": {"strategy": "behind", "put": "PUT /a/{id}"}}])
    for n in range(70):
        eventually(lambda n=n: daemon.request("PUT", f"/v1/records/a:{n}", b"x" * 1_000_000).status == 202)
    upstream.on("*", Reply("ok"))
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0, within=40)
    assert redis.client()("EXISTS", f"asidecar:{{writes:{prefix}}}:dead") == 0


def test_a_write_behind_a_slow_load_is_not_applied_twice_in_the_wrong_order(start_daemon, redis, prefix, postgres, table):
    parts = config(redis, prefix, postgres, table, timeout="300ms")
    parts["origins"]["db"]["connections"] = 2
    parts["routes"].append({"name": "slow", "key": "slow:{s}", "origin": "db", "load": "SELECT {s} AS s, pg_sleep(1) IS NULL AS x", "timeout": "3s"})
    daemon = start_daemon(threads=1, **parts)
    with daemon.wire() as wire:
        wire.send("GET /v1/keys/slow:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
        for n in (1, 2):
            assert put(daemon, "item:a", n).status == 202
        wire.read()
    eventually(lambda: redis.client()("XLEN", f"asidecar:{{writes:{prefix}}}") == 0)
    time.sleep(0.3)
    seen = [n for (n,) in postgres.run(f"SELECT n FROM {table}_log WHERE id = 'a' ORDER BY at")]
    assert seen == sorted(seen) and postgres.value(f"SELECT n FROM {table} WHERE id = 'a'") == 2


def test_what_was_acknowledged_is_applied_after_the_strategy_has_changed(start_daemon, redis, prefix, postgres, table):
    parts = config(redis, prefix, postgres, table)
    client = redis.client()
    lease = f"asidecar:{{writes:{prefix}}}:lease"
    client("SET", lease, "somebody", "PX", 60_000)
    one = start_daemon(**parts)
    assert put(one, "item:a", 3).status == 202
    one.stop()
    client("DEL", lease)
    parts["routes"][0]["write"]["strategy"] = "invalidate"
    start_daemon(**parts)
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(3,)])


def test_a_stalled_redis_does_not_cost_the_lease(start_daemon, own_redis, prefix, postgres, table):
    daemon = start_daemon(**config(own_redis, prefix, postgres, table))
    put(daemon, "item:a", 1)
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(1,)])
    own_redis.stall()
    time.sleep(0.3)
    own_redis.go_on()
    eventually(lambda: put(daemon, "item:a", 2).status == 202, within=3)
    eventually(lambda: postgres.run(f"SELECT n FROM {table} WHERE id = 'a'") == [(2,)], within=4)


def test_many_waiting_keys_of_one_origin_do_not_hold_up_another(start_daemon, redis, prefix, upstream):
    upstream.on("/good/1", Reply("ok"))
    write = lambda name: {"strategy": "behind", "put": f"PUT /{name}/{{id}}"}  # noqa: E731
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix},
                          origins={"away": {"http": "http://127.0.0.1:1"}, "web": {"http": upstream.url}},
                          routes=[{"name": "bad", "key": "bad:{id}", "origin": "away", "load": "GET /bad/{id}", "write": write("bad")},
                                  {"name": "good", "key": "good:{id}", "origin": "web", "load": "GET /good/{id}", "write": write("good")}])
    for n in range(300):
        assert daemon.request("PUT", f"/v1/records/bad:{n}", b"x").status == 202
    time.sleep(2)
    client = redis.client()
    before = int(client("INFO", "commandstats").decode().split("cmdstat_xrange:calls=")[1].split(",")[0])
    assert daemon.request("PUT", "/v1/records/good:1", b"x").status == 202
    eventually(lambda: upstream.count("/good/1") == 1, within=5)
    time.sleep(2)
    looks = int(client("INFO", "commandstats").decode().split("cmdstat_xrange:calls=")[1].split(",")[0]) - before
    assert looks < 200
    client("DEL", f"asidecar:{{writes:{prefix}}}")
