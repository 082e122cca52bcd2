"""The servers that are measured. Each is started on free ports in a temporary directory and stopped by pid."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASIDECAR = os.environ.get("ASIDECAR_BIN", str(ROOT / "build/release/asidecar"))
HOST = "127.0.0.1"


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
    """A process pinned to one core. `path` is what the load generator asks for."""
    name = "?"
    path = "/"

    def __init__(self, directory, core, body_bytes):
        self.directory, self.core, self.body_bytes = pathlib.Path(directory), core, body_bytes
        self.port = free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.directory / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(["taskset", "-c", str(self.core), *self.command()], stdout=log, stderr=log, cwd=self.directory)
        wait_for_port(self.port)
        self.fill()
        return self

    def fill(self):
        """Puts into the cache what will be asked for."""

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=15)

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


class Asidecar(Server):
    path = "/v1/keys/s:1"

    def configuration(self):
        return {"listen": {"data": [f"{HOST}:{self.port}"], "admin": f"unix:{self.directory}/{self.name}.admin.sock"},
                "threads": 1, "routes": [{"name": "s", "key": "s:{id}", "put": True}], "log": {"level": "warn"}}

    def command(self):
        file = self.directory / f"{self.name}.yaml"
        file.write_text(json.dumps(self.configuration(), indent=1))
        return [ASIDECAR, "serve", "-c", str(file)]

    def fill(self):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        connection.request("PUT", self.path, b"x" * self.body_bytes, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise RuntimeError(f"{self.name}: PUT answered {answer.status}")
        connection.close()


class AsidecarRedis(Asidecar):
    """Every request checks Redis."""
    name = "asidecar-redis-tcp"

    def __init__(self, directory, core, body_bytes, redis):
        super().__init__(directory, core, body_bytes)
        self.redis = redis

    def configuration(self):
        return {**super().configuration(), "store": {"redis": f"redis://{HOST}:{self.redis.port}/0"}}


class AsidecarRedisUnix(AsidecarRedis):
    name = "asidecar-redis-unix"

    def configuration(self):
        return {**super().configuration(), "store": {"redis": f"redis+unix://{self.redis.socket_path}?db=0"}}


class AsidecarMemory(Asidecar):
    name = "asidecar-l1"

    def configuration(self):
        return {**super().configuration(), "l1": {"size": "64MiB"}}
