"""/v1/records: writes of the origin, and what the cache holds afterwards."""
import json
import threading
import time
import uuid

import pytest

from harness.upstream import Reply
from harness.wire import eventually, get_text

PUT = "UPDATE people SET name = {body.name}, age = {body.age}, doc = {body.doc}::jsonb WHERE id = {id} RETURNING id, name, age"
UPSERT = "INSERT INTO people (id, name) VALUES ({id}, {body.name}) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id, name"
DELETE = "DELETE FROM people WHERE id = {id}"


@pytest.fixture
def table(postgres):
    """A table of this test's own."""
    name = f"people_{uuid.uuid4().hex}"
    postgres.run(f"CREATE TABLE {name} (id int PRIMARY KEY, name text, age int, doc jsonb); INSERT INTO {name} VALUES (1, 'Ada', 36), (2, 'Alan', 41)")
    return name


def config(postgres, table, strategy="invalidate", put=PUT, delete=DELETE, **more):
    write = {"strategy": strategy, "put": put.replace("people", table), "delete": delete.replace("people", table)}
    return {"origins": {"db": {"postgres": postgres.url}},
            "routes": [{"name": "person", "key": "person:{id:int}", "origin": "db", "load": f"SELECT id, name, age FROM {table} WHERE id = {{id}}",
                        "write": write, **more}]}


def record(daemon, method, key, body=None, **headers):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    return daemon.request(method, f"/v1/records/{key}", data, headers)


NEW = {"name": "Grace", "age": 40, "doc": {"a": [1, None]}}


@pytest.mark.parametrize("strategy", ["invalidate", "through"])
@pytest.mark.parametrize("tiers", ["L2", "L1 and L2", "L1"])
def test_a_put_writes_the_origin_and_is_read_at_once(start_daemon, redis, prefix, postgres, table, strategy, tiers):
    parts = {"store": {"redis": redis.url, "prefix": prefix}} if "L2" in tiers else {}
    daemon = start_daemon(**parts, l1={"size": "1MiB" if "L1" in tiers else 0}, **config(postgres, table, strategy))
    assert daemon.get("person:1").json()["name"] == "Ada"
    answer = record(daemon, "PUT", "person:1", NEW)
    assert (answer.status, answer.json()) == (200, {"id": 1, "name": "Grace", "age": 40})
    assert answer.headers["content-type"] == "application/json"
    assert postgres.run(f"SELECT name, age, doc FROM {table} WHERE id = 1") == [("Grace", 40, {"a": [1, None]})]
    read = daemon.get("person:1")
    assert read.json() == {"id": 1, "name": "Grace", "age": 40}
    assert read.cache.hit == (strategy == "through" and "L2" in tiers)


def test_a_delete_removes_record_and_value(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table))
    daemon.get("person:1")
    assert record(daemon, "DELETE", "person:1").status == 204
    assert daemon.get("person:1").status == 404
    assert record(daemon, "DELETE", "person:1").slug == "no-record"


def test_no_row_is_404(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table))
    answer = record(daemon, "PUT", "person:99", NEW)
    assert (answer.status, answer.slug) == (404, "no-record")


def test_a_statement_without_returning_is_204(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table, put="UPDATE people SET name = {body.name} WHERE id = {id} -- RETURNING is only in this comment"))
    assert record(daemon, "PUT", "person:1", {"name": "x"}).status == 204
    assert record(daemon, "PUT", "person:99", {"name": "x"}).status == 404
    assert daemon.get("person:1").json()["name"] == "x"


@pytest.mark.parametrize("put", ["WITH n AS (SELECT {body.name} AS name) UPDATE people SET name = n.name FROM n WHERE id = {id} RETURNING id, people.name", UPSERT,
                                 "SELECT id, {body.name} AS name FROM people WHERE id = {id}"])
def test_statements_of_all_kinds(start_daemon, store, postgres, table, put):
    daemon = start_daemon(store=store, **config(postgres, table, put=put))
    for _ in range(2):
        assert record(daemon, "PUT", "person:1", {"name": "n"}).json() == {"id": 1, "name": "n"}


@pytest.mark.parametrize("value, stored", [("text", "text"), (None, None), (12, "12"), (1.5, "1.5"), (True, "true"), ({"a": 1}, '{"a":1}'), ("'; DROP TABLE x; --", "'; DROP TABLE x; --")])
def test_members_are_bound_as_what_they_are(start_daemon, store, postgres, table, value, stored):
    daemon = start_daemon(store=store, **config(postgres, table, put=UPSERT))
    assert record(daemon, "PUT", "person:5", {"name": value}).status == 200
    assert postgres.value(f"SELECT name FROM {table} WHERE id = 5") == stored


def test_nested_members(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table, put=UPSERT.replace("body.name", "body.who.first")))
    assert record(daemon, "PUT", "person:5", {"who": {"first": "x"}}).json()["name"] == "x"
    assert record(daemon, "PUT", "person:5", {"who": 7}).status == 400


