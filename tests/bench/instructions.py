#!/usr/bin/python3
"""User instructions per request, counted by valgrind --tool=callgrind: the same whatever else the machine does.

    tests/bench/instructions.py [--check]

64 connections ask in turn; what the first rounds cost is taken off, so start-up does not count. --check compares with the ceilings in
instructions.json, which a change has to raise in the open.
"""
import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

import servers

CEILINGS = pathlib.Path(__file__).with_name("instructions.json")
CONNECTIONS, WARM_ROUNDS, ROUNDS = 64, 20, 100
TRACED = "traceparent: 00-4bf92f3577b34da6a3ceUNIQUE-00f067aa0ba902b7-01\r\n"


def receive(wire):
    more = wire.recv(65536)
    if not more:
        raise RuntimeError("the server closed a connection")
    return more


def read_answer(wire):
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(wire)
    head, body = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"Content-Length: (\d+)", head)
    while length and len(body) < int(length.group(1)):
        body += receive(wire)
    return head.decode()


def count(server, rounds, detail, header=""):
    """Instructions of a whole life of the server, with so many rounds."""
    with open(server.directory / "valgrind.log", "w+") as log:
        process = subprocess.Popen(["valgrind", "--tool=callgrind", f"--callgrind-out-file={server.directory}/callgrind.out", *server.command()], stderr=log)
        try:
            servers.wait_for_port(server.port, within=60)
            server.fill()
            etag = server.get(server.path).headers["ETag"]
            request = f"GET {server.path} HTTP/1.1\r\nHost: {servers.HOST}:{server.port}\r\n{header.replace('ETAG', etag)}\r\n".encode()
            wires = [socket.create_connection((servers.HOST, server.port)) for _ in range(CONNECTIONS)]
            for i in range(rounds):
                for j, wire in enumerate(wires):
                    wire.sendall(request.replace(b"UNIQUE", b"%08d%04d" % (i, j)))
                heads = [read_answer(wire) for wire in wires]
            if any(f"detail={detail}" not in head for head in heads):
                raise RuntimeError(f"not a hit in {detail}: {heads[0]}")
        finally:
            process.terminate()
            process.wait()
        log.seek(0)
        return int(re.search(r"Collected : (\d+)", log.read()).group(1))


def per_request(make, detail, header=""):
    return round((count(make(), WARM_ROUNDS + ROUNDS, detail, header) - count(make(), WARM_ROUNDS, detail, header)) / (ROUNDS * CONNECTIONS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asidecar-bench-") as directory:
        redis = servers.Redis(directory, 1, 0).start()
        try:
            memory = lambda: servers.AsidecarMemory(directory, 0, 200)
            over_redis = lambda: servers.AsidecarRedis(directory, 0, 200, redis)
            found = {"L1 hit": per_request(memory, "L1"),
                     "L1 hit, every head another": per_request(memory, "L1", TRACED),
                     "304 from L1": per_request(memory, "L1", "If-None-Match: ETAG\r\n"),
                     "Redis hit": per_request(over_redis, "L2"),
                     "Redis hit, every head another": per_request(over_redis, "L2", TRACED)}
        finally:
            redis.stop()
    ceilings = json.loads(CEILINGS.read_text())
    above = [name for name, n in found.items() if n > ceilings[name]]
    for name, n in found.items():
        print(f"{name}: {n} instructions, ceiling {ceilings[name]}{': TOO MANY' if name in above else ''}")
    return 1 if options.check and above else 0


if __name__ == "__main__":
    sys.exit(main())
