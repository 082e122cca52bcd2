"""Requests that differ from earlier ones in their key alone go a shorter way; nothing else about them is different."""
import contextlib
import signal
import threading
import time

import pytest

from harness.upstream import Reply
from harness.wire import eventually, get_text

TIERS = {"L1": {"l1": {"size": "8MiB"}}, "L2": {"store": True}, "both": {"l1": {"size": "8MiB"}, "store": True}}


def config(upstream, redis, prefix, tiers, **more):
    parts = dict(TIERS[tiers])
    if "store" in parts:
        parts["store"] = {"redis": redis.url, "prefix": prefix, "timeout": "500ms"}
    return {**parts, "threads": 1, "origins": {"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore", "ttl": "100s", **more},
                       {"name": "session", "key": "session:{id}", "put": True}]}


def known(wire, key="thing:1", *lines):
    """After this, requests with such a head are known."""
    for _ in range(4):
        answer = wire.ask(get_text(key, *lines))
    return answer


@pytest.mark.parametrize("tiers", TIERS)
@pytest.mark.parametrize("body", [b"", b"small", b"x" * 20_000, b"y" * 300_000], ids=len)
def test_a_known_request_is_answered_like_any_other(start_daemon, upstream, redis, prefix, tiers, body):
    daemon = start_daemon(**config(upstream, redis, prefix, tiers))
    upstream.on("/things/1", Reply(body, headers={"Content-Type": "text/x", "Content-Encoding": "zz"}))
    with daemon.wire() as wire:
        fast = known(wire)
        general = wire.ask(get_text("thing:1", "Cache-Control: max-age=1000"))
        for answer in (fast, general):
            assert (answer.status, answer.body) == (200, body)
            assert answer.cache.hit and answer.cache.detail in (["L2"] if tiers == "L2" else ["L1"])
        assert list(fast.headers) == list(general.headers)
        same = ("content-type", "content-encoding", "etag", "content-length")
        assert [fast.headers[n] for n in same] == [general.headers[n] for n in same]
        etag = fast.headers["etag"]
        for condition, status in ((etag, 304), (f'"other", {etag}', 304), ("*", 304), ('"other"', 200)):
            answer = known(wire, "thing:1", f"If-None-Match: {condition}")
            assert (answer.status, answer.headers["etag"]) == (status, etag)
            assert answer.body == (body if status == 200 else b"")
        assert wire.ask(get_text("thing:1").replace("GET", "HEAD"), head_only=True).headers["content-length"] == str(len(body))


@pytest.mark.parametrize("tiers", TIERS)
def test_heads_that_all_differ_are_answered_alike(start_daemon, upstream, redis, prefix, tiers):
    """As with a trace id: no head is known, and each is looked at anew."""
    daemon = start_daemon(**config(upstream, redis, prefix, tiers))
    upstream.on("/things/1", Reply("one"))
    etag = daemon.get("thing:1").headers["etag"]
    details = ["L2"] if tiers == "L2" else ["L1"]
    with daemon.wire() as wire:
        wire.ask(get_text("thing:1"))
        for n in range(20):
            answer = wire.ask(get_text("thing:1", f"Traceparent: 00-{n:032x}-00f067aa0ba902b7-01"))
            assert (answer.status, answer.body) == (200, b"one") and answer.cache.detail in details
            answer = wire.ask(get_text("thing:1", f"If-None-Match: {etag}", f"X-Request-Id: {n}"))
            assert (answer.status, answer.headers["etag"], answer.body) == (304, etag, b"") and answer.cache.detail in details
            assert wire.ask(get_text("thing:1", f'If-None-Match: "{n}"')).body == b"one"
            assert wire.ask(get_text("session:1", f"X-Request-Id: {n}")).slug == "no-record"
        last = wire.ask(get_text("thing:1", "X-Request-Id: 1", "Connection: close"))
        assert last.body == b"one" and last.headers["connection"] == "close"
        assert wire.is_closed()