def test_missing_members_are_named(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table))
    answer = record(daemon, "PUT", "person:1", {"age": 1})
    assert (answer.status, answer.slug) == (400, "bad-request")
    assert "'name'" in answer.json()["detail"] and "'doc'" in answer.json()["detail"] and "'age'" not in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"x", b"[1]", b'{"name": ', b'"name"', b'{"name":"\\u0000","age":1,"doc":1}'])
def test_a_body_that_is_no_object_is_400(start_daemon, store, postgres, table, body):
    daemon = start_daemon(store=store, **config(postgres, table))
    assert record(daemon, "PUT", "person:1", body).status == 400
    assert postgres.value(f"SELECT name FROM {table} WHERE id = 1") == "Ada"


def test_what_the_origin_refuses_leaves_the_cache_alone(start_daemon, store, postgres, table):
    daemon = start_daemon(store=store, **config(postgres, table))
    daemon.get("person:1")
    assert record(daemon, "PUT", "person:1", {**NEW, "age": "not a number"}).status == 400
    assert daemon.get("person:1").cache.hit
    assert record(daemon, "PUT", "person:1", {**NEW, "name": "x" * 1000, "age": 10**12}).status == 400


def test_other_keys_and_methods(start_daemon, store, postgres, table):
    parts = config(postgres, table)
    parts["routes"][0]["write"].pop("delete")
    parts["routes"].append({"name": "plain", "key": "plain:{id}", "put": True})
    daemon = start_daemon(store=store, **parts)
    assert record(daemon, "PUT", "nowhere:1", NEW).slug == "no-route"
    assert record(daemon, "PUT", "person:x", NEW).slug == "bad-key"
    no_write = record(daemon, "PUT", "plain:1", NEW)
    assert (no_write.status, no_write.slug) == (405, "method-not-allowed") and "write" in no_write.json()["detail"]
    for method in ("DELETE", "GET", "POST"):
        answer = daemon.request(method, "/v1/records/person:1", b"{}" if method == "POST" else None)
        assert answer.status == 405 and answer.headers["allow"] == "PUT"


# --- against loads and other writers


@pytest.mark.parametrize("strategy", ["invalidate", "through"])
@pytest.mark.parametrize("where", ["same", "other"])
def test_a_load_that_began_before_the_write_never_brings_the_old_record_back(start_daemon, redis, prefix, postgres, table, strategy, where):
    slow = config(postgres, table, strategy)
    slow["routes"][0]["load"] = f"WITH r AS MATERIALIZED (SELECT id, name, age FROM {table} WHERE id = {{id}}) SELECT r.* FROM r, (SELECT pg_sleep(0.4) IS NULL) AS s"
    parts = {"store": {"redis": redis.url, "prefix": prefix}, "l1": {"size": "1MiB"}, **slow}
    one, two = start_daemon(**parts), start_daemon(**parts)
    with one.wire() as wire:
        wire.send(get_text("person:1"))
        time.sleep(0.15)
        assert record(one if where == "same" else two, "PUT", "person:1", NEW).status == 200
        wire.read()
    for daemon in (one, two):
        assert daemon.get("person:1").json()["name"] == "Grace"


def test_two_writers_through_never_leave_the_older_value(start_daemon, redis, prefix, postgres, table):
    parts = {"store": {"redis": redis.url, "prefix": prefix}, "l1": {"size": "1MiB"}, **config(postgres, table, "through", put=UPSERT)}
    daemons = [start_daemon(**parts) for _ in range(2)]
    stop, wrong = threading.Event(), []

    def write_on(daemon, name):
        n = 0
        while not stop.is_set():
            n += 1
            record(daemon, "PUT", "person:7", {"name": f"{name}{n}"})

    for _ in range(15):
        stop.clear()
        writers = [threading.Thread(target=write_on, args=(daemons[i % 2], f"w{i}-")) for i in range(4)]
        for w in writers:
            w.start()
        time.sleep(0.1)
        stop.set()
        for w in writers:
            w.join()
        truth = postgres.value(f"SELECT name FROM {table} WHERE id = 7")
        time.sleep(0.02)
        wrong += [d.get("person:7").json()["name"] for d in daemons if d.get("person:7").json()["name"] != truth]
    assert wrong == []


def test_without_redis_nothing_is_written(start_daemon, own_redis, postgres, table):
    daemon = start_daemon(store={"redis": own_redis.url}, **config(postgres, table))
    own_redis.kill()
    eventually(lambda: record(daemon, "PUT", "person:1", NEW).status == 503, within=1)
    postgres.run(f"UPDATE {table} SET name = 'Ada' WHERE id = 1")
    answer = record(daemon, "PUT", "person:1", NEW)
    assert (answer.status, answer.slug) == (503, "store-down")
    assert postgres.value(f"SELECT name FROM {table} WHERE id = 1") == "Ada"


