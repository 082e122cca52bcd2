"""What reviews found, each named after what broke."""
import socket
import time

from harness.upstream import Reply


def config(upstream, **more):
    return {"origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "pair", "key": "{kind}:{id}", "origin": "web", "load": "GET /{kind}/{id}", **more}]}


def test_a_short_key_whose_placeholder_begins_it_is_loaded_as_it_is(start_daemon, upstream):
    upstream.on("/abc/1", Reply("fine"))
    daemon = start_daemon(**config(upstream))
    assert daemon.get("abc:1").body == b"fine"


def test_pipelined_requests_that_need_no_waiting_are_all_answered(start_daemon, upstream):
    daemon = start_daemon(**config(upstream))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        connection.connect(daemon.data)
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        got = b""
        while got.count(b"HTTP/1.1 404") < 20:
            piece = connection.recv(65536)
            assert piece
            got += piece


def test_a_very_large_foreign_value_does_not_cut_the_redis_connection(start_daemon, upstream, redis, prefix):
    upstream.on("/abc/1", Reply("small"))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, **config(upstream))
    redis.client()("SET", f"{prefix}abc:1", "x" * (3 << 20))
    assert daemon.get("abc:1").cache.stored
    assert daemon.get("abc:1").cache.hit


def test_the_daemons_own_names_cannot_be_invalidated(start_daemon, upstream, redis):
    daemon = start_daemon(store={"redis": redis.url, "prefix": ""}, **config(upstream))
    answer = daemon.request("POST", "/v1/invalidate", body=b'{"keys":["asidecar:lock:{x}"]}')
    assert answer.status == 400 and answer.slug == "bad-key"


def test_a_signal_right_after_start_does_not_take_the_drain_time(start_daemon, upstream, own_redis):
    own_redis.stall()
    try:
        daemon = start_daemon(store={"redis": own_redis.url}, **config(upstream))
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 5
    finally:
        own_redis.go_on()
