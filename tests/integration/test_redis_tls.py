"""Redis over TLS (rediss://): the same cache, for servers that are trusted; away, for others, who are told nothing."""
import concurrent.futures
import os
import tempfile

import pytest

from harness.ports import free_port
from harness.redis import RedisServer
from harness.upstream import Reply
from harness.wire import eventually


@pytest.fixture
def serve(certificates, work_directory):
    """A Redis with a plain port, for the test itself, and one for TLS."""
    started = []

    def start(certificate="good", auth_clients="no"):
        tls_port = free_port()
        server = RedisServer(tempfile.mkdtemp(prefix="r-", dir=work_directory), "--tls-port", str(tls_port), "--tls-cert-file", f"{certificates}/{certificate}.pem",
                             "--tls-key-file", f"{certificates}/{certificate}.key", "--tls-ca-cert-file", f"{certificates}/ca.pem",
                             "--tls-auth-clients", auth_clients).start()
        server.tls_url = f"rediss://127.0.0.1:{tls_port}/0"
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def config(upstream, url, prefix, certificates, *, store=None, **more):
    upstream.on("*", Reply('"origin"'))
    return {"store": {"redis": url, "prefix": prefix, "ca": f"{certificates}/ca.pem", **(store or {})}, "origins": {"web": {"http": upstream.url}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /thing/{id}"}, {"name": "session", "key": "session:{id:rest}", "put": True}],
            **more}


def is_away(daemon):
    return daemon.get("thing:1").headers["cache-status"] == "asidecar; fwd=bypass; detail=redis-down"


def test_what_one_instance_stores_the_other_reads(start_daemon, upstream, serve, prefix, certificates):
    url = serve().tls_url
    one, two = (start_daemon(**config(upstream, url, prefix, certificates)) for _ in range(2))
    assert one.get("thing:1").cache.fwd == "uri-miss"
    assert two.get("thing:1").cache.detail == "L2"
    assert two.key("DELETE", "thing:1").status == 204
    assert one.get("thing:1").cache.fwd == "uri-miss"
    assert upstream.count() == 2


@pytest.mark.parametrize("l1", ["0", "16MiB"])
def test_large_values_and_many_at_a_time(start_daemon, upstream, serve, prefix, certificates, l1):
    """More than a TLS record, and more than a socket takes at once, in both directions."""
    url = serve().tls_url
    parts = config(upstream, url, prefix, certificates, l1={"size": l1}, defaults={"compress_above": 0}, store={"timeout": "5s"})
    one, two = start_daemon(**parts), start_daemon(**parts)
    bodies = {f"session:{n}": os.urandom(size) for n, size in enumerate([1, 16_000, 16_384, 65_536, 300_000, 1_000_000] * 8)}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda item: one.key("PUT", item[0], item[1]).status, bodies.items())) == {204}
        for _ in range(3):
            answers = list(pool.map(lambda key: (two.get(key).body == bodies[key], one.get(key).body == bodies[key]), bodies))
            assert all(a and b for a, b in answers)


def test_l1_hears_of_other_writers(start_daemon, upstream, serve, prefix, certificates):
    redis = serve()
    daemon = start_daemon(**config(upstream, redis.tls_url, prefix, certificates, l1={"size": "16MiB"}, store={"format": "raw"}))
    daemon.get("thing:1")
    eventually(lambda: daemon.get("thing:1").cache.detail == "L1")
    redis.client()("SET", f"{prefix}thing:1", "another")
    eventually(lambda: daemon.get("thing:1").body == b"another", within=1)


def test_an_outage_ends(start_daemon, upstream, serve, prefix, certificates):
    redis = serve()
    daemon = start_daemon(**config(upstream, redis.tls_url, prefix, certificates))
    for _ in range(3):
        daemon.get("thing:1")
        eventually(lambda: daemon.get("thing:1").cache.detail == "L2")
        redis.kill()
        eventually(lambda: is_away(daemon))
        redis.start()
        eventually(lambda: not is_away(daemon), within=3)


def test_a_redis_that_stalls_is_away_and_comes_back(start_daemon, upstream, serve, prefix, certificates):
    redis = serve()
    daemon = start_daemon(**config(upstream, redis.tls_url, prefix, certificates))
    daemon.get("thing:1")
    redis.stall()
    assert is_away(daemon)
    redis.go_on()
    eventually(lambda: not is_away(daemon), within=5)


@pytest.mark.parametrize("certificate, ca", [("good", ""), ("other", "ca.pem"), ("old", "ca.pem")], ids=["unknown CA", "another name", "expired"])
def test_who_is_not_trusted_is_away_and_told_nothing(start_daemon, upstream, serve, prefix, certificates, certificate, ca):
    redis = serve(certificate)
    redis.client()("ACL", "SETUSER", "app", "on", ">hush", "~*", "&*", "+@all")
    url = redis.tls_url.replace("rediss://", "rediss://app:hush@")
    daemon = start_daemon(**config(upstream, url, prefix, certificates, store={"ca": f"{certificates}/{ca}" if ca else ""}))
    assert is_away(daemon)
    eventually(lambda: "TLS: certificate verify failed" in daemon.log())
    assert redis.client()("KEYS", "*") == []
    assert "hush" not in daemon.log()


def test_a_client_certificate_that_the_server_asks_for(start_daemon, upstream, serve, prefix, certificates):
    url = serve(auth_clients="yes").tls_url
    ours = {"cert": f"{certificates}/good.pem", "key": f"{certificates}/good.key"}
    known = start_daemon(**config(upstream, url, prefix, certificates, store=ours))
    known.get("thing:1")
    assert known.get("thing:1").cache.detail == "L2"
    unknown = start_daemon(**config(upstream, url, prefix, certificates))
    assert is_away(unknown)
    eventually(lambda: "TLS: " in unknown.log())


def test_a_plain_server_behind_rediss_is_away(start_daemon, upstream, own_redis, prefix, certificates):
    assert is_away(start_daemon(**config(upstream, own_redis.url.replace("redis:", "rediss:"), prefix, certificates)))


def test_a_tls_server_behind_redis_is_away(start_daemon, upstream, serve, prefix, certificates):
    url = serve().tls_url.replace("rediss:", "redis:")
    assert is_away(start_daemon(**config(upstream, url, prefix, certificates, store={"ca": ""})))


@pytest.mark.parametrize("file", ["ca", "cert", "key"])
def test_a_file_that_cannot_be_read_is_named(start_daemon, upstream, serve, prefix, certificates, file):
    files = {"cert": f"{certificates}/good.pem", "key": f"{certificates}/good.key", file: f"{certificates}/absent.pem"}
    daemon = start_daemon(**config(upstream, serve().tls_url, prefix, certificates, store=files))
    assert is_away(daemon)
    eventually(lambda: "absent.pem cannot be read" in daemon.log())