def test_what_the_fast_way_reads_from_redis_goes_to_l1(start_daemon, upstream, redis, prefix):
    parts = config(upstream, redis, prefix, "both")
    bodies = {"1": b"small", "2": b"x" * 20_000, "3": b"".join(b"row %d, " % n for n in range(3000)), "4": b""}
    for name, body in bodies.items():
        upstream.on(f"/things/{name}", Reply(body, headers={"Content-Type": "text/x"}))
    one, two = (start_daemon(**parts) for _ in range(2))
    with two.wire() as wire:
        wire.ask(get_text("thing:other"))
        for name, body in bodies.items():
            etag = one.get(f"thing:{name}").headers["etag"]
            found = [wire.ask(get_text(f"thing:{name}", *lines)) for lines in ((f"If-None-Match: {etag}",) if name == "3" else (), (), ())]
            assert [a.cache.detail for a in found] == ["L2", "L1", "L1"]
            assert [a.status for a in found] == [304 if name == "3" else 200, 200, 200]
            assert found[1].body == body and found[2].body == body and (name == "3" or found[0].body == body)
            assert {a.headers["etag"] for a in found} == {etag} and found[1].headers["content-type"] == "text/x"
    assert upstream.count("/things/1") == 1


@pytest.mark.parametrize("by", ["itself", "another"])
def test_what_the_fast_way_reads_during_an_invalidation_does_not_stay_in_l1(start_daemon, upstream, own_redis, prefix, by):
    parts = config(upstream, own_redis, prefix, "both")
    parts["store"]["timeout"] = "5s"
    upstream.on("/things/1", Reply("old"), Reply("new"))
    one, two = (start_daemon(**parts) for _ in range(2))
    assert one.get("thing:1").body == b"old"
    with two.wire() as reader, (two if by == "itself" else one).wire() as writer:
        reader.ask(get_text("thing:other"))
        own_redis.stall()
        reader.send(get_text("thing:1"))
        time.sleep(0.05)
        writer.send("DELETE /v1/keys/thing:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.05)
        own_redis.go_on()
        assert reader.read().body in (b"old", b"new")
        assert writer.read().status == 204
        if by == "another":
            eventually(lambda: reader.ask(get_text("thing:1")).body == b"new", within=2)
        for _ in range(3):
            assert reader.ask(get_text("thing:1")).body == b"new"


@pytest.mark.parametrize("tiers", TIERS)
def test_what_is_not_a_fresh_hit_goes_the_long_way(start_daemon, upstream, redis, prefix, tiers):
    daemon = start_daemon(**config(upstream, redis, prefix, tiers, ttl="1s", stale_while_revalidate="100s", negative_ttl="10s"))
    for n in range(1, 4):
        upstream.on(f"/things/{n}", Reply("1"), Reply("2"))
    upstream.on("/things/none", Reply(status=404))
    with daemon.wire() as wire:
        known(wire)
        miss = wire.ask(get_text("thing:2"))
        assert miss.body == b"1" and miss.cache.fwd == "uri-miss" and miss.cache.stored
        assert wire.ask(get_text("thing:2")).cache.hit
        for _ in range(3):
            assert wire.ask(get_text("thing:none")).slug == "no-record"
        assert wire.ask(get_text("other:1")).slug == "no-route"
        assert wire.ask(get_text("session:1")).slug == "no-record"
        assert wire.ask(get_text("thing:%32")).cache.hit
        time.sleep(1.1)
        stale = wire.ask(get_text("thing:2"))
        assert stale.body == b"1" and stale.cache.hit and stale.cache.ttl <= 0
        eventually(lambda: wire.ask(get_text("thing:2")).body == b"2")
        assert daemon.key("DELETE", "thing:3").status == 204
        assert wire.ask(get_text("thing:3")).cache.fwd == "uri-miss"


@pytest.mark.parametrize("tiers", TIERS)
def test_an_invalidation_is_seen_by_the_next_known_request(start_daemon, upstream, redis, prefix, tiers):
    daemon = start_daemon(**config(upstream, redis, prefix, tiers))
    upstream.on("/things/1", *[Reply(str(n)) for n in range(200)])
    with daemon.wire() as wire:
        last = int(known(wire).body)
        for _ in range(100):
            assert daemon.key("DELETE", "thing:1").status == 204
            now = int(wire.ask(get_text("thing:1")).body)
            assert now > last
            last = now


@pytest.mark.parametrize("tiers", ["L1", "L2"])
def test_many_pipelined_requests_are_answered_in_order(start_daemon, redis, upstream, prefix, tiers):
    daemon = start_daemon(**config(upstream, redis, prefix, tiers))
    for n in range(10):
        assert daemon.key("PUT", f"session:{n}", str(n).encode() * 100).status == 204
    with daemon.wire() as wire:
        known(wire, "session:0")
        order = [n * 7 % 11 for n in range(5000)]
        sender = threading.Thread(target=wire.send, args=("".join(get_text(f"session:{n}") for n in order),))
        sender.start()  # the daemon reads no more while the client does not
        for n in order:
            answer = wire.read()
            assert answer.status == (404 if n == 10 else 200)
            if n != 10:
                assert answer.body == str(n).encode() * 100
        sender.join()


@pytest.mark.parametrize("tiers, values", [("L1", 20), ("L1", 6000), ("L2", 20), ("both", 20)])
def test_many_clients_at_the_same_moment(start_daemon, redis, upstream, prefix, tiers, values):
    """What is ready together is read together: each still gets its own answer, whatever the others send or do not. Among many values
    L1 looks ahead, too."""
    daemon = start_daemon(**config(upstream, redis, prefix, tiers))
    with daemon.wire() as wire:
        for first in range(0, values, 100):
            batch = range(first, min(first + 100, values))
            wire.send("".join(f"PUT /v1/keys/session:{n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(str(n)) * 100}\r\n\r\n{str(n) * 100}" for n in batch))
            assert all(wire.read().status == 204 for _ in batch)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(daemon.wire()) for _ in range(100)]
        for n, wire in enumerate(wires):
            known(wire, f"session:{n % 20}")
        for _ in range(5):
            daemon.signal(signal.SIGSTOP)
            for n, wire in enumerate(wires):
                text = get_text(f"session:{n % 20}")
                if n % 10 == 3:  # a part now, the rest later
                    text = text[:n]
                elif n % 10 == 4:  # two at once, and half of a third
                    text = text * 2 + text[:n % 30]
                elif n % 10 == 5:  # not of the known kind
                    text = text.replace("GET", "HEAD")
                elif n % 10 == 6:
                    text = get_text("session:none")
                wire.send(text)
            gone = stack.enter_context(daemon.wire())
            gone.send(get_text("session:1"))
            gone.close()
            daemon.signal(signal.SIGCONT)
            for n, wire in enumerate(wires):
                own = str(n % 20).encode() * 100
                if n % 10 == 3:
                    wire.send(get_text(f"session:{n % 20}")[n:])
                answer = wire.read(head_only=n % 10 == 5)
                if n % 10 == 6:
                    assert answer.slug == "no-record"
                else:
                    assert (answer.status, answer.body) == (200, b"" if n % 10 == 5 else own)
                if n % 10 == 4:
                    assert wire.read().body == own
                    wire.send(get_text(f"session:{n % 20}")[n % 30:])
                    assert wire.read().body == own


