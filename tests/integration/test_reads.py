"""Reads, and what PUT and DELETE of a key do to them (contract 3). Most of it over L1 alone and over Redis alone."""
import re
import threading
import time

import pytest

from harness.upstream import Reply
from harness.wire import eventually, get_text


@pytest.fixture(params=["L1", "L2"])
def tier(request):
    return request.param


@pytest.fixture
def daemon(start_daemon, tier, redis, prefix, upstream):
    """An upstream behind `thing:{id}` and others; values live in the tier that the test asks for."""
    upstream.on("/things/1", Reply('{"id":1}'))
    tiers = {"l1": {"size": "64MiB"}} if tier == "L1" else {"store": {"redis": redis.url, "prefix": prefix}}
    web = {"origin": "web", "cache_control": "ignore"}
    return start_daemon(
        origins={"web": {"http": upstream.url, "breaker": {"failures": 1000}}},
        routes=[
            {"name": "thing", "key": "thing:{id}", "load": "GET /things/{id}", "ttl": "100s", **web},
            {"name": "short", "key": "short:{id}", "load": "GET /things/{id}", "ttl": "1s", "stale_if_error": "60s", **web},
            {"name": "behind", "key": "behind:{id}", "load": "GET /things/{id}", "ttl": "1s", "stale_while_revalidate": "60s", **web},
            {"name": "patient", "key": "patient:{id}", "load": "GET /things/{id}", "ttl": "1s", "stale_if_error": "60s", "soft_timeout": "300ms", **web},
            {"name": "early", "key": "early:{id}", "load": "GET /things/{id}", "ttl": "10s", "early_refresh_beta": 99, **web},
            {"name": "obeying", "key": "obeying:{id}", "load": "GET /things/{id}", "origin": "web", "ttl": "50s"},
            {"name": "remembered", "key": "remembered:{id}", "load": "GET /absent/{id}", "negative_ttl": "60s", **web},
            {"name": "small", "key": "small:{id}", "load": "GET /things/{id}", "max_value": "16", **web},
            {"name": "file", "key": "file:{path:rest}", "load": "GET /files/{path}", **web},
            {"name": "session", "key": "session:{id}", "put": True, "ttl": "60s"},
            {"name": "tiny", "key": "tiny:{id}", "put": True, "max_value": "8"},
        ],
        **tiers)


# --- hit, miss, and what they carry


def test_a_miss_is_stored_and_the_next_read_is_a_hit(daemon, upstream, tier):
    miss = daemon.get("thing:1")
    assert (miss.status, miss.body) == (200, b'{"id":1}')
    assert miss.headers["cache-status"] == "asidecar; fwd=uri-miss; stored"
    hit = daemon.get("thing:1")
    assert (hit.status, hit.body) == (200, b'{"id":1}')
    assert re.fullmatch(rf"asidecar; hit; ttl=(99|100); detail={tier}", hit.headers["cache-status"])
    assert upstream.count("/things/1") == 1


def test_answers_carry_type_etag_age_and_freshness(daemon):
    for answer in (daemon.get("thing:1"), daemon.get("thing:1")):
        assert answer.headers["content-type"] == "application/json"
        assert re.fullmatch(r'"[^"]+"', answer.headers["etag"]), "a strong ETag"
        assert int(answer.headers["age"]) in (0, 1)
        assert 98 <= answer.max_age <= 100


def test_the_etag_is_the_same_for_miss_and_hit_and_differs_between_values(daemon, upstream):
    upstream.on("/things/2", Reply('{"id":2}'))
    one = daemon.get("thing:1").headers["etag"]
    assert daemon.get("thing:1").headers["etag"] == one
    assert daemon.get("thing:2").headers["etag"] != one


def test_age_grows_and_freshness_shrinks(daemon):
    daemon.get("thing:1")
    time.sleep(1.1)
    answer = daemon.get("thing:1")
    assert int(answer.headers["age"]) >= 1
    assert answer.max_age <= 99 and answer.cache.ttl <= 99


def test_head_answers_as_get_without_the_body(daemon):
    miss = daemon.key("HEAD", "thing:1")
    assert (miss.status, miss.body) == (200, b"")
    get, head = daemon.get("thing:1"), daemon.key("HEAD", "thing:1")
    for name in ("content-type", "etag", "content-length"):
        assert head.headers[name] == get.headers[name]
    assert head.cache.hit


def test_an_absent_record_is_404(daemon):
    answer = daemon.get("thing:none")
    assert (answer.status, answer.slug) == (404, "no-record")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_key_without_route_is_404(daemon, method):
    answer = daemon.key(method, "nothing-like-it", b"1" if method == "PUT" else None)
    assert (answer.status, answer.slug) == (404, "no-route")


