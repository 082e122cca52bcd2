"""Request framing (contract 6): what is refused, how, and that a refused request takes nothing with it.

Every refusal is an answer and a closed connection, and the daemon goes on serving.
"""
import os
import socket
import time
import uuid

import pytest

from harness.upstream import Reply
from harness.wire import Wire, get_text, readable

HOST = "Host: localhost\r\n"
GET = f"GET /v1/keys/s:none HTTP/1.1\r\n{HOST}"

long = pytest.mark.skipif("ASIDECAR_LONG" not in os.environ, reason="takes more than a minute; set ASIDECAR_LONG")


@pytest.fixture(scope="module")
def module_daemon(start_module_daemon, redis):
    return start_module_daemon(store={"redis": redis.url, "prefix": f"fr{uuid.uuid4().hex}:"},
                               routes=[{"name": "small", "key": "small:{id}", "put": True, "max_value": "64"},
                                       {"name": "s", "key": "s:{id:rest}", "put": True},
                                       {"name": "rest", "key": "{all:rest}", "put": True}])


@pytest.fixture(params=["tcp", "unix"])
def wire(module_daemon, request):
    with module_daemon.wire(tcp=request.param == "tcp") as wire:
        yield wire
    assert module_daemon.running
    assert module_daemon.get("s:none").status == 404, "the daemon goes on serving"


@pytest.fixture
def daemon(module_daemon):
    return module_daemon


def put(key, *lines, body=""):
    return f"PUT /v1/keys/{key} HTTP/1.1\r\n{HOST}" + "".join(line + "\r\n" for line in lines) + "\r\n" + body


SMUGGLED = f"PUT /v1/keys/s:smuggled HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\nevil"

