"""Redis away, slow, full or full of rubbish never fails a read that the origin can answer (contract 5.1, 5.7); raw format."""
import json
import threading
import time

import pytest

from harness.ports import free_port
from harness.redis import RedisError
from harness.relay import Relay
from harness.upstream import Reply
from harness.wire import eventually, fire, get_text


def config(upstream, redis_url, prefix="cache:", **store):
    return {"store": {"redis": redis_url, "prefix": prefix, **store},
            "origins": {"web": {"http": upstream.url, "breaker": {"failures": 1000}, "max_in_flight": 1000}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore", "ttl": "100s"},
                       {"name": "session", "key": "session:{id}", "put": True}]}


@pytest.fixture(autouse=True)
def things(upstream):
    upstream.on("*", Reply('"origin"'))


def metric(daemon, name):
    lines = [line for line in daemon.admin("GET", "/metrics").body.decode().splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


# --- replies


@pytest.mark.parametrize("seed", range(4))
def test_replies_may_come_in_any_pieces(start_daemon, upstream, own_redis, seed):
    relay = Relay(own_redis.port, seed)
    try:
        daemon = start_daemon(**config(upstream, f"redis://127.0.0.1:{relay.port}/0", timeout="5s"), threads=1, defaults={"compress_above": 0})
        sizes = [0, 1, 10, 300, 5000, 40_000, 65_400, 65_536, 70_000, 300_000]
        bodies = {n: bytes(b"abcdefghijklmnop"[(i * i + n) % 16] for i in range(n)) for n in sizes}
        for n, body in bodies.items():
            assert daemon.key("PUT", f"session:{n}", body).status == 204
        with daemon.wire() as one, daemon.wire() as two:
            order = [sizes[(7 * i + seed) % len(sizes)] for i in range(60)]
            for wire in (one, two):
                threading.Thread(target=wire.send, args=("".join(get_text("session:none" if i % 9 == 0 else f"session:{n}") for i, n in enumerate(order)),)).start()
            for i, n in enumerate(order):
                for wire in (one, two):
                    answer = wire.read()
                    if i % 9 == 0:
                        assert answer.slug == "no-record"
                    else:
                        assert (answer.status, answer.body, answer.cache.detail) == (200, bodies[n], "L2")
        assert metric(daemon, "asidecar_redis_reconnects_total") == 0
    finally:
        relay.close()


# --- away


def test_a_redis_that_is_absent_at_start_fails_nothing(start_daemon, upstream):
    daemon = start_daemon(**config(upstream, f"redis://127.0.0.1:{free_port()}/0"))
    assert daemon.admin("GET", "/readyz").status == 200
    answer = daemon.get("thing:1")
    assert (answer.status, answer.body) == (200, b'"origin"')
    assert answer.headers["cache-status"] == "asidecar; fwd=bypass; detail=redis-down"


def test_a_value_that_only_redis_can_hold_is_not_said_to_be_absent_without_it(start_daemon, upstream):
    daemon = start_daemon(**config(upstream, f"redis://127.0.0.1:{free_port()}/0"))
    answer = daemon.get("session:1")
    assert (answer.status, answer.slug) == (503, "store-down") and answer.headers["retry-after"]
    assert daemon.key("PUT", "session:1", b"1").status != 204, "nothing was stored"


def test_a_redis_that_appears_later_is_used(start_daemon, upstream, own_redis):
    own_redis.kill()
    daemon = start_daemon(**config(upstream, own_redis.url))
    assert daemon.get("thing:1").cache.detail == "redis-down"
    own_redis.start()
    eventually(lambda: daemon.get("thing:1").cache.hit, within=2.5)


def test_no_request_fails_when_redis_is_killed_under_load(start_daemon, upstream, own_redis):
    daemon = start_daemon(**config(upstream, own_redis.url))
    stop, bad, count = threading.Event(), [], [0]

    def read_on(worker):
        i = 0
        while not stop.is_set():
            i += 1
            answers = fire([daemon.data], [f"thing:{worker}-{(i + n) % 20}" for n in range(8)])
            count[0] += len(answers)
            bad.extend(a for a in answers if a.status != 200)

    workers = [threading.Thread(target=read_on, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(0.3)
        own_redis.kill()
        time.sleep(0.5)
        before = count[0]
        time.sleep(0.3)
        assert count[0] > before, "requests go on without Redis"
        own_redis.start()
        eventually(lambda: daemon.get("thing:back").cache.hit, within=2.5)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not bad


def test_readiness_and_metrics_tell_that_redis_is_away(start_daemon, upstream, own_redis):
    daemon = start_daemon(**config(upstream, own_redis.url))
    assert metric(daemon, "asidecar_redis_up") == 1
    own_redis.kill()
    daemon.get("thing:1")
    eventually(lambda: metric(daemon, "asidecar_redis_up") == 0, within=2)
    assert daemon.admin("GET", "/readyz").status == 200
    assert daemon.admin("GET", "/livez").status == 200


# --- slow


def test_a_stalled_redis_costs_only_the_first_requests_the_timeout(start_daemon, upstream, own_redis):
    daemon = start_daemon(**config(upstream, own_redis.url, timeout="200ms"))
    daemon.get("thing:warm")
    own_redis.stall()
    try:
        times = []
        for i in range(40):
            started = time.monotonic()
            answer = daemon.get(f"thing:{i}")
            times.append(time.monotonic() - started)
            assert answer.status == 200
        assert max(times) < 1.0, "no request pays the timeout many times"
        slow = [t for t in times if t > 0.15]
        assert slow and len(slow) <= 8, times
    finally:
        own_redis.go_on()
    eventually(lambda: daemon.get("thing:warm").cache.hit, within=3)


def test_a_stalled_redis_that_comes_back_answers_nobody_elses_question(start_daemon, upstream, own_redis):
    """Replies that arrive after their timeout belong to requests that are gone."""
    daemon = start_daemon(**config(upstream, own_redis.url, timeout="50ms"))
    for i in range(20):
        daemon.key("PUT", f"session:{i}", str(i).encode())
    for _ in range(3):
        own_redis.stall()
        fire([daemon.data], [f"session:{i}" for i in range(20)])
        own_redis.go_on()
        for i in range(20):
            answer = daemon.get(f"session:{i}")
            assert answer.status == 503 or answer.body == str(i).encode()
    eventually(lambda: all(daemon.get(f"session:{i}").body == str(i).encode() for i in range(20)), within=3)


# --- full


def test_a_full_redis_fails_no_read(start_daemon, upstream, own_redis):
    daemon = start_daemon(**config(upstream, own_redis.url))
    daemon.get("thing:before")
    client = own_redis.client()
    client("CONFIG", "SET", "maxmemory-policy", "noeviction")
    client("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisError):
        client("SET", "x", "y")
    assert daemon.get("thing:before").cache.hit
    for i in range(5):
        answer = daemon.get(f"thing:{i}")
        assert (answer.status, answer.body) == (200, b'"origin"') and not answer.cache.stored
    client("CONFIG", "SET", "maxmemory", "0")
    eventually(lambda: daemon.get("thing:1").cache.hit, within=2)


# --- rubbish


def test_a_damaged_record_is_a_miss_and_never_an_answer(start_daemon, redis, prefix, upstream):
    daemon = start_daemon(**config(upstream, redis.url, prefix))
    client = redis.client()
    name = f"{prefix}thing:1"
    assert daemon.get("thing:1").cache.stored
    good = client("GET", name)
    upstream.on("/things/1", Reply('"reloaded"'))
    damaged = [good[:n] for n in (0, 1, 3, 8, len(good) // 2, len(good) - 1)]
    damaged += [good + b"x", b"\x00" * len(good), b'"just a string of another app"', b"\xff" * 4096]
    for position in range(0, len(good), max(1, len(good) // 24)):
        damaged.append(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1:])
    for value in damaged:
        client("SET", name, value)
        answer = daemon.get("thing:1")
        assert (answer.status, answer.body) == (200, b'"reloaded"'), value
        assert not answer.cache.hit, value
    client("SET", name, good)
    assert daemon.get("thing:1").body == b'"origin"', "the untouched record is still good"


def test_the_record_of_another_key_may_be_copied_without_harm(start_daemon, redis, prefix, upstream):
    daemon = start_daemon(**config(upstream, redis.url, prefix))
    client = redis.client()
    daemon.get("thing:1")
    client("SET", f"{prefix}session:1", client("GET", f"{prefix}thing:1"))
    assert daemon.get("session:1").status in (200, 404)
    assert daemon.get("thing:1").cache.hit


@pytest.mark.parametrize("make", [("LPUSH", "a", "b"), ("HSET", "f", "v"), ("SADD", "m")], ids=lambda m: m[0])
def test_a_redis_value_of_another_type_is_a_miss(start_daemon, redis, prefix, upstream, make):
    daemon = start_daemon(**config(upstream, redis.url, prefix))
    command, *rest = make
    redis.client()(command, f"{prefix}thing:1", *rest)
    answer = daemon.get("thing:1")
    assert (answer.status, answer.body) == (200, b'"origin"')
    assert daemon.get("session:x").status == 404, "the connection still works"


def test_the_keys_life_in_redis_is_that_of_the_value(start_daemon, redis, prefix, upstream):
    parts = config(upstream, redis.url, prefix)
    parts["routes"][0]["stale_if_error"] = "50s"
    daemon = start_daemon(**parts)
    daemon.get("thing:1")
    assert 148_000 <= redis.client()("PTTL", f"{prefix}thing:1") <= 155_000


def test_a_flushed_redis_is_just_cold(start_daemon, own_redis, upstream):
    daemon = start_daemon(**config(upstream, own_redis.url))
    daemon.get("thing:1")
    client = own_redis.client()
    client("FLUSHALL")
    client("SCRIPT", "FLUSH")
    assert daemon.get("thing:1").cache.stored, "scripts are sent again"
    assert daemon.get("thing:1").cache.hit


# --- raw format: plain bodies, shared with other apps


def test_raw_values_of_other_apps_are_served(start_daemon, redis, prefix, upstream):
    daemon = start_daemon(**config(upstream, redis.url, prefix, format="raw"))
    redis.client()("SET", f"{prefix}thing:1", '{"theirs":true}', "EX", "500")
    answer = daemon.get("thing:1")
    assert answer.json() == {"theirs": True}
    assert answer.cache.hit and answer.cache.detail == "L2" and 497 <= answer.cache.ttl <= 500
    assert 497 <= answer.max_age <= 500
    assert answer.headers["etag"] and answer.headers["content-type"]
    assert upstream.count() == 0


def test_raw_values_that_the_daemon_stores_are_plain_and_expire(start_daemon, redis, prefix, upstream):
    daemon = start_daemon(**config(upstream, redis.url, prefix, format="raw"))
    assert daemon.get("thing:1").cache.stored
    client = redis.client()
    assert client("GET", f"{prefix}thing:1") == b'"origin"'
    assert 97_000 <= client("PTTL", f"{prefix}thing:1") <= 100_000
    assert daemon.key("PUT", "session:1", b"\x00binary\xff").status == 204
    assert client("GET", f"{prefix}session:1") == b"\x00binary\xff"
    daemon.key("DELETE", "session:1")
    assert client("EXISTS", f"{prefix}session:1") == 0


def test_a_raw_value_without_expiry_is_served(start_daemon, redis, prefix, upstream):
    daemon = start_daemon(**config(upstream, redis.url, prefix, format="raw"))
    redis.client()("SET", f"{prefix}thing:1", "forever")
    assert daemon.get("thing:1").body == b"forever"


# --- how to reach it


def test_user_password_and_database_of_the_url_are_used(start_daemon, own_redis, upstream):
    client = own_redis.client(db=3)
    client("ACL", "SETUSER", "sidecar", "on", ">p@ss/w:rd", "~*", "&*", "+@all")
    client("ACL", "SETUSER", "default", "off")
    daemon = start_daemon(**config(upstream, f"redis://sidecar:p%40ss%2Fw%3Ard@127.0.0.1:{own_redis.port}/3"))
    assert daemon.get("thing:1").cache.stored
    assert client("EXISTS", "cache:thing:1") == 1
    assert "p@ss" not in daemon.log() and "p%40ss" not in daemon.log()


def test_a_password_alone_is_used(start_daemon, own_redis, upstream):
    own_redis.client()("CONFIG", "SET", "requirepass", "sesame")
    daemon = start_daemon(**config(upstream, f"redis://:sesame@127.0.0.1:{own_redis.port}/0"))
    assert daemon.get("thing:1").cache.stored


def test_a_wrong_password_is_like_no_redis(start_daemon, own_redis, upstream):
    own_redis.client()("CONFIG", "SET", "requirepass", "sesame")
    daemon = start_daemon(**config(upstream, f"redis://:wrong-s3cr3t@127.0.0.1:{own_redis.port}/0"))
    assert daemon.get("thing:1").headers["cache-status"] == "asidecar; fwd=bypass; detail=redis-down"
    assert "s3cr3t" not in daemon.log()


def test_a_unix_socket_is_used(start_daemon, own_redis, upstream):
    daemon = start_daemon(**config(upstream, f"redis+unix://{own_redis.socket_path}?db=2"))
    assert daemon.get("thing:1").cache.stored
    assert own_redis.client(db=2)("EXISTS", "cache:thing:1") == 1


def test_the_prefix_separates_what_shares_a_redis(start_daemon, redis, prefix, upstream):
    one = start_daemon(**config(upstream, redis.url, prefix + "a:"))
    two = start_daemon(**config(upstream, redis.url, prefix + "b:"))
    one.key("PUT", "session:1", json.dumps("a").encode())
    assert two.get("session:1").status == 404
