"""HTTP and PostgreSQL origins over TLS: who is trusted, who is not, and that nothing is sent to the latter."""
import ssl

import pytest

from harness.upstream import Reply, Upstream
from harness.wire import eventually


@pytest.fixture
def serve(certificates):
    started = []

    def start(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        upstream = Upstream(tls=context)
        upstream.on("*", Reply('"secret"'))
        started.append(upstream)
        return upstream

    yield start
    for upstream in started:
        upstream.stop()


def config(upstream, store, **origin):
    return {"store": store, "origins": {"web": {"http": upstream.url, **origin}},
            "routes": [{"name": "t", "key": "t:{id}", "origin": "web", "load": "GET /t/{id}"}]}


def test_a_certificate_of_the_given_ca_is_trusted(start_daemon, store, serve, certificates):
    upstream = serve("good")
    daemon = start_daemon(**config(upstream, store, ca=str(certificates / "ca.pem")))
    for i in range(3):
        answer = daemon.get(f"t:{i}")
        assert (answer.status, answer.body) == (200, b'"secret"')
    assert upstream.count() == 3


def test_the_connection_is_kept(start_daemon, store, serve, certificates):
    upstream = serve("good")
    daemon = start_daemon(**config(upstream, store, ca=str(certificates / "ca.pem"), connections=1), threads=1)
    assert {daemon.get(f"t:{i}").status for i in range(20)} == {200}
    assert upstream.connections == 1


@pytest.mark.parametrize("certificate, ca", [("good", None), ("other", "ca.pem"), ("old", "ca.pem")],
                         ids=["unknown CA", "another name", "expired"])
def test_who_is_not_trusted_is_sent_nothing(start_daemon, store, serve, certificates, certificate, ca):
    upstream = serve(certificate)
    daemon = start_daemon(**config(upstream, store, **({"ca": str(certificates / ca)} if ca else {})))
    answer = daemon.get("t:1")
    assert (answer.status, answer.slug) == (502, "origin-failed")
    assert upstream.count() == 0
    eventually(lambda: "TLS" in daemon.log())


def test_a_plain_server_behind_https_is_502(start_daemon, store, upstream):
    upstream.url = upstream.url.replace("http:", "https:")
    daemon = start_daemon(**config(upstream, store))
    assert daemon.get("t:1").status == 502


def test_a_postgresql_that_does_not_speak_the_tls_its_url_demands_is_502(start_daemon, store, postgres):
    daemon = start_daemon(store=store, origins={"db": {"postgres": postgres.url + "?sslmode=require"}},
                          routes=[{"name": "t", "key": "t:{id:int}", "origin": "db", "load": "SELECT {id} AS id"}])
    assert daemon.get("t:1").status == 502
