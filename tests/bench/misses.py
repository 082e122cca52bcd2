#!/usr/bin/python3
"""What cold misses cost PostgreSQL, with and without shared queries.

    tests/bench/misses.py [--keys N]

64 connections ask for distinct rows of a table, each once; CPU time is that of all of PostgreSQL's processes, divided by the keys.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

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
        return {**super().configuration(), "origins": {"db": {"postgres": self.postgres.url, "connections": 4}},
                "routes": [{"name": "row", "key": "row:{id:int}", "origin": "db", "load": "SELECT id, payload FROM rows WHERE id = {id}",
                            "batch": self.batch, "ttl": "1h"}]}

    def fill(self):
        pass


def run(directory, postgres, batch, seconds):
    server = Misses(directory, postgres, batch).start()
    script = pathlib.Path(directory) / "distinct.lua"
    script.write_text(SCRIPT)
    try:
        time.sleep(0.5)
        before = measure.cpu_seconds(postgres._process.pid)
        out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", "-s", script, server.url], capture_output=True, text=True, check=True).stdout
        used = measure.cpu_seconds(postgres._process.pid) - before
    finally:
        server.stop()
    requests = int(out.split(" requests in")[0].split()[-1])
    if "Non-2xx" in out:
        raise RuntimeError(out)
    return requests, used / requests * 1e6, requests / seconds


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
        figures = {1: [], 64: []}
        with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
            for _ in range(options.rounds):
                for batch in figures:
                    figures[batch].append(run(directory, postgres, batch, options.seconds))
        print("| batch | PostgreSQL CPU us/key | keys/s |\n|---|---|---|")
        for batch, runs in figures.items():
            middle = sorted(runs, key=lambda r: r[1])[len(runs) // 2]
            print(f"| {batch} | {middle[1]:.1f} | {middle[2]:.0f} |")
        ratios = sorted(b[1] / a[1] for a, b in zip(figures[1], figures[64]))
        print(f"\nratio of CPU per key: {ratios[len(ratios) // 2]:.2f}")
    finally:
        postgres.remove()


if __name__ == "__main__":
    main()
