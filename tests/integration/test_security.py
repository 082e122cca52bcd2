"""Who may ask, and what no answer tells (contract 6)."""
import uuid

import pytest

from harness.daemon import run_cli
from harness.ports import free_port
from harness.upstream import Reply
from harness.wire import call, eventually

TOKEN = "tok-5f2b9e6c1d-secret"
ROUTES = [{"name": "s", "key": "s:{id}", "put": True}]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=["L1", "L2"])
def tier(request, redis):
    """Where the values of the shared daemons live; those in L1 are answered on a shorter way."""
    return {} if request.param == "L1" else {"store": {"redis": redis.url, "prefix": f"se{uuid.uuid4().hex}:"}}


@pytest.fixture(scope="module")
def guarded(start_module_daemon, tier):
    daemon = start_module_daemon(listen={"token": TOKEN}, routes=ROUTES, **tier)
    assert daemon.request("PUT", "/v1/keys/s:1", b"cached", bearer(TOKEN)).status == 204
    return daemon


@pytest.fixture(scope="module")
def daemon(start_module_daemon, tier):
    daemon = start_module_daemon(listen={"hosts": ["cache.internal"]}, routes=ROUTES, **tier)
    assert daemon.key("PUT", "s:1", b"cached").status == 204
    return daemon


# --- token

CALLS = [("GET", "/v1/keys/s:1"), ("HEAD", "/v1/keys/s:1"), ("PUT", "/v1/keys/s:1"), ("DELETE", "/v1/keys/s:1"), ("POST", "/v1/mget"),
         ("POST", "/v1/invalidate"), ("PUT", "/v1/records/s:1"), ("GET", "/"), ("GET", "/foo"), ("GET", "/v1/records/x")]


@pytest.mark.parametrize("method, target", CALLS)
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(TOKEN[:-1]), bearer(TOKEN + "x"), bearer(""), {"Authorization": f"Basic {TOKEN}"},
                                     {"Authorization": TOKEN}], ids=lambda h: h.get("Authorization", "none"))
def test_a_data_call_without_the_token_is_401(guarded, method, target, headers):
    answer = guarded.request(method, target, b"{}" if method in ("PUT", "POST") else None, headers)
    assert answer.status == 401
    if method != "HEAD":
        assert answer.slug == "unauthorized"
        assert TOKEN.encode() not in answer.body
    assert answer.headers["www-authenticate"].lower().startswith("bearer")


@pytest.mark.parametrize("tcp", [False, True])
def test_the_token_opens_the_data_api(guarded, tcp):
    assert guarded.request("PUT", "/v1/keys/s:2", b"1", bearer(TOKEN), tcp=tcp).status == 204
    assert guarded.request("GET", "/v1/keys/s:2", headers=bearer(TOKEN), tcp=tcp).body == b"1"
    assert guarded.request("GET", "/v1/keys/s:2", headers={"authorization": f"bearer {TOKEN}"}, tcp=tcp).body == b"1"


@pytest.mark.parametrize("method, target", [("GET", "/metrics"), ("GET", "/metrics/cache"), ("POST", "/metrics/cache/reset"), ("GET", "/config")])
def test_an_admin_call_needs_the_token(guarded, method, target):
    assert guarded.admin(method, target).status == 401
    assert guarded.admin(method, target, headers=bearer(TOKEN)).status in (200, 204)


def test_without_the_token_the_admin_api_does_not_tell_which_paths_it_has(guarded):
    assert guarded.admin("GET", "/foo").status == 401
    assert guarded.admin("GET", "/foo", headers=bearer(TOKEN)).status == 404


@pytest.mark.parametrize("target", ["/livez", "/readyz"])
def test_probes_need_no_token(guarded, target):
    assert guarded.admin("GET", target).status == 200


