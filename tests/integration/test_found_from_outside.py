"""What was found by driving the daemon from outside, with nothing but the contract; each named after what broke."""
import os
import socket
import time

import pytest

from harness.upstream import Reply
from harness.wire import get_text


def config(upstream, **more):
    return {"origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "pair", "key": "{kind}:{id}", "origin": "web", "load": "GET /{kind}/{id}", **more}]}


def test_slow_readers_that_go_on_reading_are_not_cut_off(start_daemon):
    """The kernel lets more into its buffer only when a third of it is free, which may take a slow peer longer than the deadline."""
    daemon = start_daemon(l1={"size": "1GiB"}, defaults={"max_value": "8MiB"}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    body = os.urandom(6 << 20)
    assert daemon.key("PUT", "s:1", body).status == 204
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(daemon.tcp)
        connection.sendall(get_text("s:1").encode())
        began, got = time.monotonic(), b""
        while time.monotonic() - began < 25:
            got += connection.recv(2000)
            time.sleep(0.05)
        whole = got.index(b"\r\n\r\n") + 4 + len(body)
        while len(got) < whole:
            more = connection.recv(1 << 20)
            assert more, f"cut off after {len(got)} bytes"
            got += more
    assert got.endswith(body)


def test_a_reader_that_stops_is_cut_off(start_daemon):
    daemon = start_daemon(l1={"size": "1GiB"}, defaults={"max_value": "8MiB"}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    assert daemon.key("PUT", "s:1", os.urandom(6 << 20)).status == 204
    with daemon.wire() as wire:
        wire.send(get_text("s:1"))
        time.sleep(12.5)
        wire.socket.settimeout(10)
        got = 0
        while more := wire.socket.recv(1 << 20):
            got += len(more)
        assert got < 6 << 20


def test_a_put_that_the_only_tier_cannot_take_is_refused(start_daemon):
    daemon = start_daemon(l1={"size": "16MiB"}, defaults={"max_value": "8MiB"}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    body = os.urandom(1 << 20)
    assert daemon.key("PUT", "s:1", body).status == 204
    assert daemon.get("s:1").body == body
    refused = daemon.key("PUT", "s:1", body * 4)
    assert refused.slug == "too-large" and "l1" in refused.json()["detail"]
    assert daemon.get("s:1").status == 404, "the older value is gone, too"


def test_expiring_a_tag_leaves_stale_values_also_without_a_store(start_daemon, upstream):
    upstream.on("/abc/1", Reply("old"), Reply(status=500))
    upstream.on("/abc/2", Reply("old"), Reply("new"))
    daemon = start_daemon(l1={"size": "8MiB"}, **config(upstream, cache_control="ignore", stale_if_error="60s", tags=["all", "one:{id}"]))
    for key in ("abc:1", "abc:2"):
        daemon.get(key)
        assert daemon.get(key).cache.hit
    assert daemon.post("/v1/invalidate", {"tags": ["all"], "mode": "expire"}).status == 200
    stale = daemon.get("abc:1")
    assert (stale.status, stale.body) == (200, b"old") and stale.cache.ttl <= 0
    assert daemon.get("abc:2").body == b"new"
    assert daemon.post("/v1/invalidate", {"tags": ["one:1"]}).status == 200
    assert daemon.get("abc:1").status == 502


def test_answers_of_the_upstream_about_one_record_are_no_reason_to_leave_it_alone(start_daemon, upstream, store):
    upstream.on("*", Reply(b"", status=204), Reply(b"", status=301), Reply(b"", status=304))
    upstream.on("/abc/fine", Reply("fine"))
    daemon = start_daemon(store=store, **config(upstream, cache_control="ignore"))
    for n in range(10):
        assert daemon.get(f"abc:{n}").slug == "origin-failed"
    assert daemon.get("abc:fine").body == b"fine"


@pytest.mark.parametrize("line", ["If-Match: \"nope\"", "If-None-Match: *", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Range: bytes 0-0/5"])
def test_a_put_under_conditions_is_refused_instead_of_done(start_daemon, line):
    daemon = start_daemon(l1={"size": "8MiB"}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    assert daemon.key("PUT", "s:1", b"first").status == 204
    with daemon.wire() as wire:
        refused = wire.ask(f"PUT /v1/keys/s:1 HTTP/1.1\r\nHost: localhost\r\n{line}\r\nContent-Length: 5\r\n\r\nother")
        assert refused.slug == "bad-request" and line.split(":")[0].lower() in refused.json()["detail"]
        assert wire.ask(get_text("s:1")).body == b"first"


@pytest.mark.parametrize("tiers", [{"l1": {"size": "8MiB"}}, {"store": True}], ids=["L1", "L2"])
def test_the_encoding_of_a_value_is_kept_with_it(start_daemon, store, tiers):
    daemon = start_daemon(**({"store": store} if "store" in tiers else tiers), routes=[{"name": "s", "key": "s:{id}", "put": True}])
    with daemon.wire() as wire:
        assert wire.ask("PUT /v1/keys/s:1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc").status == 204
        for _ in range(3):
            answer = wire.ask(get_text("s:1"))
            assert (answer.headers["content-encoding"], answer.headers["content-type"], answer.body) == ("gzip", "text/x", b"abc")


def test_a_raw_value_without_a_ttl_is_fresh_for_the_routes(start_daemon, upstream, redis, prefix):
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix, "format": "raw"}, **config(upstream, ttl="50s"))
    redis.client()("SET", f"{prefix}abc:1", "for ever")
    answer = daemon.get("abc:1")
    assert answer.body == b"for ever" and answer.cache.hit and answer.max_age <= 50


def test_a_malformed_key_is_counted(start_daemon):
    daemon = start_daemon(l1={"size": "8MiB"}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    before = daemon.admin("GET", "/metrics/cache").json()["errors"]
    with daemon.wire() as wire:
        assert wire.ask(get_text("s:%zz")).slug == "bad-key"
    assert daemon.admin("GET", "/metrics/cache").json()["errors"] == before + 1
