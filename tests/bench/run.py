#!/usr/bin/env python3
"""Measures the daemon beside the floor and the peers, in interleaved rounds, and writes a table, JSON and a plot.

    tests/bench/run.py [--quick] [--rounds N] [--seconds N] [--out DIRECTORY] [--only TEXT...]

Needs a release build, wrk, strace, redis-server, and for the plot gnuplot; each peer whose package is there. Two arrangements:
same core (server and wrk on core 0: the least noisy, for CPU per request) and two cores (wrk on core 1: for throughput and latency); Redis
has core 1. CPU us per request is the server's own processes' time. Anything else that runs on the machine spoils it.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import measure
import peers
import report
import servers

MEMORY = [peers.NginxProxyCache, peers.NginxLuaDict, peers.Haproxy, peers.Varnish]
REDIS = [peers.NginxLuaRedis, peers.NginxLuaRedisUnix, peers.NodeRedis]
OURS_REDIS = [servers.AsidecarRedis, servers.AsidecarRedisPlain, servers.AsidecarRedisUnix]


class Run:
    """The servers of one body size, all up at once; only the one that is measured works."""

    def __init__(self, directory, body, only):
        directory.mkdir()
        self.stack, self.servers, self.skipped = [], [], {}
        try:
            self.start(directory, body, only)
        except Exception:
            self.stop()
            raise

    def start(self, directory, body, only):
        self.redis = self.up(servers.Redis(directory, 1, 0))
        self.floor = self.up(servers.Floor(directory, 0, body))
        hanging = self.up(self.named(servers.Floor(directory, 0, body), "origin that hangs"))
        self.servers.append(self.floor)
        made = [lambda: servers.AsidecarMemory(directory, 0, body), lambda: servers.AsidecarNotModified(directory, 0, body),
                lambda: servers.AsidecarStale(directory, 0, body, hanging)]
        made += [lambda kind=kind: kind(directory, 0, body, self.redis) for kind in OURS_REDIS if kind is not servers.AsidecarRedisPlain or body >= 4096]
        for kind, source in [(k, self.floor) for k in MEMORY] + [(k, self.redis) for k in REDIS]:
            if why := kind.missing():
                self.skipped[kind.name] = why
            else:
                made.append(lambda kind=kind, source=source: kind(directory, 0, body, source))
        for make in made:
            server = make()
            if only is not None and not any(part in server.name for part in only):
                continue
            try:
                self.servers.append(self.up(server))
            except RuntimeError as problem:
                if not isinstance(server, peers.Peer):
                    raise
                self.skipped[server.name] = str(problem)

    @staticmethod
    def named(server, name):
        server.name = name
        return server

    def up(self, server):
        self.stack.append(server)
        return server.start()

    def stop(self):
        for server in reversed(self.stack):
            try:
                server.stop()
            except (OSError, subprocess.TimeoutExpired):
                server.process.kill()
            except AttributeError:
                pass  # did not even begin


def measure_all(options):
    """{(arrangement, body, connections): {server: [figures of each round]}}"""
    figures, skipped = {}, {}
    for body in options.bodies:
        with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
            run = Run(pathlib.Path(directory) / "run", body, options.only)
            skipped.update(run.skipped)
            try:
                for server in run.servers:
                    measure.load(server, 8, 1, 0)  # warm
                for arrangement, core in (("same core", 0), ("two cores", 1)):
                    for connections in options.connections:
                        by_server = figures.setdefault((arrangement, body, connections), {server.name: [] for server in run.servers})
                        for _ in range(options.rounds):
                            for server in list(run.servers):
                                try:
                                    by_server[server.name].append(measure.load(server, connections, options.seconds, core))
                                except RuntimeError as problem:
                                    if not isinstance(server, peers.Peer):
                                        raise
                                    run.servers.remove(server)
                                    by_server.pop(server.name)
                                    skipped[server.name] = f"failed at {arrangement}, {body} B, {connections} connections: {problem}"
                        print(f"measured: {arrangement}, {body} B, {connections} connections", flush=True)
            finally:
                run.stop()
    return figures, skipped


def idle():
    with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
        redis = servers.Redis(directory, 1, 0).start()
        server = servers.AsidecarRedis(directory, 0, 200, redis)
        try:
            ready = [measure.seconds_until_ready(server.command(), str(server.admin_socket)) for _ in range(20)]
            server.start()
            out = {"ready_ms_median": statistics.median(ready) * 1000, "ready_ms_longest": max(ready) * 1000, "resident_mib": measure.resident_mib(server.pid)}
            out["system_calls_in_20_s"] = measure.system_calls(server.pid, 20)
            held = measure.idle_connections(servers.HOST, server.port, 2000)
            out["bytes_per_idle_connection"] = (measure.resident_mib(server.pid) - out["resident_mib"]) * 2**20 / len(held)
            for connection in held:
                connection.close()
            server.stop()
        finally:
            redis.stop()
    return out


def misses(options):
    """The report of misses.py, or why there is none."""
    rounds = ["--seconds", str(options.seconds), "--rounds", str(options.rounds)]
    done = subprocess.run(["/usr/bin/python3", pathlib.Path(__file__).with_name("misses.py"), *rounds], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    return f"\nleft out: misses on PostgreSQL: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 B and 64 connections only, 3 rounds of 1 s: under 3 minutes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--bodies", type=int, nargs="+", default=[200, 4096])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--only", nargs="+", help="servers whose name holds one of these, besides the floor")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench"))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.bodies, options.connections = 3, 1, [200], [64]
    options.out.mkdir(parents=True, exist_ok=True)
    quiet = {} if options.quick else idle()
    figures, skipped = measure_all(options)
    redis = [kind.name for kind in OURS_REDIS + REDIS]
    lines = [f"Medians of {options.rounds} rounds of {options.seconds} s."] + report.servers(figures)
    lines += report.against(figures, servers.AsidecarMemory.name, [kind.name for kind in MEMORY])
    for ours, theirs in ((servers.AsidecarRedis, [peers.NginxLuaRedis, peers.NodeRedis]), (servers.AsidecarRedisPlain, [peers.NginxLuaRedis, peers.NodeRedis]),
                         (servers.AsidecarRedisUnix, [peers.NginxLuaRedisUnix])):
        lines += report.against(figures, ours.name, [kind.name for kind in theirs], store=True)
    lines += report.store_cpu(figures, redis)
    lines += ["", *(f"left out: {name}: {why}" for name, why in skipped.items())]
    if quiet:
        lines.append("idle: " + ", ".join(f"{name} {value:.1f}" for name, value in quiet.items()))
    table = options.out / "table.md"
    table.write_text("\n".join(lines) + "\n")
    flat = [{"arrangement": a, "body": b, "connections": c, "server": name, "rounds": rounds} for (a, b, c), by_server in figures.items() for name, rounds in by_server.items()]
    (options.out / "figures.json").write_text(json.dumps({"idle": quiet, "left_out": skipped, "figures": flat}, indent=1))
    report.plot_servers(figures, options.out / "servers.png")
    if options.only is None:
        with table.open("a") as out:
            out.write(misses(options))
    print(table.read_text())


if __name__ == "__main__":
    main()
