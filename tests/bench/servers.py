"""The servers that are measured. Each is started on free ports in a temporary directory and stopped by pid."""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
from random import Random

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASIDECAR = os.environ.get("ASIDECAR_BIN", str(ROOT / "build/release/asidecar"))
HOST = "127.0.0.1"


def json_body(size, seed=0):
    """JSON of exactly `size` bytes, as an API answers it: it compresses to some third."""
    random = Random(size + seed)
    words = "amber basalt cedar delta ember fjord garnet harbor indigo juniper kestrel lagoon".split()
    items, left = [], size - len('{"items":[],"note":""}')
    while True:
        item = {"id": random.randrange(10**6), "name": " ".join(random.choices(words, k=2)), "price": round(random.uniform(1, 500), 2), "key": f"{random.getrandbits(48):x}"}
        left -= len(json.dumps(item, separators=(",", ":"))) + 1
        if left < 0:
            break
        items.append(item)
    text = json.dumps({"items": items, "note": ""}, separators=(",", ":"))
    return (text[:-2] + "".join(random.choices("abcdefghijklmnop", k=size - len(text))) + text[-2:]).encode()


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_for_port(port, within=10):
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on port {port}") from None
            time.sleep(0.01)


class Server:
    """A process, with its children, pinned to one core. `path` is what the load generator asks for, with `headers`."""
    name = "?"
    path = "/"
    environment = {}
    store = None  # the Redis it asks for every request

    @classmethod
    def missing(cls):
        """Why it cannot run here; empty: it can."""
        return ""

    @property
    def headers(self):
        return []

    def __init__(self, directory, core, body_bytes):
        self.directory, self.core, self.body_bytes = pathlib.Path(directory), core, body_bytes
        self.port = free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(["taskset", "-c", str(self.core), *self.command()], stdout=log, stderr=log, cwd=self.directory,
                                            env={**os.environ, **self.environment})
        try:
            wait_for_port(self.port)
            self.fill()
        except Exception as problem:
            raise RuntimeError(f"{self.name} does not start: {problem}\n{self.log_file.read_text()[-2000:]}") from problem
        return self

    @property
    def slug(self):
        return self.name.replace(" ", "-").replace(",", "")

    @property
    def log_file(self):
        return self.directory / f"{self.slug}.log"

    def fill(self):
        """Puts into the cache what will be asked for."""

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=15)

    def get(self, path):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self.name}: GET {path} answered {answer.status}")
        connection.close()
        return answer

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"http://{HOST}:{self.port}{self.path}"


class Floor(Server):
    name = "floor"

    def command(self):
        binary = self.directory / "floor"
        if not binary.exists():
            subprocess.run(["cc", "-O2", "-o", binary, ROOT / "tests/bench/floor.c"], check=True)
        return [str(binary), str(self.port), str(self.body_bytes)]


class Redis(Server):
    name = "redis"

    def command(self):
        self.socket_path = self.directory / "redis.sock"
        return ["redis-server", "--port", str(self.port), "--bind", HOST, "--unixsocket", str(self.socket_path),
                "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def set(self, key, value):
        words = [b"SET", key.encode(), value]
        with socket.create_connection((HOST, self.port)) as wire:
            wire.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            wire.recv(64)


class Asidecar(Server):
    path = "/v1/keys/s:1"

    @property
    def admin_socket(self):
        return self.directory / f"{self.slug}.admin.sock"

    def configuration(self):
        return {"listen": {"data": [f"{HOST}:{self.port}"], "admin": f"unix:{self.admin_socket}"},
                "threads": 1, "routes": [{"name": "s", "key": "s:{id}", "put": True}], "log": {"level": "warn"}}

    def command(self):
        file = self.directory / f"{self.slug}.yaml"
        file.write_text(json.dumps(self.configuration(), indent=1))
        return [ASIDECAR, "serve", "-c", str(file)]

    def fill(self):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        connection.request("PUT", self.path, json_body(self.body_bytes), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise RuntimeError(f"{self.name}: PUT answered {answer.status}")
        connection.close()


class AsidecarRedis(Asidecar):
    """Every request checks Redis."""
    name = "asidecar redis tcp"

    def __init__(self, directory, core, body_bytes, redis):
        super().__init__(directory, core, body_bytes)
        self.store = redis

    def configuration(self):
        return {**super().configuration(), "store": {"redis": f"redis://{HOST}:{self.store.port}/0", "prefix": f"{self.slug}:"}}


class AsidecarRedisPlain(AsidecarRedis):
    """Values lie in Redis as they are, as the peers keep them. What is smaller than compress_above does so anyway."""
    name = "asidecar redis tcp, no zstd"

    def configuration(self):
        return {**super().configuration(), "defaults": {"compress_above": 0}}


class AsidecarRedisUnix(AsidecarRedis):
    name = "asidecar redis unix"

    def configuration(self):
        return {**super().configuration(), "store": {"redis": f"redis+unix://{self.store.socket_path}?db=0", "prefix": f"{self.slug}:"}}


class AsidecarMemory(Asidecar):
    name = "asidecar L1"

    def configuration(self):
        return {**super().configuration(), "l1": {"size": "64MiB", "ttl": "1h"}}


class AsidecarNotModified(AsidecarMemory):
    """The client has it already: 304."""
    name = "asidecar 304"

    def fill(self):
        super().fill()
        self.etag = self.get(self.path).headers["ETag"]

    @property
    def headers(self):
        return [f"If-None-Match: {self.etag}"]


class AsidecarStale(Asidecar):
    """Hits of a stale value while its refresh hangs."""
    name = "asidecar stale"

    def __init__(self, directory, core, body_bytes, origin):
        super().__init__(directory, core, body_bytes)
        self.origin = origin

    def configuration(self):
        return {**super().configuration(), "l1": {"size": "64MiB", "ttl": "1h"}, "origins": {"web": {"http": f"http://{HOST}:{self.origin.port}"}},
                "routes": [{"name": "s", "key": "s:{id}", "origin": "web", "load": "GET /s/{id}", "cache_control": "ignore", "ttl": "1s",
                            "stale_while_revalidate": "1h", "timeout": "1h"}]}

    def fill(self):
        self.get(self.path)
        time.sleep(1.2)
        os.kill(self.origin.pid, signal.SIGSTOP)
        self.get(self.path)

    def stop(self):
        os.kill(self.origin.pid, signal.SIGCONT)
        super().stop()
