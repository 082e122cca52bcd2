#!/usr/bin/python3
"""What cold misses cost PostgreSQL, with and without shared queries, and how long a lone one takes.

    tests/bench/misses.py [--keys N]

64 connections ask for distinct rows of a table, each once; CPU time is that of all of PostgreSQL's processes, divided by the keys. Then
one connection does. pgbench with prepared selects is the usual way: one query at a time, on 8 connections and on one. The floor shows what
the hop over HTTP takes by itself.
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

PGBENCH = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))), "pgbench")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import measure  # noqa: E402
import servers  # noqa: E402
from harness.postgres import PostgresServer  # noqa: E402

SCRIPT = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/v1/keys/row:" .. n)
end
"""


class Misses(servers.Asidecar):
    name = "asidecar misses"
    path = "/v1/keys/row:1"

    def __init__(self, directory, postgres, batch):
        super().__init__(directory, 0, 0)
        self.postgres, self.batch = postgres, batch

    def configuration(self):
        return {**super().configuration(), "origins": {"db": {"postgres": self.postgres.url, "connections": 8}},
                "routes": [{"name": "row", "key": "row:{id:int}", "origin": "db", "load": "SELECT id, payload FROM rows WHERE id = {id}",
                            "batch": self.batch, "ttl": "1h"}]}

    def fill(self):
        pass


def run(directory, postgres, batch, connections, seconds):
    """PostgreSQL's CPU per key in us, keys/s, and the median latency in us."""
    server = Misses(directory, postgres, batch).start()
    script = pathlib.Path(directory) / "distinct.lua"
    script.write_text(SCRIPT)
    try:
        time.sleep(0.5)
        before = measure.cpu_seconds(postgres.pid)
        f = measure.load(server, connections, seconds, 1, script)
        used = measure.cpu_seconds(postgres.pid) - before
    finally:
        server.stop()
    return used / (f["requests_per_s"] * seconds) * 1e6, f["requests_per_s"], f["p50_us"]


def pgbench(directory, postgres, keys, connections, seconds):
    """The same of prepared selects, one at a time on each connection. pgbench tells the mean latency only."""
    script = pathlib.Path(directory) / "select.sql"
    script.write_text(f"\\set id random(1, {keys})\nSELECT id, payload FROM rows WHERE id = :id;\n")
    before = measure.cpu_seconds(postgres.pid)
    out = subprocess.run(["taskset", "-c", "1", PGBENCH, "-n", "-M", "prepared", "-c", str(connections), "-T", str(seconds), "-f", script, postgres.url],
                         capture_output=True, text=True, check=True).stdout
    used = measure.cpu_seconds(postgres.pid) - before
    per_s = float(re.search(r"tps = ([\d.]+)", out).group(1))
    return used / (per_s * seconds) * 1e6, per_s, connections / per_s * 1e6


def http_hop(directory, seconds):
    """The same of an HTTP request that asks nobody."""
    floor = servers.Floor(directory, 0, 200).start()
    try:
        f = measure.load(floor, 1, seconds, 1)
    finally:
        floor.stop()
    return 0, f["requests_per_s"], f["p50_us"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    postgres = PostgresServer().create()
    try:
        postgres.run(f"CREATE TABLE rows AS SELECT n AS id, repeat('x', 200) AS payload FROM generate_series(1, {options.keys}) AS n; ALTER TABLE rows ADD PRIMARY KEY (id)")
        postgres.run("VACUUM ANALYZE rows")
        with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
            for connections in (64, 1):
                ways = {"prepared selects (pgbench), " + ("8 connections" if connections > 1 else "1 connection"):
                            lambda sessions=min(8, connections): pgbench(directory, postgres, options.keys, sessions, options.seconds),
                        **{f"asidecar, batch {n}": lambda n=n, clients=connections: run(directory, postgres, n, clients, options.seconds) for n in (1, 64)}}
                if connections == 1:
                    ways["an HTTP request alone (floor)"] = lambda: http_hop(directory, options.seconds)
                rounds = [{name: way() for name, way in ways.items()} for _ in range(options.rounds)]
                usual = next(iter(ways))
                print(f"\n| {connections} at a time | PostgreSQL CPU us/key | × | keys/s | latency us | × |\n|---|---|---|---|---|---|")
                for name in ways:
                    cpu, per_s, latency = (statistics.median(r[name][i] for r in rounds) for i in range(3))
                    by_cpu, by_latency = (statistics.median(r[name][i] / r[usual][i] for r in rounds) for i in (0, 2))
                    print(f"| {name} | {cpu:.1f} | {by_cpu:.2f} | {per_s:.0f} | {latency:.0f} | {by_latency:.2f} |")
    finally:
        postgres.remove()


if __name__ == "__main__":
    main()
