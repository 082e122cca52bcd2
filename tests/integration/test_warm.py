"""Warming: keys that a query names are in the cache before somebody asks."""
import json
import time
import uuid

import pytest

from harness.wire import call, eventually


def config(postgres, query, key="user:{id}", when="startup", **more):
    return {"origins": {"db": {"postgres": postgres.url}},
            "routes": [{"name": "user", "key": "user:{id:int}", "origin": "db", "load": "SELECT id, name FROM users WHERE id = {id}", "negative_ttl": "10s"},
                       {"name": "slow", "key": "slow:{id}", "origin": "db", "load": "SELECT name FROM counted({id}, 0.1)"}],
            "warm": [{"name": "users", "origin": "db", "query": query, "key": key, "when": when, **more}]}


def warm(daemon, name="users"):
    return daemon.admin("POST", f"/v1/warm/{name}")


def test_at_startup(start_daemon, store, postgres):
    daemon = start_daemon(store=store, **config(postgres, "SELECT id FROM users"))
    eventually(lambda: "warmed" in daemon.log())
    assert all(daemon.get(f"user:{n}").cache.hit for n in (1, 2, 3))
    assert '\nasidecar_warm_keys_total{warm="users",result="warmed"} 3' in daemon.admin("GET", "/metrics").body.decode()


def test_by_hand_and_only_then(start_daemon, store, postgres):
    daemon = start_daemon(store=store, **config(postgres, "SELECT id FROM users", when="manual"))
    assert not daemon.get("user:1").cache.hit
    answer = warm(daemon)
    assert (answer.status, answer.json()) == (200, {"keys": 3, "warmed": 3, "failed": 0})
    assert daemon.get("user:3").cache.hit
    assert warm(daemon, "nobody").status == 404
    assert daemon.admin("GET", "/v1/warm/users").status == 405


def test_at_an_interval(start_daemon, store, postgres):
    who = uuid.uuid4().hex
    daemon = start_daemon(store=store, **config(postgres, f"SELECT name AS id FROM counted('{who}', 0)", key="slow:{id}", when="1s"))
    eventually(lambda: postgres.calls(who) >= 5, within=6)  # each run asks twice: the query, and once the key
    assert daemon.get(f"slow:{who}").cache.hit


def test_before_ready_holds_readiness_up(start_daemon, store, postgres):
    parts = config(postgres, "SELECT 'x' || n AS id FROM generate_series(1, 40) AS n", key="slow:{id}", before_ready=True, concurrency=4)
    daemon = start_daemon.make(store=store, **parts)
    import threading
    starting = threading.Thread(target=daemon.start)
    starting.start()
    began = time.monotonic()
    saw_503 = False
    while time.monotonic() - began < 15:
        try:
            status = daemon.admin("GET", "/readyz").status
        except OSError:
            continue
        saw_503 = saw_503 or status == 503
        if status == 200:
            break
        assert call(daemon.admin_address, "GET", "/livez").status == 200
    starting.join()
    assert saw_503 and daemon.get("slow:x40").cache.hit


def test_one_instance_at_a_time(start_daemon, store, postgres):
    parts = config(postgres, "SELECT 'y' || n AS id FROM generate_series(1, 10) AS n", key="slow:{id}", when="manual", concurrency=1)
    one, two = start_daemon(store=store, **parts), start_daemon(store=store, **parts)
    import threading
    done = []
    runner = threading.Thread(target=lambda: done.append(warm(one)))
    runner.start()
    eventually(lambda: "warming" in one.log())  # it has the lease
    busy = warm(two)
    assert (busy.status, busy.slug) == (409, "conflict")
    assert warm(one).status == 409
    runner.join()
    assert done[0].status == 200
    assert warm(two).status == 200, "the lease was given back"


@pytest.mark.parametrize("query, status, what", [("SELECT id AS n FROM users", 400, "no column 'id'"), ("SELECT * FROM no_such_table_hush", 502, "the log says why"),
                                                 ("SELECT pg_sleep(0) AS id, 1/0", 502, "the log says why")])
@pytest.mark.parametrize("when", ["startup", "manual"])
def test_a_query_that_fails_is_told_and_stops_nothing(start_daemon, store, postgres, query, status, what, when):
    daemon = start_daemon(store=store, **config(postgres, query, "user:{id}", when=when))
    if when == "startup":
        eventually(lambda: "a warm-up failed" in daemon.log())
    answers = []
    eventually(lambda: answers.append(warm(daemon)) or answers[-1].status != 409)  # the one at startup gives its lease back after it has failed
    answer = answers[-1]
    eventually(lambda: "a warm-up failed" in daemon.log())  # the log is written behind
    assert answer.status == status and what in answer.json()["detail"] and "hush" not in answer.body.decode()
    assert daemon.get("user:1").status == 200


def test_keys_that_fail_or_have_no_route_are_counted(start_daemon, store, postgres):
    daemon = start_daemon(store=store, **config(postgres, "SELECT unnest(ARRAY['1', 'x', '99', '2']) AS id", when="manual"))
    assert warm(daemon).json() == {"keys": 4, "warmed": 3, "failed": 1}


def test_a_sqlite_origin_can_warm_too(start_daemon, tmp_path):
    import sqlite3
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b');")
    daemon = start_daemon(origins={"local": {"sqlite": str(tmp_path / "w.db")}},
                          routes=[{"name": "t", "key": "t:{id:int}", "origin": "local", "load": "SELECT v FROM t WHERE id = {id}"}],
                          warm=[{"name": "all", "origin": "local", "query": "SELECT id FROM t", "key": "t:{id}"}])
    eventually(lambda: daemon.get("t:2").cache.hit)
