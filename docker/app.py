"""The tiny app of compose.yaml: GET /user/N asks the sidecar for user:N and passes the answer on, with its Cache-Status."""
import http.client
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

SIDECAR = "/run/asidecar/data.sock"


class Sidecar(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SIDECAR)


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        _, _, number = self.path.partition("/user/")
        connection = Sidecar("localhost", timeout=10)
        try:
            connection.request("GET", "/v1/keys/user:" + quote(number, safe=""))
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
            headers = {name: answer.getheader(name) for name in ("Content-Type", "Cache-Status") if answer.getheader(name)}
        except OSError as problem:
            status, body, headers = 502, f"no sidecar: {problem}\n".encode(), {"Content-Type": "text/plain"}
        finally:
            connection.close()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8080), App).serve_forever()