def test_a_token_may_come_from_a_file(start_daemon, store, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    daemon = start_daemon(store=store, listen={"token": f"file:{file}"}, routes=ROUTES)
    assert daemon.request("GET", "/v1/keys/s:1").status == 401
    assert daemon.request("GET", "/v1/keys/s:1", headers=bearer(TOKEN)).status == 404


def test_a_token_may_come_from_the_environment(start_daemon, store):
    daemon = start_daemon(store=store, listen={"token": "${TEST_TOKEN}"}, env={"TEST_TOKEN": TOKEN}, routes=ROUTES)
    assert daemon.request("GET", "/v1/keys/s:1").status == 401
    assert daemon.request("GET", "/v1/keys/s:1", headers=bearer(TOKEN)).status == 404


def test_urls_may_come_from_files(start_daemon, redis, prefix, postgres, upstream, tmp_path):
    upstream.on("/w/1", Reply("1"))
    urls = {"redis": redis.url, "postgres": postgres.url, "http": upstream.url}
    for kind, url in urls.items():
        (tmp_path / kind).write_text(url + "\n")
    from_file = {kind: f"file:{tmp_path / kind}" for kind in urls}
    daemon = start_daemon(
        store={"redis": from_file["redis"], "prefix": prefix},
        origins={"db": {"postgres": from_file["postgres"]}, "web": {"http": from_file["http"]}},
        routes=[{"name": "q", "key": "q:{id:int}", "origin": "db", "load": "SELECT {id}::int AS id"},
                {"name": "w", "key": "w:{id}", "origin": "web", "load": "GET /w/{id}"}])
    for key in ("q:1", "w:1"):
        assert daemon.get(key).cache.stored
        assert redis.client()("EXISTS", prefix + key) == 1


def test_a_non_loopback_address_without_token_does_not_start(tmp_path):
    file = tmp_path / "asidecar.yaml"
    file.write_text("listen: {data: [\"0.0.0.0:8700\"]}\n")
    done = run_cli("serve", "-c", str(file))
    assert done.returncode == 2
    assert f"{file}:1:" in done.stderr


# --- Host


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8700", "localhost.evil.example", "127.0.0.1.evil.example", "cache.internal.evil.example",
                                  "xlocalhost", "0x7f.1", "127.1"])
@pytest.mark.parametrize("target", ["/v1/keys/s:1", "/"])
def test_a_foreign_host_is_403_on_tcp(daemon, host, target):
    answer = daemon.request("GET", target, headers={"Host": host}, tcp=True)
    assert (answer.status, answer.slug) == (403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "LOCALHOST", "127.0.0.1", "127.0.0.1:8700", "10.1.2.3", "[::1]", "[::1]:8700",
                                  "cache.internal", "cache.internal:8700", "Cache.Internal"])
def test_known_hosts_are_served_on_tcp(daemon, host):
    assert daemon.request("GET", "/v1/keys/s:1", headers={"Host": host}, tcp=True).body == b"cached"


def test_any_host_is_served_on_a_unix_socket(daemon):
    assert daemon.request("GET", "/v1/keys/s:1", headers={"Host": "evil.example"}).body == b"cached"


def test_a_foreign_host_is_403_in_http_1_0_too(daemon):
    with daemon.wire(tcp=True) as wire:
        assert wire.ask("GET /v1/keys/s:1 HTTP/1.0\r\nHost: evil.example\r\n\r\n").slug == "forbidden"


def test_the_authority_of_an_absolute_target_is_checked(daemon):
    with daemon.wire(tcp=True) as wire:
        answer = wire.ask("GET http://evil.example/v1/keys/s:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (answer.status, answer.slug) == (403, "forbidden")
    with daemon.wire(tcp=True) as wire:
        assert wire.ask("GET http://127.0.0.1:1/v1/keys/s:1 HTTP/1.1\r\nHost: localhost\r\n\r\n").body == b"cached"


def test_the_admin_api_has_the_same_rules_on_tcp(start_daemon, store):
    admin = ("127.0.0.1", free_port())
    daemon = start_daemon.make(store=store, routes=ROUTES, listen={"admin": f"127.0.0.1:{admin[1]}"})
    daemon.admin_address = admin
    daemon.start()
    assert call(admin, "GET", "/metrics", headers={"Host": "evil.example"}).status == 403
    assert call(admin, "POST", "/metrics/cache/reset", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert call(admin, "POST", "/metrics/cache/reset", headers={"Origin": "https://evil.example"}).status == 403
    assert call(admin, "GET", "/metrics").status == 200


# --- browsers


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
                                     {"Origin": "http://evil.example:8700"}, {"Origin": "http://localhost.evil.example"}], ids=str)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_requests_from_foreign_pages_are_403(daemon, method, headers):
    answer = daemon.request(method, "/v1/keys/s:1", b"evil" if method == "PUT" else None, headers, tcp=True)
    assert (answer.status, answer.slug) == (403, "forbidden")
    assert daemon.get("s:1").body == b"cached"


