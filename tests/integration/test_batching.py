"""Misses of one SQL route that wait at the same time share one query; each key gets its own row, and fails alone."""
import threading
import uuid

import pytest

from harness.wire import fire

ROUTES = {
    "user:{id:int}": "SELECT id, name FROM users WHERE id = {id}",
    "untyped:{id}": "SELECT id, name FROM users WHERE id = {id}",
    "two:{a:int}:{b}": "SELECT {b}::text AS b, {a}::int + {a}::int AS twice",
    "text:{t:rest}": "SELECT {t}::text AS t",
    "top:{city}": "SELECT id, name FROM users WHERE city = {city} ORDER BY id DESC LIMIT 1",
    "limited:{n:int}": "SELECT id FROM users ORDER BY id LIMIT {n}",
    "cte:{id:int}": "WITH u AS (SELECT * FROM users WHERE id = {id}) SELECT name FROM u -- a comment",
    "uuid:{u:uuid}": "SELECT id FROM kinds WHERE uid = {u}",
    "alias:{id:int}": "SELECT k.id AS asidecar_k, s.name AS ord FROM users AS k JOIN users AS s USING (id) WHERE k.id = {id}",
    "big:{n:int}": "SELECT repeat('x', {n}::int) AS text",
    "counted:{who}": "SELECT name FROM counted({who}, 0)",
    "slow:{who}": "SELECT name FROM counted({who}, 0.1)",
}
MANY = {"city:{city}": "SELECT id FROM users WHERE city = {city} ORDER BY id", "series:{n:int}": "SELECT n FROM generate_series(1, {n}::int) AS n"}


@pytest.fixture
def make(start_daemon, postgres):
    def start(batch=64, connections=1, **more):
        routes = [{"name": key.split(":")[0], "key": key, "origin": "db", "load": load, "batch": batch, "rows": "many" if key in MANY else "one", **more}
                  for key, load in {**ROUTES, **MANY}.items()]
        return start_daemon(origins={"db": {"postgres": postgres.url, "connections": connections, "max_in_flight": 1000, "queue": 10000}}, threads=1, routes=routes)
    return start




def bodies(daemon, keys):
    answers = fire([daemon.data], keys)
    return [(a.status, a.json() if a.status == 200 else a.slug) for a in answers]


@pytest.mark.parametrize("batch", [1, 64])
def test_every_key_gets_its_own_row_whatever_the_query(make, batch):
    daemon = make(batch)
    names = {1: "Ada", 2: "Alan", 3: 'Gräce "the" O\'Hopper\\'}
    for _ in range(2):
        numbers = [1, 2, 3, 99, 100, 2, 1] * 10
        got = bodies(daemon, [f"user:{n}" for n in numbers])
        assert got == [(200, {"id": n, "name": names[n]}) if n in names else (404, "no-record") for n in numbers]
        daemon.post("/v1/invalidate", {"patterns": ["*"]})
    assert bodies(daemon, [f"cte:{n}" for n in (1, 2, 3, 4)] * 5) == [(200, {"name": names[n]}) if n < 4 else (404, "no-record") for n in (1, 2, 3, 4)] * 5
    assert bodies(daemon, [f"two:{n}:x{n}" for n in range(40)]) == [(200, {"b": f"x{n}", "twice": 2 * n}) for n in range(40)]
    assert bodies(daemon, ["top:London", "top:New%20York", "top:Nowhere"] * 4) == [(200, {"id": 2, "name": "Alan"}), (200, {"id": 3, "name": names[3]}), (404, "no-record")] * 4
    assert bodies(daemon, [f"limited:{n}" for n in range(1, 30)]) == [(200, {"id": 1})] * 29
    assert bodies(daemon, [f"alias:{n}" for n in (1, 2, 3)] * 5) == [(200, {"asidecar_k": n, "ord": names[n]}) for n in (1, 2, 3)] * 5
    assert bodies(daemon, [f"uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a{n}" for n in (10, 11, 12)] * 4) == [(404, "no-record"), (200, {"id": 1}), (404, "no-record")] * 4
    assert bodies(daemon, [f"city:{c}" for c in ("London", "Atlantis")] * 10) == [(200, [{"id": 1}, {"id": 2}]), (200, [])] * 10
    assert bodies(daemon, [f"series:{n}" for n in range(30)]) == [(200, [{"n": i + 1} for i in range(n)]) for n in range(30)]