def test_redis_that_goes_away_under_known_requests(start_daemon, upstream, own_redis, prefix):
    daemon = start_daemon(**config(upstream, own_redis, prefix, "L2"))
    upstream.on("/things/1", *[Reply(str(n)) for n in range(100)])
    with daemon.wire() as wire, daemon.wire() as gone:
        known(wire)
        own_redis.stall()
        gone.send(get_text("thing:1"))
        gone.close()  # a client that goes while Redis is asked
        answer = wire.ask(get_text("thing:1"))
        assert answer.status == 200 and answer.cache.detail == "redis-down"
        own_redis.go_on()
        eventually(lambda: wire.ask(get_text("thing:1")).cache.detail == "L2")
        own_redis.kill()
        for _ in range(5):
            answer = wire.ask(get_text("thing:1"))
            assert answer.status == 200 and answer.cache.detail == "redis-down"
        own_redis.start()
        eventually(lambda: wire.ask(get_text("thing:1")).cache.detail == "L2")


def test_a_damaged_record_is_a_miss_for_known_requests_too(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, redis, prefix, "L2"))
    upstream.on("/things/1", Reply("good"))
    client = redis.client()
    with daemon.wire() as wire:
        known(wire)
        record = client("GET", f"{prefix}thing:1")
        for damaged in (record[:-1], record + b"x", b"", b"foreign", record[:10] + b"\xff" + record[11:]):
            client("SET", f"{prefix}thing:1", damaged)
            answer = wire.ask(get_text("thing:1"))
            assert (answer.body, answer.cache.fwd) == (b"good", "uri-miss")
            assert wire.ask(get_text("thing:1")).cache.hit


def test_a_drain_tells_known_clients_that_it_is_over(start_daemon, upstream, own_redis, prefix):
    import signal
    daemon = start_daemon(**config(upstream, own_redis, prefix, "L2"))
    upstream.on("/things/1", Reply("1"))
    with daemon.wire() as wire:
        known(wire)
        own_redis.stall()
        wire.send(get_text("thing:1"))
        time.sleep(0.05)
        daemon.signal(signal.SIGTERM)
        time.sleep(0.05)
        own_redis.go_on()
        answer = wire.read()
        assert answer.status == 200 and answer.headers["connection"] == "close"
        assert wire.is_closed()
    assert daemon.wait() == 0


