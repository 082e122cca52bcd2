"""The HTTP origin: whose Cache-Control counts, what is sent on, and what a hostile key or upstream can do."""
import time
import urllib.parse

import pytest

from harness.ports import free_port
from harness.upstream import Reply


def web(upstream, **more):
    return {"web": {"http": upstream.url, "breaker": {"failures": 1000}, **more}}


@pytest.fixture
def daemon(start_daemon, store, upstream):
    def route(name, key, load, **more):
        return {"name": name, "key": key, "origin": "web", "load": load, "ttl": "50s", **more}

    return start_daemon(store=store, origins=web(upstream), routes=[
        route("product", "product:{sku}", "GET /products/{sku}"),
        route("kept", "kept:{sku}", "GET /products/{sku}", stale_if_error="60s"),
        route("ignoring", "ignoring:{sku}", "GET /products/{sku}", cache_control="ignore"),
        route("language", "language:{sku}", "GET /products/{sku}", forward_headers=["Accept-Language", "X-Tenant"]),
        route("raw", "raw:{path:rest}", "GET /products/{path}"),
        route("search", "search:{q:rest}", "GET /search?q={q}&limit=3"),
        route("hurried", "hurried:{sku}", "GET /products/{sku}", timeout="300ms"),
    ])


# --- freshness by the upstream's word


@pytest.mark.parametrize("headers, low, high", [
    ({"Cache-Control": "max-age=20"}, 18, 20),
    ({"Cache-Control": "max-age=20, s-maxage=200"}, 198, 200),
    ({"Cache-Control": "s-maxage=200, max-age=20, public"}, 198, 200),
    ({"Cache-Control": "max-age=100", "Age": "40"}, 58, 60),
    ({"Cache-Control": "max-age=20, max-age=200"}, 18, 20),
    ({"Cache-Control": "MAX-AGE=20"}, 18, 20),
    ({"Cache-Control": "max-age=\"20\""}, 18, 20),
    ({"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Expires": "Sun, 06 Nov 1994 08:50:07 GMT"}, 27, 30),
    ({"Expires": "Sun, 06 Nov 1994 08:50:07 GMT", "Cache-Control": "max-age=20"}, 18, 20),
    ({}, 48, 50),
])
def test_the_upstream_decides_how_long_a_value_is_fresh(daemon, upstream, headers, low, high):
    upstream.on("/products/1", Reply(headers=headers))
    assert daemon.get("product:1").cache.stored
    hit = daemon.get("product:1")
    assert hit.cache.hit and low <= hit.max_age <= high


@pytest.mark.parametrize("value", ["no-store", "private", "no-store, max-age=100", "private, max-age=100", "max-age=100, NO-STORE"])
def test_what_must_not_be_stored_is_not(daemon, upstream, value):
    upstream.on("/products/1", Reply(headers={"Cache-Control": value}))
    for _ in range(2):
        answer = daemon.get("product:1")
        assert answer.status == 200 and not answer.cache.hit and not answer.cache.stored
        assert answer.max_age == 0, "the client must not keep it either"
    assert upstream.count("/products/1") == 2


def test_a_route_may_ignore_the_upstreams_cache_control(daemon, upstream):
    upstream.on("/products/1", Reply(headers={"Cache-Control": "no-store"}))
    assert daemon.get("ignoring:1").cache.stored
    hit = daemon.get("ignoring:1")
    assert hit.cache.hit and 48 <= hit.max_age <= 50


def test_the_content_type_is_the_upstreams(daemon, upstream):
    upstream.on("/products/1", Reply(b"\x89PNG", headers={"Content-Type": "image/png"}))
    for _ in range(2):
        answer = daemon.get("product:1")
        assert answer.headers["content-type"] == "image/png" and answer.body == b"\x89PNG"


def test_a_304_renews_the_stored_value_without_a_body(daemon, upstream):
    headers = {"Cache-Control": "max-age=1", "ETag": '"v1"'}
    upstream.on("/products/1", Reply("first", headers=headers), Reply(status=304, headers={"Cache-Control": "max-age=100", "ETag": '"v1"'}))
    daemon.get("kept:1")
    time.sleep(1.2)
    renewed = daemon.get("kept:1")
    assert (renewed.status, renewed.body) == (200, b"first")
    assert upstream.requests[1].headers["if-none-match"] == '"v1"'
    assert "if-none-match" not in upstream.requests[0].headers
    hit = daemon.get("kept:1")
    assert hit.cache.hit and hit.max_age > 90 and hit.body == b"first"
    assert upstream.count() == 2


def test_a_last_modified_date_is_revalidated_too(daemon, upstream):
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    upstream.on("/products/1", Reply("first", headers={"Cache-Control": "max-age=1", "Last-Modified": date}), Reply(status=304))
    daemon.get("kept:1")
    time.sleep(1.2)
    assert daemon.get("kept:1").body == b"first"
    assert upstream.requests[1].headers["if-modified-since"] == date