def test_a_path_outside_the_api_is_404(daemon):
    assert daemon.request("GET", "/").status == 404
    assert daemon.request("GET", "/v1/").status == 404


def test_absent_records_are_not_remembered_by_default(daemon, upstream):
    daemon.get("thing:none")
    daemon.get("thing:none")
    assert upstream.count("/things/none") == 2


def test_absent_records_are_remembered_for_negative_ttl(daemon, upstream):
    assert daemon.get("remembered:x").status == 404
    again = daemon.get("remembered:x")
    assert (again.status, again.slug) == (404, "no-record")
    assert upstream.count("/absent/x") == 1


# --- conditional requests


@pytest.mark.parametrize("form", ['{etag}', '"other", {etag}', 'W/{etag}', '*', '"a,b",{etag}'])
def test_a_matching_if_none_match_is_304_without_body(daemon, form):
    etag = daemon.get("thing:1").headers["etag"]
    answer = daemon.get("thing:1", if_none_match=form.format(etag=etag))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag


def test_head_may_be_304_too(daemon):
    etag = daemon.get("thing:1").headers["etag"]
    answer = daemon.key("HEAD", "thing:1", headers={"If-None-Match": etag})
    assert answer.status == 304 and answer.headers["etag"] == etag


def test_another_if_none_match_is_200(daemon):
    daemon.get("thing:1")
    assert daemon.get("thing:1", if_none_match='"other"').status == 200


def test_a_miss_may_be_304_too(daemon):
    etag = daemon.get("thing:1").headers["etag"]
    daemon.key("DELETE", "thing:1")
    assert daemon.get("thing:1", if_none_match=etag).status == 304


# --- keys


def test_keys_are_percent_decoded(daemon, upstream):
    upstream.on("/things/a%20b", Reply('"spaced"'))
    assert daemon.request("GET", "/v1/keys/thing%3Aa%20b").body == b'"spaced"'
    assert daemon.request("GET", "/v1/keys/thing:a%20b").cache.hit
    assert daemon.request("GET", "/v1/keys/%74hing:a%20b").cache.hit


def test_a_raw_slash_belongs_to_the_key(daemon, upstream):
    upstream.on("/files/a%2Fb%2Fc", Reply('"file"'))
    assert daemon.request("GET", "/v1/keys/file:a/b/c").body == b'"file"'
    assert daemon.request("GET", "/v1/keys/file:a%2Fb%2Fc").cache.hit


def test_a_placeholder_matches_neither_colon_nor_slash(daemon):
    assert daemon.get("thing:a:b").slug == "no-route"
    assert daemon.get("thing:a/b").slug == "no-route"
    assert daemon.get("thing:").slug == "no-route"


def test_keys_of_several_scripts_work(daemon):
    key = "session:ключ-鍵-🔑"
    assert daemon.key("PUT", key, b"1").status == 204
    assert daemon.get(key).body == b"1"


# --- Cache-Control of the request


def test_no_cache_loads_anew_and_stores(daemon, upstream):
    upstream.on("/things/1", Reply("1"), Reply("2"))
    daemon.get("thing:1")
    anew = daemon.get("thing:1", cache_control="no-cache")
    assert anew.body == b"2" and anew.cache.fwd
    after = daemon.get("thing:1")
    assert after.body == b"2" and after.cache.hit


def test_no_store_loads_and_stores_nothing(daemon, upstream):
    answer = daemon.get("thing:1", cache_control="no-store")
    assert answer.status == 200 and not answer.cache.stored
    assert daemon.get("thing:1").cache.fwd == "uri-miss"
    assert upstream.count("/things/1") == 2


def test_only_if_cached_never_loads(daemon, upstream):
    cold = daemon.get("thing:1", cache_control="only-if-cached")
    assert (cold.status, cold.slug) == (504, "not-cached")
    assert upstream.count() == 0
    daemon.get("thing:1")
    assert daemon.get("thing:1", cache_control="only-if-cached").cache.hit


def test_max_age_refuses_what_is_older(daemon, upstream):
    daemon.get("thing:1")
    assert daemon.get("thing:1", cache_control="max-age=50").cache.hit
    time.sleep(1.1)
    assert daemon.get("thing:1", cache_control="max-age=50").cache.hit
    assert daemon.get("thing:1", cache_control="max-age=1").cache.fwd
    assert upstream.count("/things/1") == 2