@pytest.mark.parametrize("text", ['"', "\\", "\\\\\"", "{", "}", "{}", ",", "NULL", "null", " ", "a b", "ü✓", "'", "''; DROP TABLE users; --", "\n", "$1", "a,b"])
def test_texts_are_themselves_in_a_batch(make, text):
    import urllib.parse
    daemon = make()
    keys = [f"text:{urllib.parse.quote(f'{i}{text}', safe='')}" for i in range(30)]
    assert bodies(daemon, keys) == [(200, {"t": f"{i}{text}"}) for i in range(30)]


def test_waiting_misses_share_queries(make, postgres):
    daemon = make(connections=1)
    fire([daemon.data], [f"counted:w{i}" for i in range(100)])  # learns how long a key takes
    before = postgres.value("SELECT count(*) FROM calls")
    who = uuid.uuid4().hex
    fire([daemon.data], [f"counted:{who}{i}" for i in range(200)])
    assert postgres.value("SELECT count(*) FROM calls") - before == 200, "each key is asked for once"
    # now() is the same for all that one statement, which is one transaction, inserted.
    statements = postgres.value("SELECT count(DISTINCT xmin::text) FROM calls WHERE name LIKE %s", who + "%")
    assert statements < 60


def test_without_batching_each_key_is_a_query(make, postgres):
    daemon = make(batch=1)
    who = uuid.uuid4().hex
    fire([daemon.data], [f"counted:{who}{i}" for i in range(50)])
    assert postgres.value("SELECT count(DISTINCT xmin::text) FROM calls WHERE name LIKE %s", who + "%") == 50


def test_a_lone_miss_is_not_held_back(make):
    daemon = make()
    for n in (1, 2, 3):
        assert daemon.get(f"user:{n}").status == 200


def test_a_poisonous_value_fails_alone(make):
    daemon = make()
    fire([daemon.data], [f"untyped:{n}" for n in range(50)])
    keys = [f"untyped:{'poison' if n == 17 else n + 100}" for n in range(40)]
    got = bodies(daemon, keys)
    assert got[17] == (400, "bad-key")
    assert set(got[:17] + got[18:]) == {(404, "no-record")}


def test_a_value_too_large_for_a_batch_comes_whole(make):
    daemon = make()
    sizes = [10, 300_000, 20, 900_000, 30] * 4
    fire([daemon.data], ["big:1", "big:2", "big:3"])
    answers = fire([daemon.data], [f"big:{n + i}" for i, n in enumerate(sizes)])
    assert [len(a.json()["text"]) for a in answers] == [n + i for i, n in enumerate(sizes)]


def test_slow_queries_use_all_connections_instead_of_sharing_one(make, postgres):
    import time
    daemon = make(connections=4)
    fire([daemon.data], [f"slow:{uuid.uuid4().hex}" for _ in range(4)])
    began = time.monotonic()
    fire([daemon.data], [f"slow:{uuid.uuid4().hex}" for _ in range(16)])
    assert time.monotonic() - began < 1.2  # 4 rounds of 0.1 s; 1.6 s on one connection


def test_a_restart_in_the_middle_of_batches_gives_no_wrong_answer(make, postgres):
    daemon = make()
    stop, wrong = threading.Event(), []

    def ask(offset):
        n = offset
        while not stop.is_set():
            n += 7
            for key, answer in zip([f"two:{n}:y{n}", f"two:{n + 1}:y{n + 1}"], fire([daemon.data], [f"two:{n}:y{n}", f"two:{n + 1}:y{n + 1}"])):
                number = int(key.split(":")[1])
                if answer.status == 200 and answer.json() != {"b": f"y{number}", "twice": 2 * number}:
                    wrong.append((key, answer.body))

    threads = [threading.Thread(target=ask, args=(i * 10_000,)) for i in range(8)]
    for t in threads:
        t.start()
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
    stop.wait(0.3)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
    stop.wait(0.3)
    stop.set()
    for t in threads:
        t.join()
    assert wrong == []