def test_a_write_that_times_out_invalidates(start_daemon, store, postgres, table):
    parts = config(postgres, table, put="UPDATE people SET name = {body.name} WHERE id = {id} AND pg_sleep(1) IS NOT NULL RETURNING id", timeout="200ms")
    daemon = start_daemon(store=store, **parts)
    daemon.get("person:1")
    assert record(daemon, "PUT", "person:1", {"name": "x"}).status == 504
    assert not daemon.get("person:1").cache.hit


# --- HTTP


def http_config(upstream, store, strategy="invalidate"):
    return {"store": store, "origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "product", "key": "product:{sku}", "origin": "web", "load": "GET /products/{sku}", "cache_control": "ignore",
                        "write": {"strategy": strategy, "put": "PUT /products/{sku}", "delete": "DELETE /products/{sku}"}}]}


@pytest.mark.parametrize("strategy", ["invalidate", "through"])
def test_the_body_is_sent_on(start_daemon, upstream, store, strategy):
    daemon = start_daemon(**http_config(upstream, store, strategy))
    upstream.on("/products/1", Reply("old"), Reply('{"n":1}'), Reply("new"))
    assert daemon.get("product:1").body == b"old"
    answer = record(daemon, "PUT", "product:1", b"<any body>", **{"Content-Type": "text/xml"})
    assert (answer.status, answer.body) == (200, b'{"n":1}')
    sent = upstream.requests[-1]
    assert sent.method == "PUT" and sent.headers["content-type"] == "text/xml" and sent.body == b"<any body>"
    assert daemon.get("product:1").body == (b'{"n":1}' if strategy == "through" else b"new")


@pytest.mark.parametrize("status, expected", [(204, 204), (404, 404), (410, 404), (409, 502), (500, 502), (302, 502)])
def test_statuses_of_the_upstream(start_daemon, upstream, store, status, expected):
    upstream.on("/products/1", Reply("old"), Reply("", status=status), Reply("new"))
    daemon = start_daemon(**http_config(upstream, store))
    daemon.get("product:1")
    assert record(daemon, "PUT", "product:1", b"x").status == expected
    # Only what is known to have changed nothing leaves the value where it is.
    assert daemon.get("product:1").body == (b"old" if status == 409 else b"new")


@pytest.mark.parametrize("strategy", ["invalidate", "through"])
def test_a_write_that_the_origin_applies_after_its_timeout_is_seen_in_the_end(start_daemon, upstream, store, strategy):
    parts = http_config(upstream, store, strategy)
    parts["routes"][0]["timeout"] = "300ms"
    daemon = start_daemon(**parts)
    upstream.on("/products/1", Reply("old"), Reply("", status=204, delay=0.8), Reply("old"), Reply("new"))
    daemon.get("product:1")
    assert record(daemon, "PUT", "product:1", b"x").status == 504
    assert daemon.get("product:1").body == b"old"
    assert daemon.get("product:1").cache.hit
    eventually(lambda: daemon.get("product:1").body == b"new", within=10)


# --- what a review found


def test_constraint_violations_do_not_open_the_breaker(start_daemon, store, postgres, table):
    postgres.run(f"ALTER TABLE {table} ADD CHECK (age < 200)")
    parts = config(postgres, table)
    parts["origins"]["db"]["breaker"] = {"failures": 3}
    daemon = start_daemon(store=store, **parts)
    for _ in range(5):
        assert record(daemon, "PUT", "person:1", {**NEW, "age": 500}).status == 502
    assert daemon.get("person:2").status == 200


def test_a_write_that_was_never_sent_leaves_the_value_where_it_is(start_daemon, redis, prefix, postgres, table):
    postgres.run("CHECKPOINT")
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, **config(postgres, table))
    daemon.get("person:1")
    postgres.stop()
    try:
        eventually(lambda: record(daemon, "PUT", "person:1", NEW).status in (502, 503))
        assert record(daemon, "PUT", "person:1", NEW).status in (502, 503)
        assert daemon.get("person:1").cache.hit
    finally:
        postgres.start()


def test_a_query_that_calls_a_function_for_each_row_runs_to_its_end(start_daemon, store, postgres, table):
    name = f"rename_{uuid.uuid4().hex}"
    postgres.run(f"CREATE FUNCTION {name}(who int, how text) RETURNS int LANGUAGE plpgsql VOLATILE AS "
                 f"$$ BEGIN UPDATE {table} SET name = how WHERE id = who; RETURN who; END $$")
    daemon = start_daemon(store=store, **config(postgres, table, put=f"SELECT {name}(id, {{body.name}}) AS id FROM people"))
    assert record(daemon, "PUT", "person:1", {"name": "same"}).status == 200
    assert postgres.run(f"SELECT DISTINCT name FROM {table}") == [("same",)]