def test_min_fresh_refuses_what_is_soon_stale(daemon, upstream):
    daemon.get("thing:1")
    assert daemon.get("thing:1", cache_control="min-fresh=50").cache.hit
    assert daemon.get("thing:1", cache_control="min-fresh=500").cache.fwd
    assert upstream.count("/things/1") == 2


def test_max_stale_accepts_what_is_stale(daemon, upstream, tier):
    daemon.get("short:1")
    time.sleep(1.2)
    for directive in ("max-stale", "max-stale=30"):
        stale = daemon.get("short:1", cache_control=directive)
        assert stale.cache.hit and stale.cache.ttl <= 0
        assert stale.cache.detail == tier and stale.max_age == 0
    assert upstream.count("/things/1") == 1
    assert daemon.get("short:1").cache.fwd
    assert upstream.count("/things/1") == 2


@pytest.mark.parametrize("directives", ["frobnicate=3, x=\"a, b\"", "max-age=nonsense", "max-age=-1", "max-age=", "max-age", "min-fresh=-1", ", ,"])
def test_directives_that_make_no_sense_are_ignored(daemon, directives):
    daemon.get("thing:1")
    assert daemon.get("thing:1", cache_control=directives).cache.hit


def test_directives_may_come_on_several_lines(daemon):
    daemon.get("thing:1")
    with daemon.wire() as wire:
        assert wire.ask(get_text("thing:1", "Cache-Control: min-fresh=500", "Cache-Control: only-if-cached")).slug == "not-cached"


# --- what the upstream says of its value


def test_age_begins_with_the_upstreams_age(daemon, upstream):
    upstream.on("/things/1", Reply(headers={"Cache-Control": "max-age=100", "Age": "40"}))
    for answer in (daemon.get("obeying:1"), daemon.get("obeying:1")):
        assert int(answer.headers["age"]) in (40, 41)


def test_a_weak_etag_of_the_upstream_becomes_a_strong_one(daemon, upstream):
    upstream.on("/things/1", Reply(headers={"Cache-Control": "max-age=100", "ETag": 'W/"v1"'}))
    etag = daemon.get("obeying:1").headers["etag"]
    assert re.fullmatch(r'"[^"]+"', etag) and etag != '"v1"'
    assert daemon.get("obeying:1", if_none_match=etag).status == 304


def test_a_304_renews_a_value_that_could_not_be_served_stale(daemon, upstream):
    upstream.on("/things/1", Reply("first", headers={"Cache-Control": "max-age=1", "ETag": '"v1"'}),
                Reply(status=304, headers={"Cache-Control": "max-age=100"}))
    daemon.get("obeying:1")
    time.sleep(1.2)
    renewed = daemon.get("obeying:1")
    assert (renewed.status, renewed.body) == (200, b"first")
    assert upstream.requests[1].headers["if-none-match"] == '"v1"'
    hit = daemon.get("obeying:1")
    assert hit.cache.hit and hit.max_age > 90 and hit.body == b"first"


@pytest.mark.parametrize("vary", ["X-Tenant", "Accept-Encoding, X-Tenant", "*"])
def test_what_varies_by_a_header_that_is_not_forwarded_is_not_stored(daemon, upstream, vary):
    upstream.on("/things/1", Reply(headers={"Cache-Control": "max-age=100", "Vary": vary}))
    for _ in range(2):
        assert daemon.get("obeying:1").headers["cache-status"] == "asidecar; fwd=uri-miss"


# --- stale values


def test_a_stale_value_stands_in_when_the_origin_fails(daemon, upstream):
    upstream.on("/things/1", Reply("1"), Reply(status=500))
    daemon.get("short:1")
    time.sleep(1.2)
    stale = daemon.get("short:1")
    assert (stale.status, stale.body) == (200, b"1")
    assert stale.cache.hit and stale.cache.ttl <= 0


def test_a_stale_value_is_served_while_it_is_refreshed_behind(daemon, upstream):
    upstream.on("/things/1", Reply("1"), Reply("2"))
    daemon.get("behind:1")
    time.sleep(1.2)
    stale = daemon.get("behind:1")
    assert stale.body == b"1" and stale.cache.hit and stale.cache.ttl <= 0
    upstream.wait_for("/things/1", 2)
    time.sleep(0.1)
    assert daemon.get("behind:1").body == b"2"