def test_a_changed_value_replaces_the_stale_one(daemon, upstream):
    upstream.on("/products/1", Reply("first", headers={"Cache-Control": "max-age=1", "ETag": '"v1"'}),
                Reply("second", headers={"Cache-Control": "max-age=100", "ETag": '"v2"'}))
    daemon.get("kept:1")
    time.sleep(1.2)
    assert daemon.get("kept:1").body == b"second"
    assert daemon.get("kept:1").body == b"second"
    assert upstream.count() == 2


def test_a_304_that_nobody_asked_for_is_an_error(daemon, upstream):
    upstream.on("/products/1", Reply(status=304))
    assert daemon.get("product:1").status == 502


def test_the_upstream_may_allow_stale_if_error(daemon, upstream):
    upstream.on("/products/1", Reply("first", headers={"Cache-Control": "max-age=1, stale-if-error=60"}), Reply(status=500))
    daemon.get("product:1")
    time.sleep(1.2)
    stale = daemon.get("product:1")
    assert stale.body == b"first" and stale.cache.hit and stale.cache.ttl <= 0


def test_the_upstream_may_allow_stale_while_revalidate(daemon, upstream):
    headers = {"Cache-Control": "max-age=1, stale-while-revalidate=60"}
    upstream.on("/products/1", Reply("first", headers=headers), Reply("second", headers={"Cache-Control": "max-age=60"}))
    daemon.get("product:1")
    time.sleep(1.2)
    assert daemon.get("product:1").body == b"first"
    upstream.wait_for("/products/1", 2)
    time.sleep(0.1)
    assert daemon.get("product:1").body == b"second"


# --- what is sent on


def test_the_request_is_a_plain_get_of_the_configured_authority(daemon, upstream):
    upstream.on("/products/1", Reply())
    daemon.request("GET", "/v1/keys/product:1", headers={"Cookie": "s3cr3t", "Authorization": "Bearer s3cr3t", "Accept-Language": "de", "X-Any": "1"})
    seen = upstream.requests[0]
    assert (seen.method, seen.target) == ("GET", "/products/1")
    assert seen.headers["host"] == upstream.authority
    assert not {"cookie", "authorization", "accept-language", "x-any"} & set(seen.headers)


def test_forwarded_headers_are_sent_and_are_part_of_the_key(daemon, upstream):
    upstream.on("/products/1", Reply("plain"), Reply("deutsch"), Reply("français"))
    assert daemon.get("language:1").body == b"plain"
    assert daemon.get("language:1", accept_language="de").body == b"deutsch"
    assert daemon.get("language:1", accept_language="fr").body == "français".encode()
    assert "accept-language" not in upstream.requests[0].headers
    assert upstream.requests[1].headers["accept-language"] == "de"
    for header, body in (({}, b"plain"), ({"accept_language": "de"}, b"deutsch"), ({"accept_language": "fr"}, "français".encode())):
        hit = daemon.get("language:1", **header)
        assert hit.cache.hit and hit.body == body
    assert upstream.count() == 3


def test_variants_cannot_be_confused_by_what_the_headers_hold(daemon, upstream):
    upstream.on("/products/1", *[Reply(str(i)) for i in range(9)])
    variants = [{"accept_language": "a"}, {"x_tenant": "a"}, {"accept_language": "a", "x_tenant": "b"}, {"accept_language": "a, x-tenant=b"},
                {"accept_language": "aX-Tenant=b"}]
    bodies = [daemon.get("language:1", **v).body for v in variants]
    assert len(set(bodies)) == len(variants)


def test_delete_removes_every_variant(daemon, upstream):
    upstream.on("/products/1", *[Reply(str(i)) for i in range(9)])
    daemon.get("language:1")
    daemon.get("language:1", accept_language="de")
    daemon.key("DELETE", "language:1")
    assert daemon.get("language:1").body == b"2"
    assert daemon.get("language:1", accept_language="de").body == b"3"


def test_connections_are_kept_and_reused(daemon, upstream):
    upstream.on("*", Reply())
    for i in range(10):
        assert daemon.get(f"product:{i}").status == 200


def test_a_connection_that_the_upstream_closed_meanwhile_costs_nothing(daemon, upstream):
    upstream.on("*", Reply(hang_up=True))
    for i in range(6):
        assert daemon.get(f"product:{i}").status == 200
        time.sleep(0.02)
    assert upstream.count() == 6


# --- the path cannot be left


