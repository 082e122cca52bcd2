"""HTTP clients: `call` for ordinary requests, `Wire` for bytes of the test's own choosing."""
import http.client
import json
import re
import select
import socket
import time
from dataclasses import dataclass, field


@dataclass
class CacheStatus:
    """One RFC 9211 member, taken apart."""
    text: str
    hit: bool = False
    fwd: str = ""
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str = ""

    @classmethod
    def parse(cls, text):
        name, *params = text.split("; ")
        assert name == "asidecar", f"Cache-Status names another cache: {text}"
        out = cls(text)
        for param in params:
            key, _, value = param.partition("=")
            assert key in ("hit", "fwd", "stored", "collapsed", "ttl", "detail"), f"unexpected in Cache-Status: {text}"
            setattr(out, key, int(value) if key == "ttl" else value if value else True)
        assert out.hit != bool(out.fwd), f"neither or both of hit and fwd: {text}"
        return out


@dataclass
class Answer:
    status: int
    headers: dict = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    def json(self):
        return json.loads(self.body)

    @property
    def cache(self):
        return CacheStatus.parse(self.headers["cache-status"])

    @property
    def max_age(self):
        return int(re.fullmatch(r"max-age=(\d+)", self.headers["cache-control"]).group(1))

    @property
    def slug(self):
        """The problem's type, after a check that the whole answer is well-formed problem+json."""
        assert self.headers["content-type"].split(";")[0] == "application/problem+json", self
        problem = self.json()
        assert problem["status"] == self.status, self
        assert problem["title"] and "detail" in problem, self
        prefix, _, slug = problem["type"].rpartition(":")
        assert prefix == "urn:asidecar", self
        return slug


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(address, method, target, body=None, headers=None, timeout=20):
    """One request on a connection of its own. `address` is a Unix socket's path or a (host, port)."""
    connection = (_UnixConnection(address, timeout) if isinstance(address, str)
                  else http.client.HTTPConnection(*address, timeout=timeout))
    try:
        connection.request(method, target, body=body, headers=headers or {})
        response = connection.getresponse()
        content = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
    finally:
        connection.close()


class Wire:
    """A connection on which the test writes the bytes."""

    def __init__(self, address, timeout=10):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def fileno(self):
        return self.socket.fileno()

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def _more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(f"closed after {self._buffer!r}")
        self._buffer += piece

    def _take(self, size):
        while len(self._buffer) < size:
            self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def read(self, head_only=False):
        """The next answer. `head_only` for answers to HEAD."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head = self._take(self._buffer.index(b"\r\n\r\n") + 4).decode("latin-1")
        status_line, *lines = head[:-4].split("\r\n")
        version, status = status_line.split(" ")[:2]
        assert version in ("HTTP/1.1", "HTTP/1.0"), status_line
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = Answer(int(status), headers)
        if not head_only and answer.status >= 200 and answer.status not in (204, 304):
            assert "transfer-encoding" not in headers, "answers of the daemon have a Content-Length"
            answer.body = self._take(int(headers["content-length"]))
        return answer

    def ask(self, data, head_only=False):
        return self.send(data).read(head_only)

    def is_closed(self, within=3.0):
        """True when the daemon closes, and sends nothing more before it does."""
        if self._buffer:
            return False
        self.socket.settimeout(within)
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def get_text(key, *lines):
    """The bytes of a GET for a key that needs no encoding."""
    return "".join([f"GET /v1/keys/{key} HTTP/1.1\r\nHost: localhost\r\n", *(line + "\r\n" for line in lines), "\r\n"])


def fire(addresses, keys, timeout=30):
    """One GET per key, all at the same time, dealt over the addresses in turn. The answers in the order of the keys."""
    wires = []
    try:
        for i, key in enumerate(keys):
            wires.append(Wire(addresses[i % len(addresses)], timeout))
        for wire, key in zip(wires, keys):
            wire.send(get_text(key))
        return [wire.read() for wire in wires]
    finally:
        for wire in wires:
            wire.close()


def eventually(condition, within=5.0, every=0.01):
    """Waits until the condition holds; fails when it does not in time. Returns what it returned."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(every)


def readable(wire, within):
    return bool(select.select([wire], [], [], within)[0])