def test_a_refresh_that_a_delete_overtakes_stores_nothing(daemon, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old"), Reply("refreshed", gate=gate), Reply("new"))
    daemon.get("behind:1")
    time.sleep(1.2)
    assert daemon.get("behind:1").body == b"old"
    upstream.wait_for("/things/1", 2)
    assert daemon.key("DELETE", "behind:1").status == 204
    gate.set()
    eventually(lambda: b"asidecar_flights 0\n" in daemon.admin("GET", "/metrics").body)
    answer = daemon.get("behind:1")
    assert answer.body == b"new" and answer.cache.fwd == "uri-miss"


def test_a_slow_origin_delays_a_stale_value_by_soft_timeout_and_its_load_goes_on(daemon, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("old"), Reply("new", gate=gate))
    daemon.get("patient:1")
    time.sleep(1.2)
    started = time.monotonic()
    stale = daemon.get("patient:1")
    assert 0.25 < time.monotonic() - started < 1.5
    assert stale.body == b"old" and stale.cache.hit and stale.cache.ttl <= 0
    gate.set()
    eventually(lambda: daemon.get("patient:1").body == b"new")
    assert upstream.count("/things/1") == 2


def test_a_value_that_is_slow_to_load_is_refreshed_early(daemon, upstream):
    gate = threading.Event()
    upstream.on("/things/1", Reply("1", delay=0.3), Reply("2", gate=gate))
    daemon.get("early:1")

    def refreshing():
        answer = daemon.get("early:1")
        assert answer.body == b"1" and answer.cache.hit and answer.cache.ttl > 0
        return upstream.count("/things/1") == 2

    eventually(refreshing)
    gate.set()
    eventually(lambda: daemon.get("early:1").body == b"2")


def test_a_value_lives_in_l1_no_longer_than_l1_ttl(start_daemon, upstream):
    upstream.on("/x", Reply("1"))
    daemon = start_daemon(l1={"size": "1MiB", "ttl": "500ms"}, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "x", "key": "x", "origin": "web", "load": "GET /x"}])
    daemon.get("x")
    assert daemon.get("x").cache.hit
    eventually(lambda: daemon.get("x").cache.fwd == "uri-miss", within=2)


def test_a_value_past_all_its_limits_is_gone(start_daemon, store, upstream):
    upstream.on("/x", Reply("1"), Reply(status=500))
    daemon = start_daemon(store=store, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "x", "key": "x", "origin": "web", "load": "GET /x", "ttl": "1s", "cache_control": "ignore"}])
    daemon.get("x")
    time.sleep(1.2)
    assert daemon.get("x").status == 502


# --- size


def test_larger_values_are_served_but_not_stored(daemon, upstream):
    upstream.on("/things/1", Reply("x" * 17))
    for _ in range(2):
        answer = daemon.get("small:1")
        assert answer.body == b"x" * 17
        assert answer.cache.fwd == "uri-miss" and not answer.cache.stored
    upstream.on("/things/2", Reply("x" * 16))
    assert daemon.get("small:2").cache.stored


def test_an_answer_over_max_response_is_502(start_daemon, store, upstream):
    upstream.on("/x/fits", Reply("x" * 1024))
    upstream.on("/x/over", Reply("x" * 1025))
    daemon = start_daemon(store=store, origins={"web": {"http": upstream.url, "max_response": "1KiB"}},
                          routes=[{"name": "x", "key": "x:{id}", "origin": "web", "load": "GET /x/{id}"}])
    assert daemon.get("x:fits").status == 200
    answer = daemon.get("x:over")
    assert (answer.status, answer.slug) == (502, "origin-failed")


def test_a_value_of_a_mebibyte_survives_the_tiers(daemon, upstream):
    body = bytes(range(256)) * 4095
    upstream.on("/things/big", Reply(body, headers={"Content-Type": "application/octet-stream"}))
    assert daemon.get("thing:big").body == body
    hit = daemon.get("thing:big")
    assert hit.cache.hit and hit.body == body
    assert hit.headers["content-type"] == "application/octet-stream"


def test_an_empty_value_is_a_value(daemon):
    assert daemon.key("PUT", "session:empty", b"").status == 204
    answer = daemon.get("session:empty")
    assert (answer.status, answer.body) == (200, b"") and answer.cache.hit


# --- PUT and DELETE of cached values


def test_a_value_that_was_put_is_served_with_its_type(daemon, tier):
    put = daemon.key("PUT", "session:1", b"\x00\xffraw", {"Content-Type": "image/x-test"})
    assert (put.status, put.body) == (204, b"")
    got = daemon.get("session:1")
    assert (got.status, got.body) == (200, b"\x00\xffraw")
    assert got.headers["content-type"] == "image/x-test"
    assert got.cache.hit and got.cache.detail == tier
    assert 55 <= got.max_age <= 60


def test_a_second_put_replaces_the_first(daemon):
    daemon.key("PUT", "session:1", b"old")
    etag = daemon.get("session:1").headers["etag"]
    daemon.key("PUT", "session:1", b"new")
    got = daemon.get("session:1")
    assert got.body == b"new" and got.headers["etag"] != etag