BAD = {
    # The request line
    "no version": f"GET /v1/keys/s:1\r\n{HOST}\r\n",
    "HTTP/2.0": f"GET /v1/keys/s:1 HTTP/2.0\r\n{HOST}\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
    "HTTP/1.2": f"GET /v1/keys/s:1 HTTP/1.2\r\n{HOST}\r\n",
    "version in small letters": f"GET /v1/keys/s:1 http/1.1\r\n{HOST}\r\n",
    "unknown method": f"BREW /v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    "method in small letters": f"get /v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    "target without slash": f"GET v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    "target is an asterisk": f"GET * HTTP/1.1\r\n{HOST}\r\n",
    "target is an authority": f"CONNECT localhost:443 HTTP/1.1\r\n{HOST}\r\n",
    "space in the target": f"GET /v1/keys/s:1 x HTTP/1.1\r\n{HOST}\r\n",
    "control character in the target": f"GET /v1/keys/s:\x01 HTTP/1.1\r\n{HOST}\r\n",
    "NUL in the target": f"GET /v1/keys/s:\x00 HTTP/1.1\r\n{HOST}\r\n",
    "tab for space": f"GET\t/v1/keys/s:1\tHTTP/1.1\r\n{HOST}\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "the HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "random bytes": bytes(range(128, 256)) + b"\r\n\r\n",
    # Host
    "no Host": "GET /v1/keys/s:1 HTTP/1.1\r\n\r\n",
    "two Hosts": f"GET /v1/keys/s:1 HTTP/1.1\r\n{HOST}Host: localhost\r\n\r\n",
    "two different Hosts": f"GET /v1/keys/s:1 HTTP/1.1\r\n{HOST}host: 127.0.0.1\r\n\r\n",
    "an empty Host": "GET /v1/keys/s:1 HTTP/1.1\r\nHost:\r\n\r\n",
    "an empty Host behind an absolute target": "GET http://localhost/v1/keys/s:1 HTTP/1.1\r\nHost:\r\n\r\n",
    "no authority in an absolute target": f"GET http:///v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    "a user in the authority": f"GET http://u@localhost/v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    "https in the target": f"GET https://localhost/v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n",
    # Lines
    "bare LF": "GET /v1/keys/s:1 HTTP/1.1\nHost: localhost\n\n",
    "obs-fold": f"{GET}X: a\r\n b\r\n\r\n",
    "obs-fold with a tab": f"{GET}X: a\r\n\tb\r\n\r\n",
    "a first line that is folded": f"GET /v1/keys/s:1 HTTP/1.1\r\n {HOST}\r\n",
    "space before the colon": f"{GET}X : a\r\n\r\n",
    "no colon": f"{GET}X\r\n\r\n",
    "no name": f"{GET}: a\r\n\r\n",
    "space in the name": f"{GET}X Y: a\r\n\r\n",
    "NUL in a value": f"{GET}X: a\x00b\r\n\r\n",
    "CR in a value": f"{GET}X: a\rb\r\n\r\n",
    # Lengths
    "Content-Length twice": put("s:1", "Content-Length: 1", "Content-Length: 1", body="x" + SMUGGLED),
    "Content-Length twice and different": put("s:1", "Content-Length: 1", "Content-Length: 5", body="x" + SMUGGLED),
    "Content-Length as a list": put("s:1", "Content-Length: 1, 1", body="x" + SMUGGLED),
    "Content-Length with a sign": put("s:1", "Content-Length: +1", body="x" + SMUGGLED),
    "Content-Length below zero": put("s:1", "Content-Length: -1", body=SMUGGLED),
    "Content-Length in hex": put("s:1", "Content-Length: 0x1", body="x" + SMUGGLED),
    "Content-Length that is a word": put("s:1", "Content-Length: one", body=SMUGGLED),
    "Content-Length without value": put("s:1", "Content-Length:", body=SMUGGLED),
    "Content-Length beyond 64 bits": put("s:1", "Content-Length: 18446744073709551617", body="x" + SMUGGLED),
    "chunked and Content-Length": put("s:1", "Transfer-Encoding: chunked", "Content-Length: 5", body="0\r\n\r\n" + SMUGGLED),
    "Content-Length and chunked": put("s:1", "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED),
    "TE identity": put("s:1", "Transfer-Encoding: identity", body=SMUGGLED),
    "TE gzip": put("s:1", "Transfer-Encoding: gzip", body=SMUGGLED),
    "TE gzip, chunked": put("s:1", "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n" + SMUGGLED),
    "TE chunked, identity": put("s:1", "Transfer-Encoding: chunked, identity", body="0\r\n\r\n" + SMUGGLED),
    "TE chunked twice": put("s:1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n" + SMUGGLED),
    "TE xchunked": put("s:1", "Transfer-Encoding: xchunked", body="0\r\n\r\n" + SMUGGLED),
    "TE quoted": put("s:1", 'Transfer-Encoding: "chunked"', body="0\r\n\r\n" + SMUGGLED),
    "TE without value": put("s:1", "Transfer-Encoding:", body=SMUGGLED),
    "TE with a space before the colon": put("s:1", "Transfer-Encoding : chunked", body="0\r\n\r\n" + SMUGGLED),
    "TE with a vertical tab": put("s:1", "Transfer-Encoding: \x0bchunked", body="0\r\n\r\n" + SMUGGLED),
    "chunked in HTTP/1.0": "PUT /v1/keys/s:1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    # Chunks
    "a chunk size that is no number": put("s:1", "Transfer-Encoding: chunked", body="zz\r\nabc\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk size with a sign": put("s:1", "Transfer-Encoding: chunked", body="+3\r\nabc\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk size with 0x": put("s:1", "Transfer-Encoding: chunked", body="0x3\r\nabc\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk size that overflows": put("s:1", "Transfer-Encoding: chunked", body="10000000000000003\r\nabc\r\n0\r\n\r\n" + SMUGGLED),
    "an empty chunk size": put("s:1", "Transfer-Encoding: chunked", body="\r\nabc\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk longer than it says": put("s:1", "Transfer-Encoding: chunked", body="3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED),
    "chunk lines that end in LF": put("s:1", "Transfer-Encoding: chunked", body="3\nabc\n0\n\n" + SMUGGLED),
    "a chunk extension without end": put("s:1", "Transfer-Encoding: chunked", body="3;" + "x" * 8000),
    "trailers without end": put("s:1", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n" + "X: y\r\n" * 1000),
}


@pytest.mark.parametrize("request_bytes", BAD.values(), ids=BAD.keys())
def test_bad_framing_is_400_and_closed(wire, daemon, request_bytes):
    answer = wire.ask(request_bytes.encode("latin-1") if isinstance(request_bytes, str) else request_bytes)
    assert answer.status == 400
    assert answer.slug == "bad-request"
    assert wire.is_closed(), "one answer, and then the end"
    assert daemon.get("s:smuggled").status == 404, "nothing of the body was taken for a request"


def test_a_get_with_a_body_does_not_let_its_body_speak(wire, daemon):
    wire.send(f"{GET}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}{GET}\r\n")
    first = wire.read()
    assert first.status in (400, 404, 413)
    assert daemon.get("s:smuggled").status == 404


# --- what is fine


def test_requests_on_one_connection_are_answered_one_after_the_other(wire):
    for i in range(5):
        answer = wire.ask(f"GET /v1/keys/s:none-{i} HTTP/1.1\r\n{HOST}\r\n")
        assert answer.status == 404
        assert answer.headers.get("connection", "").lower() != "close"


def test_pipelined_requests_are_answered_in_order(wire):
    wire.send("".join(put(f"s:p{i}", "Content-Length: 2", body=f"v{i}") + f"GET /v1/keys/s:p{i} HTTP/1.1\r\n{HOST}\r\n" for i in range(8)))
    for i in range(8):
        assert wire.read().status == 204
        assert wire.read().body == f"v{i}".encode()


def test_a_long_pipeline_is_answered_whole(wire):
    wire.send(put("s:long", "Content-Length: 3", body="abc"))
    assert wire.read().status == 204
    wire.send(f"GET /v1/keys/s:long HTTP/1.1\r\n{HOST}\r\n" * 400)
    assert [wire.read().body for _ in range(400)] == [b"abc"] * 400


def test_a_request_may_come_byte_by_byte(wire):
    for byte in put("s:slow", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n").encode():
        wire.send(bytes([byte]))
    assert wire.read().status == 204


def test_a_request_may_come_in_any_two_pieces(daemon):
    text = (put("s:cut", "Content-Length: 3", body="abc") + f"GET /v1/keys/s:cut HTTP/1.1\r\n{HOST}\r\n").encode()
    for cut in range(1, len(text), 7):
        with daemon.wire() as wire:
            wire.send(text[:cut])
            time.sleep(0.001)
            wire.send(text[cut:])
            assert wire.read().status == 204
            assert wire.read().body == b"abc"


def test_connection_close_is_obeyed(wire):
    answer = wire.ask(f"{GET}Connection: close\r\n\r\n")
    assert answer.status == 404
    assert answer.headers["connection"].lower() == "close"
    assert wire.is_closed()


def test_http_1_0_needs_no_host_and_is_closed(wire):
    assert wire.ask("GET /v1/keys/s:none HTTP/1.0\r\n\r\n").status == 404
    assert wire.is_closed()


def test_http_1_0_may_keep_the_connection(wire):
    answer = wire.ask("GET /v1/keys/s:none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.status == 404
    if answer.headers.get("connection", "").lower() == "keep-alive":
        assert wire.ask("GET /v1/keys/s:none HTTP/1.0\r\n\r\n").status == 404


def test_head_leaves_no_body_on_the_connection(wire):
    wire.ask(put("s:head", "Content-Length: 3", body="abc"))
    answer = wire.ask(f"HEAD /v1/keys/s:head HTTP/1.1\r\n{HOST}\r\n", head_only=True)
    assert answer.status == 200 and answer.headers["content-length"] == "3"
    assert wire.ask(f"GET /v1/keys/s:head HTTP/1.1\r\n{HOST}\r\n").body == b"abc"


def test_head_of_an_error_leaves_no_body_on_the_connection(wire):
    assert wire.ask(f"HEAD /v1/keys/s:none HTTP/1.1\r\n{HOST}\r\n", head_only=True).status == 404
    assert wire.ask(f"{GET}\r\n").status == 404


def test_a_chunked_body_is_put_together(wire):
    body = "5\r\nhello\r\n1;ext=\"a\"\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    assert wire.ask(put("s:chunks", "Transfer-Encoding: chunked", body=body)).status == 204
    assert wire.ask(f"GET /v1/keys/s:chunks HTTP/1.1\r\n{HOST}\r\n").body == b"hello 0123456789"


def test_names_of_fields_and_codings_have_no_case(wire):
    assert wire.ask("PUT /v1/keys/s:case HTTP/1.1\r\nhOST: localhost\r\ntransfer-ENCODING: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").status == 204


def test_a_client_that_expects_100_gets_it(wire):
    wire.send(put("s:expect", "Content-Length: 3", "Expect: 100-continue"))
    assert wire.read().status == 100
    assert wire.ask("abc").status == 204


def test_a_refused_body_gets_no_100(wire):
    answer = wire.ask(put("s:expect", "Content-Length: 99999999", "Expect: 100-continue"))
    assert answer.status == 413


def test_another_expectation_is_417(wire):
    assert wire.ask(put("s:expect", "Content-Length: 3", "Expect: 200-ok")).slug == "expectation-failed"
    assert wire.is_closed()


def test_absolute_form_of_the_own_host_is_fine(wire):
    assert wire.ask(f"GET http://localhost/v1/keys/s:none HTTP/1.1\r\n{HOST}\r\n").slug == "no-record"


def test_a_client_that_stops_sending_still_gets_its_answer(wire):
    wire.send(f"{GET}\r\n")
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.read().status == 404


def test_clients_that_break_off_anywhere_do_no_harm(daemon):
    text = put("s:broken", "Content-Length: 10", body="12345").encode()
    for cut in range(0, len(text), 5):
        with daemon.wire() as wire:
            wire.send(text[:cut])
    assert daemon.get("s:broken").status == 404
    assert daemon.get("s:none").status == 404


# --- limits


def test_a_put_without_length_is_411(wire):
    answer = wire.ask(f"PUT /v1/keys/s:1 HTTP/1.1\r\n{HOST}\r\n")
    assert (answer.status, answer.slug) == (411, "length-required")


def test_a_body_over_the_routes_max_value_is_413(wire, daemon):
    assert wire.ask(put("small:1", "Content-Length: 64", body="x" * 64)).status == 204
    answer = wire.ask(put("small:1", "Content-Length: 65", body="x" * 65))
    assert (answer.status, answer.slug) == (413, "too-large")
    assert daemon.get("small:1").body == b"x" * 64


def test_a_chunked_body_over_the_routes_max_value_is_413(wire, daemon):
    answer = wire.ask(put("small:2", "Transfer-Encoding: chunked", body="20\r\n" + "x" * 32 + "\r\n" + "21\r\n" + "x" * 33 + "\r\n0\r\n\r\n"))
    assert (answer.status, answer.slug) == (413, "too-large")
    assert daemon.get("small:2").status == 404


def test_an_endless_chunked_body_is_413(daemon):
    with daemon.wire() as wire:
        wire.send(put("s:endless", "Transfer-Encoding: chunked"))
        try:
            for _ in range(300):
                wire.send("4000\r\n" + "x" * 0x4000 + "\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while it was still talking
        assert wire.read().status == 413


def test_a_body_over_one_mebibyte_is_413_before_it_is_sent(wire):
    assert wire.ask(put("s:huge", f"Content-Length: {(1 << 20) + 1}")).status == 413
    assert wire.is_closed()


def test_an_endless_json_call_is_413(daemon):
    with daemon.wire() as wire:
        assert wire.ask(f"POST /v1/mget HTTP/1.1\r\n{HOST}Content-Length: 99999999\r\n\r\n").status == 413


@pytest.mark.parametrize("size", [8193, 12_000])
def test_a_target_over_8_kib_is_414(wire, size):
    answer = wire.ask(f"GET {'/nowhere?'.ljust(size, 'x')} HTTP/1.1\r\n{HOST}\r\n")
    assert (answer.status, answer.slug) == (414, "uri-too-long")
    assert wire.is_closed()


def test_a_target_of_exactly_8_kib_is_fine(wire):
    assert wire.ask(f"GET {'/nowhere?'.ljust(8192, 'x')} HTTP/1.1\r\n{HOST}\r\n").status == 404


def head_of(size):
    """A request head of so many bytes."""
    return f"{GET}X: ".ljust(size - 4, "y") + "\r\n\r\n"


@pytest.mark.parametrize("head", [head_of(16_385), head_of(20_000), GET + "X: y\r\n" * 100 + "\r\n", GET + "X: y\r\n" * 4000 + "\r\n"],
                         ids=["one byte too many", "one long line", "101 fields", "many lines"])
def test_a_header_block_over_16_kib_or_100_fields_is_431(wire, head):
    answer = wire.ask(head)
    assert (answer.status, answer.slug) == (431, "headers-too-large")
    assert wire.is_closed()


@pytest.mark.parametrize("head", [head_of(16_384), GET + "X: y\r\n" * 99 + "\r\n"], ids=["16 KiB", "100 fields"])
def test_a_header_block_of_exactly_16_kib_or_100_fields_is_fine(wire, head):
    assert wire.ask(head).slug == "no-record"


# --- keys


@pytest.mark.parametrize("tail, name", [
    ("x" * 1025, "longer than 1 KiB"), ("%78" * 1025, "longer than 1 KiB when decoded"), ("s:%00", "NUL"), ("s:a%00b", "NUL inside"),
    ("s:%ff", "no UTF-8"), ("s:%c0%af", "an overlong form"), ("s:%ed%a0%80", "a surrogate"), ("s:%f4%90%80%80", "beyond Unicode"), ("s:%e2%82", "half a character"),
    ("s:%zz", "percent and no hex"), ("s:%", "percent at the end"), ("s:%4", "percent and one digit"),
], ids=lambda value: value if " " in value or value == "NUL" else "")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_bad_key_is_400(daemon, method, tail, name):
    answer = daemon.request(method, f"/v1/keys/{tail}", b"x" if method == "PUT" else None)
    assert (answer.status, answer.slug) == (400, "bad-key"), name


def test_a_key_of_exactly_1_kib_is_fine(daemon):
    key = "s:" + "k" * 1022
    assert daemon.key("PUT", key, b"1").status == 204
    assert daemon.get(key).body == b"1"
    assert daemon.get(key + "k").status == 400


def test_an_empty_key_is_an_error_and_not_a_crash(daemon):
    assert daemon.request("GET", "/v1/keys/").status in (400, 404)


# --- deadlines


@pytest.mark.slow
def test_what_does_not_arrive_within_ten_seconds_is_408_and_what_never_spoke_is_closed(daemon):
    kept, silent = daemon.wire(timeout=30), daemon.wire(timeout=30)
    assert kept.ask(f"{GET}\r\n").status == 404
    late = {  # what is sent, and what trickles after it: that moves no deadline
        "a head": (daemon.wire(timeout=30).send("GET /v1/keys/s:1 HTTP/1.1\r\nHost: loc"), "a"),
        "a body": (daemon.wire(timeout=30).send(put("s:late", "Content-Length: 100", body="ab")), "c"),
        "a chunked body": (daemon.wire(timeout=30).send(put("s:late", "Transfer-Encoding: chunked")), "1\r\nx\r\n"),
        "the second head of a connection": (kept.send("GET /v1"), "/"),
        "a head behind a whole one": (daemon.wire(timeout=30).send(f"{GET}\r\nGET /v1"), "/"),
    }
    assert late["a head behind a whole one"][0].read().status == 404
    began = time.monotonic()
    while time.monotonic() - began < 9:
        time.sleep(0.9)
        for wire, more in late.values():
            wire.send(more)
    assert not [name for name, (wire, _) in late.items() if readable(wire, within=0)] and not readable(silent, within=0)
    for name, (wire, _) in late.items():
        assert wire.read().slug == "request-timeout", name
        assert wire.is_closed(), name
        wire.close()
    assert silent.is_closed()
    silent.close()
    assert 9.5 < time.monotonic() - began < 11.5
    assert daemon.get("s:late").status == 404


@long
def test_a_late_reader_does_not_end_the_request_behind_it(start_daemon, upstream):
    """Its answers fill the socket; when they have been read, the load still under way has the time it had."""
    daemon = start_daemon(l1={"size": "64MiB"}, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "t", "key": "t:{id}", "origin": "web", "load": "GET /t/{id}", "timeout": "120s", "cache_control": "ignore"}])
    upstream.on("/t/large", Reply(b"x" * 900_000))
    upstream.on("/t/slow", Reply("done", delay=85))
    assert daemon.get("t:large").status == 200
    with daemon.wire(timeout=120) as wire:
        wire.send(get_text("t:large") + get_text("t:slow"))
        time.sleep(2)
        assert len(wire.read().body) == 900_000
        assert wire.read().body == b"done"


@long
def test_an_idle_connection_is_kept_for_75_seconds(daemon):
    with daemon.wire() as wire:
        assert wire.ask(f"{GET}\r\n").status == 404
        assert not readable(wire, within=70)
        assert wire.is_closed(within=7)
