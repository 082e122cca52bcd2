"""The PostgreSQL origin: values as the database renders them, parameters that stay parameters, and faults."""
import json
import random
import threading
import time
import urllib.parse
import uuid

import pytest

from harness.ports import free_port
from harness.wire import eventually, fire

LOADS = {
    "user:{id:int}": "SELECT id, name, email, city FROM users WHERE id = {id}",
    "name:{name:rest}": "SELECT id, name FROM users WHERE name = {name}",
    "echo:{text:rest}": "SELECT {text}::text AS text",
    "kinds:{id:int}": "SELECT * FROM kinds WHERE id = {id}",
    "account:{n:int}": "SELECT * FROM pgbench_accounts WHERE aid = {n}",
    "uuid:{u:uuid}": "SELECT id FROM kinds WHERE uid = {u}",
    "untyped:{id}": "SELECT id, name FROM users WHERE id = {id}",
    "small:{id:int}": "SELECT id FROM kinds WHERE small = {id}",
    "two:{a:int}:{b}": "SELECT {b}::text AS b, {a}::int + {a}::int AS twice",
    "backend:{id}": "SELECT pg_backend_pid() AS pid, {id}::text AS id, pg_sleep(0.05) IS NULL AS x",
    "broken:{id}": "SELECT * FROM no_such_table_hush WHERE id = {id}",
    "divide:{n:int}": "SELECT 1 / {n}::int AS result",
    "counted:{who}": "SELECT * FROM counted({who}, 0)",
    "big:{n:int}": "SELECT repeat('x', {n}::int) AS text",
}
MANY = {
    "city:{city}": "SELECT id, name FROM users WHERE city = {city} ORDER BY id",
    "series:{n:int}": "SELECT n FROM generate_series(1, {n}::int) AS n ORDER BY n DESC LIMIT 100",
}


def route(name, key, load, **more):
    return {"name": name, "key": key, "origin": "db", "load": load, **more}


def routes():
    one = [route(key.split(":")[0], key, load) for key, load in LOADS.items()]
    many = [route(key.split(":")[0], key, load, rows="many") for key, load in MANY.items()]
    return one + many + [route("sleep", "sleep:{mark}", "SELECT {mark}::text AS mark, pg_sleep(30) IS NULL AS x", timeout="300ms")]


def origin(url, **more):
    return {"db": {"postgres": url, "connections": 2, "breaker": {"failures": 1000}, **more}}


@pytest.fixture(scope="module")
def module_daemon(start_module_daemon, redis, postgres):
    return start_module_daemon(store={"redis": redis.url, "prefix": f"pg{uuid.uuid4().hex}:"}, origins=origin(postgres.url), routes=routes())


@pytest.fixture
def daemon(module_daemon):
    """One daemon for the module; every test has keys of its own, or says no-cache."""
    return module_daemon


def fresh(daemon, key):
    return daemon.get(key, cache_control="no-cache")


