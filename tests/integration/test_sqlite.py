"""The SQLite origin: read-only, typed by the database, on its own thread."""
import sqlite3
import urllib.parse

import pytest

from harness.wire import fire


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "test.db"
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, score REAL, photo BLOB);
            INSERT INTO users VALUES (1, 'Ada', 1.5, NULL), (2, 'O''Brien "x" \\ ü ✓', -3, NULL), (3, NULL, 9007199254740993, NULL);
        """)
    return path


@pytest.fixture
def daemon(start_daemon, store, database):
    def route(name, key, load, **more):
        return {"name": name, "key": key, "origin": "local", "load": load, **more}

    return start_daemon(store=store, origins={"local": {"sqlite": str(database), "breaker": {"failures": 1000}}}, routes=[
        route("user", "user:{id:int}", "SELECT id, name, score FROM users WHERE id = {id}"),
        route("name", "name:{name:rest}", "SELECT id FROM users WHERE name = {name}"),
        route("echo", "echo:{text:rest}", "SELECT {text} AS text, {text} || '!' AS louder"),
        route("kinds", "kinds", "SELECT 9223372036854775807 AS big, 0.1 AS real8, 'x' AS text, NULL AS absent, 1 AS one"),
        route("all", "all", "SELECT id FROM users ORDER BY id DESC", rows="many"),
        route("none", "none", "SELECT id FROM users WHERE 0", rows="many"),
        route("write", "write:{name}", "WITH fresh(name) AS (SELECT {name}) INSERT INTO users (name) SELECT name FROM fresh RETURNING id"),
        route("broken", "broken", "SELECT * FROM no_such_table_hush"),
        route("endless", "endless:{id}", "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) AS n, {id} AS id FROM t",
              timeout="200ms"),
    ])


def test_a_row_is_a_json_object(daemon):
    answer = daemon.get("user:1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"id": 1, "name": "Ada", "score": 1.5}
    assert daemon.get("user:2").json() == {"id": 2, "name": 'O\'Brien "x" \\ ü ✓', "score": -3}
    assert daemon.get("user:1").cache.hit


def test_types_are_those_of_the_database(daemon):
    assert daemon.get("kinds").json() == {"big": 9223372036854775807, "real8": 0.1, "text": "x", "absent": None, "one": 1}


def test_no_row_is_404(daemon):
    assert daemon.get("user:99").slug == "no-record"


def test_many_rows_are_an_array(daemon):
    assert daemon.get("all").json() == [{"id": 3}, {"id": 2}, {"id": 1}]
    assert daemon.get("none").json() == []


def test_an_int_that_does_not_parse_is_400(daemon):
    assert daemon.get("user:one").status == 400


@pytest.mark.parametrize("text", ["'; DROP TABLE users; --", "' OR 1=1 --", "?1", "{text}", "ü✓", "a\nb"])
def test_a_parameter_is_a_value_and_never_sql(daemon, text):
    quoted = urllib.parse.quote(text, safe="")
    assert daemon.request("GET", f"/v1/keys/echo:{quoted}").json() == {"text": text, "louder": text + "!"}
    assert daemon.request("GET", f"/v1/keys/name:{quoted}").status == 404
    assert daemon.get("user:1").status == 200


def test_the_database_is_never_written(daemon, database):
    assert daemon.get("write:mallory").status >= 400
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM users").fetchone() == (3,)


def test_a_failing_statement_is_502_without_its_sql(daemon):
    answer = daemon.get("broken")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert b"hush" not in answer.body
    assert daemon.get("user:1").status == 200


def test_an_endless_statement_is_504_and_others_go_on(daemon):
    answers = fire([daemon.data], ["endless:1", "endless:2"])
    assert [(a.status, a.slug) for a in answers] == [(504, "origin-timeout")] * 2
    assert daemon.get("user:1").status == 200
