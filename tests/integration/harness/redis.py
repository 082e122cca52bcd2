"""A private redis-server, and a client of twenty lines to look at what is in it."""
import signal
import socket
import subprocess
import time

from .ports import free_port


class RedisError(Exception):
    pass


class RedisClient:
    def __init__(self, port, db=0):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")
        if db:
            self("SELECT", db)

    def __call__(self, *args):
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self._reply()

    def pushed(self):
        """The next message of a subscribed client."""
        return self._reply()

    def close(self):
        self._file.close()
        self._socket.close()

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]


class RedisServer:
    """A redis-server. It writes to disk only when told SAVE, and reads that when started again. May be killed, stalled, and started on the same port."""

    def __init__(self, directory, *options):
        self.directory = directory
        self._options = options
        self.port = free_port()
        self.socket_path = f"{directory}/redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = None
        self._clients = []

    def start(self, *more):
        log = open(f"{self.directory}/redis.log", "ab")
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket_path,
             "--save", "", "--appendonly", "no", "--dir", self.directory, "--daemonize", "no", *self._options, *more],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                client = RedisClient(self.port)
                client("PING")
                client.close()
                return self
            except (OSError, EOFError, RedisError):
                assert self._process.poll() is None and time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.01)

    def client(self, db=0):
        client = RedisClient(self.port, db)
        self._clients.append(client)
        return client

    def kill(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stall(self):
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)

    def stop(self):
        for client in self._clients:
            client.close()
        self.kill()
