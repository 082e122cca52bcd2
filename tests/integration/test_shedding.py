"""Load shedding: breaker, bulkhead and connection limit answer 503 at once instead of piling up (contract 3, 5.9). Retries."""
import threading
import time

from harness.upstream import Reply
from harness.wire import Wire, eventually, fire, get_text


def config(store, upstream, timeout="5s", **origin):
    return {"store": store, "threads": 1, "origins": {"web": {"http": upstream.url, **origin}},
            "routes": [{"name": "thing", "key": "thing:{id}", "origin": "web", "load": "GET /things/{id}", "cache_control": "ignore", "timeout": timeout}]}


def assert_shed(answer, slug):
    assert (answer.status, answer.slug) == (503, slug)
    assert int(answer.headers["retry-after"]) >= 1


# --- breaker


def test_the_breaker_opens_after_failures_and_leaves_the_origin_alone(start_daemon, store, upstream):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 3, "open": "30s"}))
    for i in range(3):
        assert daemon.get(f"thing:{i}").status == 502
    for i in range(5):
        assert_shed(daemon.get(f"thing:x{i}"), "origin-open")
    assert upstream.count() == 3


def test_the_breaker_closes_after_a_trial_that_succeeds(start_daemon, store, upstream):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 2, "open": "500ms"}))
    for i in range(2):
        daemon.get(f"thing:{i}")
    assert_shed(daemon.get("thing:3"), "origin-open")
    upstream.on("*", Reply("fine"))
    time.sleep(0.6)
    assert daemon.get("thing:4").body == b"fine"
    assert {a.status for a in fire([daemon.data], [f"thing:after-{i}" for i in range(10)])} == {200}


def test_the_breaker_opens_again_after_a_trial_that_fails(start_daemon, store, upstream):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 2, "open": "500ms"}))
    for i in range(2):
        daemon.get(f"thing:{i}")
    time.sleep(0.6)
    assert daemon.get("thing:trial").status == 502
    assert_shed(daemon.get("thing:next"), "origin-open")
    assert upstream.count() == 3


def test_half_open_lets_one_load_through(start_daemon, store, upstream):
    upstream.on("*", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 2, "open": "500ms"}))
    for i in range(2):
        daemon.get(f"thing:{i}")
    upstream.on("*", Reply("fine", delay=0.3))
    time.sleep(0.6)
    statuses = [a.status for a in fire([daemon.data], [f"thing:half-{i}" for i in range(10)])]
    assert statuses.count(200) == 1 and statuses.count(503) == 9
    assert upstream.count() == 3


def test_timeouts_and_refused_connections_count_as_failures(start_daemon, store, upstream):
    upstream.on("*", Reply(delay=5))
    daemon = start_daemon(**config(store, upstream, timeout="100ms", breaker={"failures": 2, "open": "30s"}))
    assert daemon.get("thing:1").status == 504
    assert daemon.get("thing:2").status == 504
    assert_shed(daemon.get("thing:3"), "origin-open")


def test_absent_records_do_not_open_the_breaker(start_daemon, store, upstream):
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 2, "open": "30s"}))
    for i in range(6):
        assert daemon.get(f"thing:absent-{i}").slug == "no-record"


def test_a_success_in_between_keeps_the_breaker_closed(start_daemon, store, upstream):
    upstream.on("/things/bad", Reply(status=500))
    upstream.on("/things/good", Reply("fine", headers={"Cache-Control": "no-store"}))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 2, "open": "30s"}))
    for _ in range(4):
        assert daemon.get("thing:bad").status == 502
        assert daemon.get("thing:good", cache_control="no-cache").status == 200


def test_cached_values_are_served_while_the_breaker_is_open(start_daemon, store, upstream):
    upstream.on("/things/good", Reply("fine"))
    upstream.on("/things/bad", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, breaker={"failures": 1, "open": "30s"}))
    daemon.get("thing:good")
    daemon.get("thing:bad")
    assert_shed(daemon.get("thing:other"), "origin-open")
    assert daemon.get("thing:good").cache.hit


# --- retries


def test_a_load_that_fails_is_tried_again(start_daemon, store, upstream):
    upstream.on("/things/1", Reply(status=500), Reply("fine"))
    daemon = start_daemon(**config(store, upstream, retries=1))
    assert daemon.get("thing:1").body == b"fine"
    assert upstream.count() == 2


def test_a_load_is_tried_no_more_often_than_retries_says(start_daemon, store, upstream):
    upstream.on("/things/1", Reply(status=500))
    daemon = start_daemon(**config(store, upstream, retries=2))
    assert daemon.get("thing:1").status == 502
    assert upstream.count() == 3


