#!/usr/bin/env python3
"""How cost grows with work, and what hostile clients cost the others.

    tests/bench/scale.py [--seconds N] [--rounds N] [--out DIRECTORY] [keys] [stored] [connections] [threads] [hostile]

keys: hits in L1 over 10^3 to 10^6 distinct keys; stored: hits in Redis of 4 KiB, compressed and not, over 1 to 10^4 distinct keys, in turn
and as YCSB draws them (Zipf, 0.99); connections: 1 to 8,000; threads: one and two, on two cores; hostile: slow senders, clients that
pipeline and do not read, idle connections. Server and wrk share core 0, except for `threads`.
"""
import argparse
import contextlib
import pathlib
import random
import resource
import socket
import statistics
import tempfile
import threading
import time

import measure
import report
import servers

SCRIPT = """
local n, count = 1, {count}
request = function()
  n = (n + 7919) % count
  return "GET {path}" .. n .. " HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
end
"""


DRAWN_SCRIPT = """
local at, drawn = 0, {{{drawn}}}
request = function()
  at = at % #drawn + 1
  return "GET {path}" .. drawn[at] .. " HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
end
"""


class ManyKeys:
    """Mixin: `count` values, put by one pipelining connection."""

    def fill(self):
        self.put_all(lambda n: servers.json_body(self.body_bytes, n))

    def put_all(self, body_of):
        with socket.create_connection((servers.HOST, self.port)) as wire:
            reader = threading.Thread(target=self.read_all, args=(wire,))
            reader.start()
            for first in range(0, self.count, 500):
                wire.sendall(b"".join(b"PUT /v1/keys/s:%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (n, self.body_bytes, body_of(n))
                                      for n in range(first, min(first + 500, self.count))))
            reader.join()

    def read_all(self, wire):
        left = self.count
        tail = b""
        while left > 0:
            data = tail + wire.recv(1 << 18)
            left -= data.count(b"\r\n\r\n")
            tail = b"" if data.endswith(b"\r\n\r\n") else data[-3:]  # an end may be cut


class Filled(ManyKeys, servers.AsidecarMemory):
    """Holds `count` values of 200 B in L1."""
    name = "asidecar filled"

    def __init__(self, directory, core, count, threads=1):
        super().__init__(directory, core, 200)
        self.count, self.threads = count, threads

    def configuration(self):
        return {**super().configuration(), "threads": self.threads, "l1": {"size": "2GiB", "ttl": "7d"}, "defaults": {"ttl": "7d"}}

    def fill(self):
        self.empty_mib = measure.resident_mib(self.pid)
        body = b"x" * self.body_bytes
        self.put_all(lambda n: body)


class Stored(ManyKeys, servers.AsidecarRedis):
    """Redis holds `count` values of 4 KiB, compressed."""
    name = "asidecar stored"

    def __init__(self, directory, redis, count):
        super().__init__(directory, 0, 4096, redis)
        self.count = count


class StoredPlain(Stored, servers.AsidecarRedisPlain):
    name = "asidecar stored, no zstd"


class FilledHuge(Filled):
    """malloc asks for huge pages (docs/OPERATIONS.md)."""
    name = "asidecar filled, huge pages"
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def script(directory, name, path, count):
    file = pathlib.Path(directory) / f"{name}-{count}.lua"
    file.write_text(SCRIPT.format(count=count, path=path))
    return file


def zipf_script(directory, name, path, count):
    weights = [1 / rank ** 0.99 for rank in range(1, count + 1)]
    drawn = random.Random(1).choices(range(count), weights, k=50_000)
    file = pathlib.Path(directory) / f"{name}-{count}-zipf.lua"
    file.write_text(DRAWN_SCRIPT.format(drawn=",".join(map(str, drawn)), path=path))
    return file


def medians(server, options, connections, core=0, lua=None):
    return measure.medians([measure.load(server, connections, options.seconds, core, lua) for _ in range(options.rounds)])


def keys(directory, options):
    """The lines of a plot, as connections() returns them too."""
    lines = {"floor, same keys": [], "L1 hit": [], "L1 hit, huge pages": []}
    print("| distinct keys | floor, same keys: CPU µs/request | L1 hit | × floor | huge pages | × floor | bytes of memory per entry beyond key and value, huge pages |\n"
          "|---|---|---|---|---|---|---|")
    floor = servers.Floor(directory, 0, 200).start()
    for count in (1_000, 10_000, 100_000, 1_000_000):
        running = [Filled(directory, 0, count).start(), FilledHuge(directory, 0, count).start()]
        try:
            lua, floor_lua = script(directory, "asidecar", "/v1/keys/s:", count), script(directory, "floor", "/s:", count)
            floor_us, ours_us = [], [[] for _ in running]
            for _ in range(options.rounds):
                floor_us.append(measure.load(floor, 64, options.seconds, 0, floor_lua)["cpu_us"])
                for server, rounds in zip(running, ours_us):
                    rounds.append(measure.load(server, 64, options.seconds, 0, lua)["cpu_us"])
            cells = [f"{statistics.median(rounds):.2f} | {statistics.median(a / b for a, b in zip(rounds, floor_us)):.2f}" for rounds in ours_us]
            beyond = [f"{(measure.resident_mib(s.pid) - s.empty_mib) * 2**20 / count - s.body_bytes - len(f's:{count - 1}'):.0f}" for s in running]
            print(f"| {count} | {statistics.median(floor_us):.2f} | {' | '.join(cells)} | {', '.join(beyond)} |", flush=True)
            for points, rounds in zip(lines.values(), [floor_us, *ours_us]):
                points.append((count, statistics.median(rounds)))
        finally:
            for server in running:
                server.stop()
    floor.stop()
    return {"distinct keys": lines}


