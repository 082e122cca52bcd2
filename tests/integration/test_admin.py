"""The admin API (contract 4)."""
import re
import time

import pytest

from harness import prometheus
from harness.upstream import Reply
from harness.wire import eventually


@pytest.fixture
def daemon(start_daemon, store, upstream):
    upstream.on("/things/1", Reply("1"))
    upstream.on("/things/bad", Reply(status=500))
    return start_daemon(store=store, origins={"web": {"http": upstream.url}},
                        routes=[{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore"},
                                {"name": "session", "key": "session:{id}", "put": True}])


def metrics(daemon):
    return prometheus.parse(daemon.admin("GET", "/metrics").body.decode())


def cache_metrics(daemon):
    answer = daemon.admin("GET", "/metrics/cache")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/json")
    return answer.json()


@pytest.mark.parametrize("target", ["/livez", "/readyz"])
def test_probes_answer_200(daemon, target):
    assert daemon.admin("GET", target).status == 200


def test_readyz_does_not_depend_on_the_origin(daemon, upstream):
    upstream.stop()
    daemon.get("thing:1")
    assert daemon.admin("GET", "/readyz").status == 200


def test_metrics_are_valid_before_and_after_requests(daemon):
    assert metrics(daemon)
    for key in ("thing:1", "thing:1", "thing:none", "thing:bad", "session:1", "no-route"):
        daemon.get(key)
    answer = daemon.admin("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert prometheus.parse(answer.body.decode())


def test_metrics_count_reads_by_route_and_result(daemon):
    for key in ("thing:1", "thing:1", "thing:1", "thing:bad"):
        daemon.get(key)
    samples = metrics(daemon)
    requests = [name for (name, labels) in samples if ("route", "thing") in labels and any(key == "result" for key, _ in labels)]
    name = next(iter(set(requests)))
    assert prometheus.total(samples, name, route="thing", result="l2") == 2
    assert prometheus.total(samples, name, route="thing", result="miss") == 1
    assert prometheus.total(samples, name, route="thing", result="error") == 1


def test_no_metric_carries_a_key(daemon):
    daemon.get("thing:an-identifying-key")
    assert b"identifying" not in daemon.admin("GET", "/metrics").body


def test_cache_metrics_have_the_contracts_fields(daemon):
    for key in ("thing:1", "thing:1", "thing:1", "thing:bad"):
        daemon.get(key)
    figures = cache_metrics(daemon)
    assert figures["hits"] == 2
    assert figures["misses"] == 1
    assert figures["errors"] == 1
    assert figures["totalRequests"] == 4
    assert re.fullmatch(r"\d+\.\d\d%", figures["hitRate"])
    assert 50 <= float(figures["hitRate"][:-1]) <= 67
    assert re.fullmatch(r"\d+\.\d\d", figures["avgLatencyMs"])


def test_cache_metrics_are_there_per_route(daemon):
    daemon.get("thing:1")
    text = daemon.admin("GET", "/metrics/cache").body
    assert b'"thing"' in text and b'"session"' in text


def test_cache_metrics_of_a_fresh_daemon_are_zero(daemon):
    figures = cache_metrics(daemon)
    assert (figures["hits"], figures["misses"], figures["errors"], figures["totalRequests"]) == (0, 0, 0, 0)
    assert figures["hitRate"] == "0.00%"


def test_reset_sets_the_cache_metrics_to_zero_and_leaves_prometheus_alone(daemon):
    daemon.get("thing:1")
    daemon.get("thing:1")
    before = metrics(daemon)
    assert daemon.admin("POST", "/metrics/cache/reset").status in (200, 204)
    assert cache_metrics(daemon)["totalRequests"] == 0
    after = metrics(daemon)
    counters = [key for key in before if key[0].endswith("_total")]
    assert counters and all(after[key] >= before[key] for key in counters)
    daemon.get("thing:1")
    assert cache_metrics(daemon)["hits"] == 1


def test_l1_holds_no_more_bytes_than_its_size(start_daemon):
    size, body = 1 << 20, "x" * 4096
    daemon = start_daemon(l1={"size": size}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    with daemon.wire() as wire:
        for i in range(3 * size // len(body)):
            assert wire.ask(f"PUT /v1/keys/s:{i} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}").status == 204
    held = prometheus.total(metrics(daemon), "asidecar_l1_bytes")
    assert 0.5 * size < held <= size


def test_reset_needs_post(daemon):
    answer = daemon.admin("GET", "/metrics/cache/reset")
    assert answer.status == 405 and answer.headers["allow"] == "POST"


def test_the_configuration_is_shown_without_secrets(start_daemon, redis, prefix):
    url = f"redis://:pass-s3cr3t@127.0.0.1:{redis.port}/0"
    daemon = start_daemon(store={"redis": url, "prefix": prefix}, listen={"token": "token-s3cr3t"},
                          origins={"db": {"postgres": "postgresql://app:pg-s3cr3t@127.0.0.1:1/app"}},
                          routes=[{"name": "s", "key": "s:{id}", "put": True}])
    answer = daemon.admin("GET", "/config", headers={"Authorization": "Bearer token-s3cr3t"})
    assert answer.status == 200
    assert b"***" in answer.body and prefix.encode() in answer.body
    assert b"s3cr3t" not in answer.body


def test_unknown_paths_are_404(daemon):
    assert daemon.admin("GET", "/v1/keys/thing:1").status == 404
    assert daemon.admin("GET", "/nothing").status == 404


def test_the_data_api_has_no_admin_calls(daemon):
    for target in ("/metrics", "/config", "/metrics/cache"):
        assert daemon.request("GET", target).status == 404


# --- explain


def explain(daemon, key, status=200, **headers):
    answer = daemon.admin("GET", f"/v1/explain/{key}", headers=headers)
    assert answer.status == status
    return answer.json()


def test_explain_tells_what_each_tier_holds(start_daemon, redis, prefix, upstream):
    upstream.on("/things/1", Reply("x" * 1000))
    daemon = start_daemon(store={"redis": redis.url, "prefix": prefix}, l1={"size": "1MiB"}, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore", "ttl": "100s",
                                   "stale_if_error": "50s", "tags": ["things", "t:{id}"], "compress_above": 100}])
    cold = explain(daemon, "thing:1")
    assert cold["route"] == "thing" and cold["origin"] == "web" and cold["tags"] == ["things", "t:1"]
    assert cold["l1"] is cold["l2"] is cold["lock"] is None and not cold["loading"] and cold["redis"] == "up"
    assert upstream.count() == 0, "it loads nothing"
    # The news of the fill itself may come late, and drop the first copy.
    eventually(lambda: daemon.get("thing:1").cache.detail == "L1" and explain(daemon, "thing:1")["l1"])
    time.sleep(0.1)
    eventually(lambda: daemon.get("thing:1").cache.detail == "L1")
    warm = explain(daemon, "thing:1")
    for tier in ("l1", "l2"):
        assert warm[tier]["state"] == "fresh" and warm[tier]["bytes"] == 1000 and 99_000 < warm[tier]["ttlMs"] <= 100_000
    assert warm["l1"]["standing"] == "current"
    assert warm["redisKey"] == f"{prefix}thing:1"
    assert 149_000 < warm["l2"]["redisTtlMs"] <= 150_000
    redis.client()("SET", f"asidecar:lock:{{{prefix}thing:1}}", "someone", "PX", 60_000)
    assert 59_000 < explain(daemon, "thing:1")["lock"]["ttlMs"] <= 60_000
    daemon.post("/v1/invalidate", {"keys": ["thing:1"], "mode": "expire"})
    assert explain(daemon, "thing:1")["l2"]["state"] == "stale"


def test_explain_of_odd_keys(start_daemon, store, upstream):
    daemon = start_daemon(store=store, origins={"web": {"http": upstream.url}},
                          routes=[{"name": "thing", "key": "thing:{id:int}", "origin": "web", "load": "GET /things/{id}"}])
    assert explain(daemon, "nowhere:1", 404)["type"] == "urn:asidecar:no-route"
    assert explain(daemon, "thing:x", 400)["type"] == "urn:asidecar:bad-key"
    assert explain(daemon, "thing:007")["key"] == "thing:7"
    assert daemon.admin("POST", "/v1/explain/thing:1").status == 405


def test_the_dashboard_is_a_page_that_loads_nothing_from_elsewhere(daemon):
    answer = daemon.admin("GET", "/")
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert b"http://" not in answer.body and b"https://" not in answer.body
    assert daemon.admin("POST", "/").status == 405