# --- values


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_row_is_a_json_object(daemon, postgres, n):
    answer = fresh(daemon, f"user:{n}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == postgres.value("SELECT row_to_json(u) FROM users u WHERE id = %s", n)


def test_every_type_is_as_postgresql_renders_it(daemon, postgres):
    assert json.loads(fresh(daemon, "kinds:1").body, parse_float=str) == \
        json.loads(postgres.value("SELECT row_to_json(k)::text FROM kinds k WHERE id = 1"), parse_float=str)


def test_no_row_is_404(daemon):
    assert fresh(daemon, "user:999").slug == "no-record"


def test_many_rows_are_an_array_in_the_querys_order(daemon):
    assert fresh(daemon, "city:London").json() == [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Alan"}]
    assert [row["n"] for row in fresh(daemon, "series:5").json()] == [5, 4, 3, 2, 1]


def test_no_rows_of_many_are_an_empty_array(daemon):
    answer = fresh(daemon, "city:Atlantis")
    assert (answer.status, answer.json()) == (200, [])


def test_ten_thousand_random_accounts_equal_their_rows_and_are_hits_the_second_time(start_daemon, redis, postgres, prefix):
    postgres.pgbench(scale=10)
    config = {"store": {"redis": redis.url, "prefix": prefix}, "origins": origin(postgres.url), "routes": routes()}
    one = start_daemon(**config)
    numbers = random.Random(7).sample(range(1, 1_000_001), 10_000)
    rows = dict(postgres.run("SELECT aid, row_to_json(a)::text FROM pgbench_accounts a WHERE aid = ANY(%s)", numbers))

    def answers(daemon):
        for start in range(0, len(numbers), 100):
            some = numbers[start:start + 100]
            yield from zip(fire([daemon.data], [f"account:{n}" for n in some]), some)

    for answer, n in answers(one):
        assert answer.headers["cache-status"] == "asidecar; fwd=uri-miss; stored"
        assert answer.body.decode() == rows[n]
    for answer, n in answers(one):
        assert answer.cache.hit and answer.body.decode() == rows[n]
    # A second daemon on the same Redis needs no query: its origin is not even there.
    two = start_daemon(**{**config, "origins": origin(f"postgresql://app@127.0.0.1:{free_port()}/app")})
    for answer, n in answers(two):
        assert answer.cache.hit and answer.body.decode() == rows[n]


def test_a_large_value_comes_whole(daemon):
    assert len(fresh(daemon, "big:900000").json()["text"]) == 900000


# --- parameters


@pytest.mark.parametrize("text", [
    "'; DROP TABLE users; --", "' OR '1'='1", "\\'; SELECT 1; --", "$1", "{id}", "%s", "$$", "1) UNION SELECT word FROM secrets --",
    "/* */", "a\"b", "ünï✓🔑", "line\nbreak", "tab\t", " spaces ", "null", "\\x00",
])
def test_a_parameter_is_a_value_and_never_sql(daemon, postgres, text):
    key = "echo:" + urllib.parse.quote(text, safe="")
    answer = daemon.request("GET", f"/v1/keys/{key}", headers={"Cache-Control": "no-cache"})
    assert (answer.status, answer.json()) == (200, {"text": text})
    assert daemon.request("GET", "/v1/keys/name:" + urllib.parse.quote(text, safe=""), headers={"Cache-Control": "no-cache"}).status == 404
    assert postgres.value("SELECT count(*) FROM users") == 3


def test_several_placeholders_may_be_used_in_any_order_and_twice(daemon):
    assert fresh(daemon, "two:21:left").json() == {"b": "left", "twice": 42}


@pytest.mark.parametrize("text", ["abc", "1.5", "1e3", "0x10", "%201", "1%20", "1;", "9223372036854775808", "--1", "1%27", "+"])
def test_an_int_that_does_not_parse_is_400(daemon, text):
    answer = daemon.request("GET", f"/v1/keys/user:{text}")
    assert answer.status == 400
    assert answer.slug in ("bad-key", "bad-request")


def test_an_int_that_does_not_parse_is_never_sent(start_daemon, store, postgres):
    daemon = start_daemon(store=store, origins=origin(postgres.url),
                          routes=[route("counted", "counted:{n:int}", "SELECT * FROM counted('never-sent-' || {n}::text, 0)")])
    for text in ("abc", "1.0", "1;2"):
        assert daemon.get(f"counted:{text}").status == 400
    assert daemon.get("counted:5").status == 200
    assert postgres.value("SELECT count(*) FROM calls WHERE name LIKE 'never-sent-%%'") == 1


def test_a_uuid_that_does_not_parse_is_400(daemon):
    assert fresh(daemon, "uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").json() == {"id": 1}
    assert fresh(daemon, "uuid:not-a-uuid").status == 400
    assert fresh(daemon, "uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1").status == 400


@pytest.mark.parametrize("key", ["untyped:abc", "untyped:1%20OR%201=1", "small:70000"])
def test_a_value_that_the_column_cannot_take_is_an_error_of_its_own(daemon, key):
    answer = daemon.request("GET", f"/v1/keys/{key}")
    assert answer.status in (400, 502)
    assert answer.slug in ("bad-key", "bad-request", "origin-failed")
    assert fresh(daemon, "user:1").status == 200


def test_an_untyped_parameter_takes_the_type_of_its_column(daemon):
    assert fresh(daemon, "untyped:2").json() == {"id": 2, "name": "Alan"}


# --- any SELECT or function call


@pytest.mark.parametrize("load, expected", [
    ("SELECT {id}::int::bigint AS a, 'x::y {1,2}' AS b", {"a": 7, "b": "x::y {1,2}"}),
    ("SELECT {id}::int AS a -- a comment with {braces} and 'a quote", {"a": 7}),
    ("/* {open} /* nested '{too}' */ */ SELECT {id}::int AS a", {"a": 7}),
    ("SELECT $$dollar { } 'text' :x$$ AS a, $tag$ $$ $1 $tag$ AS b, {id}::int AS c", {"a": "dollar { } 'text' :x", "b": " $$ $1 ", "c": 7}),
    ("SELECT E'it\\'s {}' AS a, {id}::int AS b", {"a": "it's {}", "b": 7}),
    ("SELECT 'it''s' AS \"odd { name\", {id}::int AS b", {"odd { name": "it's", "b": 7}),
    ("SELECT * FROM counted('fn-' || {id}::text, 0)", {"name": "fn-7", "waited": 0}),
    ("WITH t AS (SELECT {id}::int AS n) SELECT n, n * 2 AS m FROM t", {"n": 7, "m": 14}),
    ("SELECT {id}::int AS a;", {"a": 7}),
    ("SELECT '{{1,2}}'::int[] = ARRAY[[1,2]] AS a, {id}::int AS b", {"a": True, "b": 7}),
    ("SELECT (ARRAY[1,2,3])[1:2] AS a, {id}::int % 4 AS b", {"a": [1, 2], "b": 3}),
], ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_sql_of_all_kinds_works(start_daemon, postgres, store, load, expected):
    daemon = start_daemon(store=store, origins=origin(postgres.url), routes=[route("any", "any:{id:int}", load)])
    answer = daemon.get("any:7")
    assert (answer.status, answer.json()) == (200, expected), daemon.log()


def test_a_unix_socket_works_too(start_daemon, postgres, store):
    daemon = start_daemon(store=store, origins=origin(postgres.socket_url), routes=routes())
    assert daemon.get("user:1").status == 200


# --- faults


def test_a_failing_statement_is_502_without_its_sql(daemon):
    answer = fresh(daemon, "broken:1")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert b"no_such_table" not in answer.body and b"SELECT" not in answer.body
    assert fresh(daemon, "divide:0").status == 502
    assert fresh(daemon, "divide:1").json() == {"result": 1}


def test_a_slow_statement_is_504_in_time_and_is_cancelled(daemon, postgres):
    started = time.monotonic()
    answers = fire([daemon.data], [f"sleep:{i}" for i in range(2)])
    assert 0.25 < time.monotonic() - started < 2
    assert [(a.status, a.slug) for a in answers] == [(504, "origin-timeout")] * 2
    eventually(lambda: postgres.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%pg_sleep(30)%%' "
                                      "AND pid <> pg_backend_pid()") == 0, within=3)


def test_connections_work_after_a_timeout(daemon):
    fire([daemon.data], [f"sleep:after-{i}" for i in range(4)])
    answers = fire([daemon.data], [f"echo:after-{i}" for i in range(16)])
    assert [a.json()["text"] for a in answers] == [f"after-{i}" for i in range(16)]


def test_no_answer_ever_goes_to_another_key(daemon):
    """Statements that fail, time out and succeed share two pipelined connections."""
    keys = []
    for i in range(40):
        keys += [f"echo:mine-{i}", f"divide:{i % 2}", f"broken:{i}", f"user:{i % 4}"]
    for _ in range(2):
        for key, answer in zip(keys, fire([daemon.data], keys)):
            if key.startswith("echo:"):
                assert answer.json() == {"text": key[5:]}
            elif key == "divide:0" or key.startswith("broken:"):
                assert answer.status == 502
            elif key == "divide:1":
                assert answer.json() == {"result": 1}
            elif key == "user:0":
                assert answer.status == 404
            else:
                assert answer.json()["id"] == int(key[5:])


def test_no_more_connections_than_configured_are_used(daemon):
    answers = fire([daemon.data], [f"backend:{uuid.uuid4()}" for _ in range(20)])
    assert {a.status for a in answers} == {200}
    assert len({a.json()["pid"] for a in answers}) <= 2


def test_a_killed_backend_costs_no_later_request(daemon, postgres):
    fresh(daemon, "echo:before")
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND pid <> pg_backend_pid() AND datname = 'postgres'")
    eventually(lambda: fresh(daemon, "echo:again").status == 200, within=3)
    assert {a.status for a in fire([daemon.data], [f"echo:k-{uuid.uuid4()}" for _ in range(10)])} == {200}


def test_a_restart_of_the_server_is_survived(daemon, postgres):
    assert daemon.get("user:1").status == 200
    postgres.stop()
    try:
        assert daemon.get("user:1").cache.hit, "what is cached needs no origin"
        away = fresh(daemon, "echo:away")
        assert away.status in (502, 503, 504)
        assert away.slug in ("origin-failed", "origin-open", "origin-timeout")
        assert daemon.admin("GET", "/readyz").status == 200
    finally:
        postgres.start()
    time.sleep(0.2)  # attempts of just now may have failed; from then on the next request is a reason to try again
    assert {a.status for a in fire([daemon.data], [f"echo:b-{uuid.uuid4()}" for _ in range(20)])} == {200}


def test_the_daemon_starts_without_the_server(start_daemon, store):
    daemon = start_daemon(store=store, origins=origin(f"postgresql://app:pg-s3cr3t@127.0.0.1:{free_port()}/app"), routes=routes())
    answer = daemon.get("user:1")
    assert answer.status in (502, 504)
    assert b"s3cr3t" not in answer.body and "s3cr3t" not in daemon.log()


def test_a_batch_of_different_keys_is_answered_key_by_key(daemon):
    """Whatever the daemon does to send many loads at once, every key gets its own row."""
    numbers = list(range(1, 4)) * 20 + list(range(100, 140))
    threads, wrong = [], []

    def ask(n):
        answer = fresh(daemon, f"user:{n}")
        if (answer.status, answer.status == 200 and answer.json()["id"]) != ((200, n) if n < 4 else (404, False)):
            wrong.append((n, answer))

    for n in numbers:
        threads.append(threading.Thread(target=ask, args=(n,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert not wrong