def test_who_may_ask_is_asked_again_after_a_reload(start_daemon, upstream, redis, prefix):
    import signal
    parts = config(upstream, redis, prefix, "L1")
    daemon = start_daemon(**parts, listen={"token": "abcdefgh"})
    upstream.on("/things/1", Reply("1"))
    with daemon.wire() as wire:
        assert known(wire, "thing:1", "Authorization: Bearer abcdefgh").cache.hit
        assert wire.ask(get_text("thing:1", "Authorization: Bearer abcdefgi")).slug == "unauthorized"
        assert wire.ask(get_text("thing:1")).slug == "unauthorized"
        assert known(wire, "thing:1", "Authorization: Bearer abcdefgh").cache.hit
        daemon.write_config(**parts, listen={**daemon._listen, "token": "another1"})
        daemon.signal(signal.SIGHUP)
        eventually(lambda: wire.ask(get_text("thing:1", "Authorization: Bearer abcdefgh")).status == 401)


def test_compressed_values_go_the_fast_way_too(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, redis, prefix, "L2", compress_above=100))
    body = b"".join(b"row %d, " % n for n in range(3000))
    upstream.on("/things/1", Reply(body), Reply(b"again"))
    client = redis.client()
    with daemon.wire() as wire:
        answer = known(wire)
        assert answer.body == body and answer.cache.detail == "L2" and client("STRLEN", f"{prefix}thing:1") < len(body) / 2
        record = client("GET", f"{prefix}thing:1")
        client("SET", f"{prefix}thing:1", record[:-20] + b"\x00" * 20)
        assert wire.ask(get_text("thing:1")).body == b"again"


@pytest.mark.parametrize("tiers", TIERS)
def test_variants_of_a_key_are_told_apart(start_daemon, upstream, redis, prefix, tiers):
    daemon = start_daemon(**config(upstream, redis, prefix, tiers, forward_headers=["X-Tenant"]))
    upstream.on("/things/1", Reply("nobody's"), Reply("acme's"), Reply("other's"))
    with daemon.wire() as wire:
        assert known(wire).body == b"nobody's"
        assert known(wire, "thing:1", "X-Tenant: acme").body == b"acme's"
        assert known(wire, "thing:1", "X-Tenant: other").body == b"other's"
        assert known(wire).body == b"nobody's"


def test_what_was_seen_for_one_request_is_not_for_the_next(start_daemon, upstream, own_redis, prefix):
    import signal
    parts = config(upstream, own_redis, prefix, "L2", ttl="1s", stale_while_revalidate="100s")
    parts["store"]["timeout"] = "5s"
    daemon = start_daemon(**parts, listen={"token": "abcdefgh"})
    old, new = "Authorization: Bearer abcdefgh", "Authorization: Bearer another1"
    upstream.on("/things/1", Reply("a" * 1000))
    upstream.on("/things/2", Reply("b" * 1000))
    with daemon.wire() as wire:
        known(wire, "thing:2", old)
        known(wire, "thing:1", old)
        own_redis.stall()
        wire.send(get_text("thing:1", old))  # its value will be stale, so it is looked at properly
        time.sleep(0.05)
        daemon.write_config(**parts, listen={**daemon._listen, "token": "another1"})
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in daemon.log())
        time.sleep(1.2)
        own_redis.go_on()
        assert wire.read().slug == "unauthorized"
        assert wire.ask(get_text("thing:2", new)).body == b"b" * 1000


def test_a_stop_while_redis_does_not_answer(start_daemon, upstream, own_redis, prefix):
    import signal
    parts = config(upstream, own_redis, prefix, "L2")
    parts["store"]["timeout"] = "60s"
    daemon = start_daemon(**parts)
    upstream.on("/things/1", Reply("1"))
    with daemon.wire() as wire:
        known(wire)
        own_redis.stall()
        wire.send(get_text("thing:1"))
        time.sleep(0.05)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    own_redis.go_on()


def test_latency_is_that_of_the_request(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(**config(upstream, redis, prefix, "L1"))
    upstream.on("/things/1", Reply("1"))
    upstream.on("/things/slow", Reply("2", delay=1.0))
    with daemon.wire() as wire:
        known(wire)
        wire.send(get_text("thing:slow") + get_text("thing:1") * 5)
        for _ in range(6):
            wire.read()
    text = daemon.admin("GET", "/metrics").body.decode()
    total = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("asidecar_request_duration_seconds_sum"))
    assert 1.0 <= total < 1.5