def test_without_an_origin_a_miss_is_404(daemon):
    assert daemon.get("session:nobody").slug == "no-record"


def test_delete_makes_the_next_read_a_miss(daemon, upstream):
    upstream.on("/things/1", Reply("1"), Reply("2"))
    daemon.get("thing:1")
    assert daemon.key("DELETE", "thing:1").status == 204
    answer = daemon.get("thing:1")
    assert answer.body == b"2" and answer.cache.fwd == "uri-miss"


def test_delete_removes_what_was_put(daemon):
    daemon.key("PUT", "session:1", b"1")
    assert daemon.key("DELETE", "session:1").status == 204
    assert daemon.get("session:1").status == 404


def test_delete_of_what_is_not_cached_is_204(daemon):
    assert daemon.key("DELETE", "thing:never").status == 204


def test_put_where_it_is_not_allowed_is_405(daemon):
    answer = daemon.key("PUT", "thing:1", b"1")
    assert (answer.status, answer.slug) == (405, "method-not-allowed")
    allowed = {m.strip() for m in answer.headers["allow"].split(",")}
    assert {"GET", "HEAD"} <= allowed and "PUT" not in allowed


@pytest.mark.parametrize("method, target", [("POST", "/v1/keys/thing:1"), ("PATCH", "/v1/keys/thing:1"), ("OPTIONS", "/v1/keys/thing:1"),
                                            ("TRACE", "/v1/keys/thing:1"), ("CONNECT", "/v1/keys/thing:1"),
                                            ("GET", "/v1/invalidate"), ("GET", "/v1/mget"), ("PUT", "/v1/mget")])
def test_other_methods_are_405_and_say_what_is_allowed(daemon, method, target):
    answer = daemon.request(method, target, b"" if method in ("POST", "PUT", "PATCH") else None)
    assert (answer.status, answer.slug) == (405, "method-not-allowed")
    assert answer.headers["allow"] and method not in answer.headers["allow"].split(", ")


def test_put_of_more_than_max_value_is_413(daemon):
    assert daemon.key("PUT", "tiny:1", b"12345678").status == 204
    answer = daemon.key("PUT", "tiny:1", b"123456789")
    assert (answer.status, answer.slug) == (413, "too-large")
    assert daemon.get("tiny:1").body == b"12345678"


# --- several instances, several routes


def test_what_one_instance_stores_is_a_hit_on_another(start_daemon, store, upstream):
    upstream.on("/x", Reply("1"))
    config = {"store": store, "origins": {"web": {"http": upstream.url}},
              "routes": [{"name": "x", "key": "x", "origin": "web", "load": "GET /x"}, {"name": "s", "key": "s:{id}", "put": True}]}
    one, two = start_daemon(**config), start_daemon(**config)
    assert one.get("x").cache.stored
    assert two.get("x").cache.hit
    one.key("PUT", "s:1", b"put")
    assert two.get("s:1").body == b"put"
    two.key("DELETE", "x")
    assert one.get("x").cache.fwd == "uri-miss"
    assert upstream.count("/x") == 2


def test_the_first_route_that_matches_the_whole_key_wins(start_daemon, store, upstream):
    for target in ("/int/7", "/uuid/a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "/any/7x", "/rest/1%3A2%2F3"):
        upstream.on(target, Reply(f'"{target}"'))
    routes = [("int", "k:{id:int}"), ("uuid", "k:{id:uuid}"), ("any", "k:{id}"), ("rest", "k:{id:rest}")]
    daemon = start_daemon(store=store, origins={"web": {"http": upstream.url}},
                          routes=[{"name": name, "key": key, "origin": "web", "load": f"GET /{name}/{{id}}"} for name, key in routes])
    assert daemon.get("k:7").json() == "/int/7"
    assert daemon.get("k:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").json().startswith("/uuid/")
    assert daemon.get("k:7x").json() == "/any/7x"
    assert daemon.get("k:1:2/3").json() == "/rest/1%3A2%2F3"
    assert daemon.get("xk:7").slug == "no-route"


def test_ttl_jitter_only_shortens(start_daemon, store):
    daemon = start_daemon(store=store, routes=[{"name": "s", "key": "s:{id}", "put": True, "ttl": "1000s", "ttl_jitter": 0.5}])
    ages = set()
    for i in range(20):
        daemon.key("PUT", f"s:{i}", b"1")
        ages.add(daemon.get(f"s:{i}").max_age)
    assert len(ages) > 5 and 499 <= min(ages) and max(ages) <= 1000