def stored(directory, options):
    print("| distinct keys | floor, same keys: CPU µs/request | Redis hit, compressed | × floor | Redis hit, not compressed | × floor |\n|---|---|---|---|---|---|")
    floor, redis = servers.Floor(directory, 0, 4096).start(), servers.Redis(directory, 1, 0).start()
    try:
        for count, scripted, how in ((1, script, ""), (100, script, ""), (1_000, script, ""), (10_000, script, ""), (10_000, zipf_script, ", Zipf 0.99")):
            running = [kind(directory, redis, count).start() for kind in (Stored, StoredPlain)]
            try:
                lua, floor_lua = scripted(directory, "asidecar", "/v1/keys/s:", count), scripted(directory, "floor", "/s:", count)
                rounds = [[measure.load(server, 64, options.seconds, 0, floor_lua if server is floor else lua)["cpu_us"] for server in [floor, *running]]
                          for _ in range(options.rounds)]
                cells = [f"{statistics.median(r[i] for r in rounds):.2f} | {statistics.median(r[i] / r[0] for r in rounds):.2f}" for i in (1, 2)]
                print(f"| {count}{how} | {statistics.median(r[0] for r in rounds):.2f} | {' | '.join(cells)} |", flush=True)
            finally:
                for server in running:
                    server.stop()
    finally:
        floor.stop()
        redis.stop()


def connections(directory, options):
    lines = {"floor": [], "L1 hit": []}
    print("| connections | CPU µs/request | floor | × floor |\n|---|---|---|---|")
    floor = servers.Floor(directory, 0, 200).start()
    server = Filled(directory, 0, 1).start()
    try:
        server.path = "/v1/keys/s:0"
        for count in (1, 8, 64, 512, 2000, 8000):
            seconds = max(options.seconds, 3) if count > 1000 else options.seconds  # most of a short one would be connecting
            floor_us, ours_us = zip(*[[measure.load(s, count, seconds, 0)["cpu_us"] for s in (floor, server)] for _ in range(options.rounds)])
            ratio = statistics.median(a / b for a, b in zip(ours_us, floor_us))
            print(f"| {count} | {statistics.median(ours_us):.2f} | {statistics.median(floor_us):.2f} | {ratio:.2f} |", flush=True)
            for points, rounds in zip(lines.values(), (floor_us, ours_us)):
                points.append((count, statistics.median(rounds)))
    finally:
        server.stop()
        floor.stop()
    return {"connections": lines}


def threads(directory, options):
    keys_of_threads = 100_000
    print("| threads | CPU µs/request | requests/s |\n|---|---|---|")
    for count in (1, 2):
        server = Filled(directory, "0,1", keys_of_threads, threads=count).start()
        try:
            f = medians(server, options, 64, "0,1", script(directory, "asidecar", "/v1/keys/s:", keys_of_threads))
            print(f"| {count} | {f['cpu_us']:.2f} | {f['requests_per_s']:.0f} |", flush=True)
        finally:
            server.stop()


@contextlib.contextmanager
def idle(server):
    held = measure.idle_connections(servers.HOST, server.port, 8000)
    try:
        yield
    finally:
        for wire in held:
            wire.close()


@contextlib.contextmanager
def slow_senders(server):
    stop = threading.Event()
    head = b"GET /v1/keys/s:0 HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"a" * 1000
    wires = [socket.create_connection((servers.HOST, server.port)) for _ in range(200)]

    def trickle():
        for n in range(len(head)):
            for wire in wires:
                with contextlib.suppress(OSError):
                    wire.send(head[n:n + 1])
            if stop.wait(1):
                return

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()
        for wire in wires:
            wire.close()


@contextlib.contextmanager
def readless(server):
    wires = []
    for _ in range(50):
        wire = socket.create_connection((servers.HOST, server.port))
        wire.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(10_000):
                wire.send(b"GET /v1/keys/s:0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wires.append(wire)
    try:
        yield
    finally:
        for wire in wires:
            wire.close()


def hostile(directory, options):
    print("| beside | requests/s | of alone | memory MiB |\n|---|---|---|---|")
    server = Filled(directory, 0, 1).start()
    server.path = "/v1/keys/s:0"
    try:
        for name, guests in (("8,000 idle connections", idle), ("200 clients that send a byte a second", slow_senders),
                             ("50 clients that pipeline 10,000 requests and do not read", readless)):
            alone, beside = [], []
            for _ in range(options.rounds):
                alone.append(measure.load(server, 64, options.seconds, 0)["requests_per_s"])
                with guests(server):
                    time.sleep(1)
                    beside.append(measure.load(server, 64, options.seconds, 0)["requests_per_s"])
                    memory = measure.resident_mib(server.pid)
                time.sleep(1)
            print(f"| {name} | {statistics.median(beside):.0f} | {statistics.median(b / a for b, a in zip(beside, alone)):.2f} | {memory:.1f} |", flush=True)
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("what", nargs="*", default=["keys", "stored", "connections", "threads", "hostile"])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench"), help="for the plot, growth.png")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plotted = {}
    for what in options.what:
        with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
            print(f"\n{what} ({options.rounds} rounds of {options.seconds} s)\n")
            plotted |= {"keys": keys, "stored": stored, "connections": connections, "threads": threads, "hostile": hostile}[what](pathlib.Path(directory), options) or {}
    if plotted:
        options.out.mkdir(parents=True, exist_ok=True)
        report.plot_growth(plotted, options.out / "growth.png")


if __name__ == "__main__":
    main()