HOSTILE = ["..", ".", "../admin", "../../etc/passwd", "..%2fadmin", "a/../../b", "a?x=1", "a#b", "a&b=c", "//evil.example/x", "@evil.example", "http://evil.example/",
           "a b", "a\r\nHost: evil.example\r\n\r\nGET /admin", "a\tb", "%2e%2e", "%252e", ";x", "a\\..\\b", "é", "+", "%"]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_placeholder_is_one_segment_whatever_it_holds(daemon, upstream, value):
    upstream.on("*", Reply())
    daemon.request("GET", "/v1/keys/raw:" + urllib.parse.quote(value, safe=""))
    for seen in upstream.requests:
        assert seen.target.startswith("/products/")
        segment = seen.target[len("/products/"):]
        assert not set(segment) & set("/?#\\ "), seen
        assert urllib.parse.unquote(segment) == value
        assert segment not in (".", "..") and value not in (".", ".."), "a dot segment may not be sent"
        assert seen.headers["host"] == upstream.authority
    assert len(upstream.requests) <= 1


def test_a_placeholder_in_the_query_is_one_value(daemon, upstream):
    upstream.on("*", Reply())
    value = "a&limit=9#x?y=z +/%"
    daemon.request("GET", "/v1/keys/search:" + urllib.parse.quote(value, safe=""))
    path, _, query = upstream.requests[0].target.partition("?")
    assert path == "/search"
    assert urllib.parse.parse_qs(query) == {"q": [value], "limit": ["3"]}


def test_redirects_are_not_followed(daemon, upstream):
    upstream.on("/products/1", Reply("secret origin body", status=302, headers={"Location": f"{upstream.url}/elsewhere"}))
    upstream.on("/elsewhere", Reply("elsewhere"))
    answer = daemon.get("product:1")
    assert answer.status >= 400
    assert upstream.count("/elsewhere") == 0
    assert "location" not in answer.headers and not answer.cache.stored


def test_the_base_path_of_the_origin_is_kept(start_daemon, store, upstream):
    upstream.on("/base/v2/products/1", Reply())
    daemon = start_daemon(store=store, origins={"web": {"http": f"{upstream.url}/base/v2/"}},
                          routes=[{"name": "p", "key": "p:{id}", "origin": "web", "load": "GET /products/{id}"}])
    assert daemon.get("p:1").status == 200


# --- failures


@pytest.mark.parametrize("status", [404, 410])
def test_not_found_and_gone_are_no_record(daemon, upstream, status):
    upstream.on("/products/1", Reply("origin's page", status=status))
    answer = daemon.get("product:1")
    assert (answer.status, answer.slug) == (404, "no-record")
    assert b"origin's page" not in answer.body


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504])
def test_a_server_error_is_502_without_the_origins_body(daemon, upstream, status):
    upstream.on("/products/1", Reply("hush-hush stack trace", status=status), Reply("fine"))
    answer = daemon.get("product:1")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert b"hush-hush" not in answer.body
    assert daemon.get("product:1").body == b"fine", "an error is not stored"


NONSENSE = {
    "no HTTP at all": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "a status that is no number": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}",
    "an early close in the header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "an early close in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789",
    "an early close between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a chunk size that is no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length out of range": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    "over-long headers": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
    "a body without end": b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 1000,
}


@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_from_the_upstream_is_502_and_the_daemon_goes_on(daemon, upstream, raw):
    upstream.on("/products/bad", Reply(raw=raw))
    upstream.on("/products/good", Reply("good"))
    answer = daemon.get("product:bad")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert daemon.get("product:good").body == b"good"
    assert not daemon.get("product:bad").cache.hit


def test_bytes_after_an_answer_are_not_the_next_answer(daemon, upstream):
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    upstream.on("/products/1", Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + smuggled))
    upstream.on("/products/2", Reply("mine"))
    daemon.get("product:1")
    assert daemon.get("product:2").body == b"mine"


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
], ids=["chunked", "HTTP/1.0", "until close", "after an interim answer"])
def test_every_legal_framing_is_understood(daemon, upstream, raw):
    upstream.on("/products/1", Reply(raw=raw))
    answer = daemon.get("product:1")
    assert (answer.status, answer.body) == (200, b"abcde")


def test_a_slow_upstream_is_504_in_time(daemon, upstream):
    upstream.on("/products/1", Reply(delay=5))
    started = time.monotonic()
    answer = daemon.get("hurried:1")
    assert (answer.status, answer.slug) == (504, "origin-timeout")
    assert 0.25 < time.monotonic() - started < 1.5


def test_a_refused_connection_is_502(start_daemon, store):
    daemon = start_daemon(store=store, origins={"web": {"http": f"http://127.0.0.1:{free_port()}"}},
                          routes=[{"name": "p", "key": "p:{id}", "origin": "web", "load": "GET /products/{id}"}])
    answer = daemon.get("p:1")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert b"127.0.0.1" not in answer.body
