#!/usr/bin/env python3
"""Measures the daemon against the floor, in interleaved rounds, and what it costs when idle.

    tests/bench/run.py [--rounds N] [--seconds N] [--connections N] [--body BYTES]

Needs a release build, wrk, strace and redis-server. Server and wrk share core 0 (the least noisy arrangement); Redis has core 1.
CPU us per request is the server process' own time. Two other things running on the machine spoil it.
"""
import argparse
import statistics
import tempfile

import measure
import servers


def hits(directory, options):
    redis = servers.Redis(directory, 1, 0).start()
    running = [servers.Floor(directory, 0, options.body).start(), servers.AsidecarMemory(directory, 0, options.body).start(),
               servers.AsidecarRedis(directory, 0, options.body, redis).start(), servers.AsidecarRedisUnix(directory, 0, options.body, redis).start()]
    runs = {server.name: [] for server in running}
    try:
        for server in running:
            measure.load(server, options.connections, 1, 0)  # warm
        for _ in range(options.rounds):
            for server in running:
                runs[server.name].append(measure.load(server, options.connections, options.seconds, 0))
        idle_mib = measure.resident_mib(running[2].pid)
    finally:
        for server in [*running, redis]:
            server.stop()
    figures = {name: measure.medians(of) for name, of in runs.items()}
    print(f"same core, {options.connections} connections, {options.body} B, medians of {options.rounds} rounds of {options.seconds} s\n")
    print("| server | CPU us/request | x floor | requests/s | p50 us | p99 us |\n|---|---|---|---|---|---|")
    for name, f in figures.items():
        ratio = statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(runs[name], runs["floor"]))
        print(f"| {name} | {f['cpu_us']:.2f} | {ratio:.2f} | {f['requests_per_s']:.0f} | {f['p50_us']:.0f} | {f['p99_us']:.0f} |")
    print(f"\nresident after load (Redis hit): {idle_mib:.1f} MiB")


def idle(directory):
    redis = servers.Redis(directory, 1, 0).start()
    server = servers.AsidecarRedis(directory, 0, 200, redis)
    try:
        ready = [measure.seconds_until_ready(server.command(), f"{directory}/{server.name}.admin.sock") for _ in range(20)]
        server.start()
        print(f"ready after start: median {statistics.median(ready) * 1000:.0f} ms, longest {max(ready) * 1000:.0f} ms of {len(ready)}")
        print(f"resident when idle: {measure.resident_mib(server.pid):.1f} MiB")
        print(f"system calls of an idle daemon in 20 s: {measure.system_calls(server.pid, 20)}")
        server.stop()
    finally:
        redis.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--body", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
        idle(directory)
        hits(directory, options)


if __name__ == "__main__":
    main()