def test_requests_of_the_own_origin_are_served(daemon):
    own = f"127.0.0.1:{daemon.tcp[1]}"
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": f"http://{own}", "Host": own}):
        assert daemon.request("GET", "/v1/keys/s:1", headers=headers, tcp=True).body == b"cached"


def test_no_answer_has_cors_headers(daemon):
    for method in ("GET", "OPTIONS"):
        answer = daemon.request(method, "/v1/keys/s:1", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}, tcp=True)
        assert not [name for name in answer.headers if name.startswith("access-control")]


# --- what errors do not tell


def test_no_problem_repeats_sql_credentials_or_an_origins_body(start_daemon, store, upstream, postgres):
    upstream.on("*", Reply("hush-body", status=500))
    url = postgres.url.replace("app@", "app:hush-password@")
    daemon = start_daemon(store=store, origins={"db": {"postgres": url}, "web": {"http": upstream.url}}, routes=[
        {"name": "sql", "key": "sql:{id}", "origin": "db", "load": "SELECT hush_column FROM hush_table WHERE id = {id}"},
        {"name": "slow", "key": "slow:{id}", "origin": "db", "load": "SELECT pg_sleep(9) AS hush_column, {id}::text AS id", "timeout": "100ms"},
        {"name": "cast", "key": "cast:{id}", "origin": "db", "load": "SELECT {id}::int AS hush_column"},
        {"name": "web", "key": "web:{id}", "origin": "web", "load": "GET /hush-path/{id}"}])
    for key in ("sql:1", "slow:1", "cast:abc", "web:1", "none"):
        answer = daemon.get(key)
        assert answer.status >= 400 and answer.slug
        assert b"hush" not in answer.body.lower(), answer
    assert "hush-password" not in daemon.log()


def test_values_and_tokens_are_never_logged(start_daemon, store):
    daemon = start_daemon(store=store, listen={"token": TOKEN}, routes=ROUTES, log={"level": "trace"})
    daemon.request("PUT", "/v1/keys/s:1", b"value-in-private", bearer(TOKEN))
    daemon.request("GET", "/v1/keys/s:1", headers=bearer(TOKEN))
    daemon.request("GET", "/v1/keys/s:1", headers=bearer("wrong-but-private"))
    assert TOKEN not in daemon.log()
    assert "private" not in daemon.log()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_keys_cannot_forge_log_lines(start_daemon, store, upstream, log_format):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(store=store, origins={"web": {"http": upstream.url}}, log={"level": "trace", "format": log_format},
                          routes=[{"name": "w", "key": "w:{id:rest}", "origin": "web", "load": "GET /x/{id}"}])
    daemon.request("GET", "/v1/keys/w:a%0Aforged-line%1B%5B31m%22%7D")
    assert not [line for line in daemon.log().splitlines() if line.startswith("forged-line")]
    assert "\x1b" not in daemon.log()


@pytest.mark.parametrize("key", ["k" * 1022, "%01" * 1022, "%22" * 1022], ids=["letters", "control characters", "quotes"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_long_key_makes_no_long_log_line(start_daemon, upstream, log_format, key):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(origins={"web": {"http": upstream.url}}, log={"format": log_format},
                          routes=[{"name": "w", "key": "w:{id:rest}", "origin": "web", "load": "GET /x/{id}"}])
    assert daemon.request("GET", f"/v1/keys/w:{key}").status == 502
    lines = eventually(lambda: [line for line in daemon.log().splitlines() if "load failed" in line])
    assert max(map(len, lines)) < 2048