# --- bulkhead


def test_loads_beyond_max_in_flight_and_queue_are_refused_at_once(start_daemon, store, upstream):
    gate = threading.Event()
    upstream.on("*", Reply("fine", gate=gate))
    daemon = start_daemon(**config(store, upstream, max_in_flight=2, queue=3))
    wires = [daemon.wire().send(get_text(f"thing:{i}")) for i in range(5)]
    upstream.wait_for(None, 2)
    time.sleep(0.1)
    started = time.monotonic()
    for i in range(3):
        assert_shed(daemon.get(f"thing:more-{i}"), "overloaded")
    assert time.monotonic() - started < 1
    gate.set()
    assert [w.read().status for w in wires] == [200] * 5
    for wire in wires:
        wire.close()
    assert upstream.running_max == 2


def test_a_load_whose_time_ends_in_the_queue_is_answered_in_time(start_daemon, store, upstream):
    gate = threading.Event()
    upstream.on("*", Reply("fine", gate=gate))
    daemon = start_daemon(**config(store, upstream, timeout="400ms", max_in_flight=1, queue=10))
    started = time.monotonic()
    answers = fire([daemon.data], [f"thing:{i}" for i in range(4)])
    assert time.monotonic() - started < 1.5
    assert {a.status for a in answers} <= {503, 504}
    gate.set()


def test_an_overload_passes(start_daemon, store, upstream):
    upstream.on("*", Reply("fine", delay=0.05))
    daemon = start_daemon(**config(store, upstream, max_in_flight=2, queue=2))
    statuses = {a.status for a in fire([daemon.data], [f"thing:{i}" for i in range(60)])}
    assert statuses == {200, 503}
    assert daemon.get("thing:later").status == 200


def test_waiters_of_one_load_take_one_place(start_daemon, store, upstream):
    upstream.on("*", Reply("fine", delay=0.1))
    daemon = start_daemon(**config(store, upstream, max_in_flight=1, queue=0))
    assert {a.status for a in fire([daemon.data], ["thing:1"] * 50)} == {200}


# --- connections


def test_connections_beyond_the_limit_are_answered_503_and_closed(start_daemon, store):
    daemon = start_daemon(store=store, listen={"max_connections": 5}, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    open_ones = [daemon.wire() for _ in range(5)]
    assert all(w.ask(get_text("s:1")).status == 404 for w in open_ones)
    with daemon.wire() as extra:
        assert extra.read().status == 503
        assert extra.is_closed()
    assert open_ones[0].ask(get_text("s:1")).status == 404, "the others go on"
    assert daemon.admin("GET", "/readyz").status == 200
    for wire in open_ones:
        wire.close()
    eventually(lambda: daemon.get("s:1").status == 404, within=2)


def test_the_admin_api_takes_128_connections(start_daemon, store):
    daemon = start_daemon(store=store, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    probe = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    open_ones = [Wire(daemon.admin_address) for _ in range(128)]
    assert {wire.ask(probe).status for wire in open_ones} == {200}
    with Wire(daemon.admin_address) as extra:
        assert_shed(extra.read(), "overloaded")
        assert extra.is_closed()
    assert open_ones[0].ask(probe).status == 200, "the others go on"
    assert daemon.get("s:1").status == 404, "and so does the data API"
    for wire in open_ones:
        wire.close()
    eventually(lambda: daemon.admin("GET", "/livez").status == 200, within=2)


def test_many_idle_connections_disturb_nobody(start_daemon, store):
    daemon = start_daemon(store=store, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    idle = [daemon.wire() for _ in range(500)]
    assert daemon.get("s:1").status == 404
    assert idle[-1].ask(get_text("s:1")).status == 404
    for wire in idle:
        wire.close()


def test_answers_that_nobody_reads_are_bounded(start_daemon, store):
    """A client that only sends fills its own connection and nothing else."""
    daemon = start_daemon(store=store, routes=[{"name": "s", "key": "s:{id}", "put": True}])
    daemon.key("PUT", "s:big", b"x" * 900_000)
    wires = [daemon.wire() for _ in range(3)]
    for wire in wires:
        wire.socket.setblocking(False)
        try:
            for _ in range(2000):
                wire.socket.send(get_text("s:big").encode() * 10)
        except BlockingIOError:
            pass
    assert daemon.get("s:1").status == 404
    rss_kib = next(int(line.split()[1]) for line in open(f"/proc/{daemon.pid}/status") if line.startswith("VmRSS"))
    assert rss_kib < 400_000
    for wire in wires:
        wire.close()
