"""A real HTTP upstream that does what the test says, also what no upstream should."""
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .wire import eventually


@dataclass
class Reply:
    body: bytes | str = b"{}"
    status: int = 200
    headers: dict = field(default_factory=dict)
    delay: float = 0.0                      # seconds before the first byte
    gate: threading.Event | None = None     # waits for it before the first byte
    raw: bytes | None = None                # these bytes instead of an HTTP answer, then the connection is closed
    hang_up: bool = False                   # closes after the answer without having announced it


@dataclass
class Seen:
    method: str
    target: str
    headers: dict  # names in lower case
    at: float
    body: bytes = b""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass  # the daemon may close early: that is no news


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        self.server.upstream.connections += 1
        super().setup()

    def do_GET(self):
        upstream = self.server.upstream
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = upstream._begin(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, time.monotonic(), body))
        try:
            if reply.gate is not None:
                reply.gate.wait(30)
            if reply.delay:
                upstream.stopping.wait(reply.delay)
        finally:
            upstream._end()  # before the answer: the next request may follow it at once
        self._send(reply)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _send(self, reply):
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            self.close_connection = True
            return
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        lines = [f"HTTP/1.1 {reply.status} Whatever"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        names = {name.lower() for name in reply.headers}
        if "content-type" not in names and reply.status != 304:
            lines.append("Content-Type: application/json")
        if reply.status != 304:
            lines.append(f"Content-Length: {len(body)}")
        self.wfile.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body if reply.status != 304 else b""))
        if reply.hang_up:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Upstream:
    def __init__(self, tls=None):
        """`tls`: an ssl.SSLContext to serve https with."""
        self.requests = []
        self.running = 0
        self.running_max = 0
        self.connections = 0
        self.stopping = threading.Event()
        self._replies = {}
        self._gates = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.upstream = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls is not None else 'http'}://{self.authority}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def on(self, target, *replies):
        """What GETs of the target are answered, one after the other; the last goes on for ever. Unknown targets get 404."""
        with self._lock:
            self._replies[target] = list(replies)
            self._gates += [r.gate for r in replies if r.gate is not None]

    def count(self, target=None):
        with self._lock:
            return len([r for r in self.requests if target is None or r.target == target])

    def wait_for(self, target, count=1):
        """Until so many requests for the target have arrived."""
        eventually(lambda: self.count(target) >= count)

    def stop(self):
        self.stopping.set()
        for gate in self._gates:
            gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _begin(self, seen):
        with self._lock:
            self.requests.append(seen)
            self.running += 1
            self.running_max = max(self.running_max, self.running)
            replies = self._replies.get(seen.target) or self._replies.get("*")
            if not replies:
                return Reply(status=404)
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def _end(self):
        with self._lock:
            self.running -= 1
