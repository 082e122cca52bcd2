"""The daemon under test: written configuration in, running process and its log out."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.parse

from .ports import free_port
from .wire import Wire, call

ROOT = pathlib.Path(__file__).resolve().parents[3]
SLOW = "ASIDECAR_SLOW" in os.environ
BINARY = os.environ.get("ASIDECAR_BIN") or str(ROOT / "build/release/asidecar")


def run_cli(*args, env=None, timeout=20):
    """A command that ends by itself."""
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})


class Daemon:
    """`asidecar serve` with the data API on a Unix socket and on a TCP port, the admin API on a Unix socket.

    The configuration is that of the contract; `listen` is merged into what the harness needs.
    """

    def __init__(self, directory, *, listen=None, defaults=None, env=None, **config):
        # Socket paths have at most 107 bytes, so not below pytest's long names.
        self.directory = tempfile.mkdtemp(prefix="d-", dir=directory)
        self.file = f"{self.directory}/asidecar.yaml"
        self.log_file = f"{self.directory}/log"
        self.data = f"{self.directory}/data.sock"
        self.admin_address = f"{self.directory}/admin.sock"
        self.tcp = ("127.0.0.1", free_port())
        self.env = env or {}
        self._listen = {"data": [f"unix:{self.data}", f"127.0.0.1:{self.tcp[1]}"], "admin": f"unix:{self.admin_address}", **(listen or {})}
        self._defaults = {"early_refresh_beta": 0, **(defaults or {})}
        self._process = None
        self.write_config(**config)

    def write_config(self, **config):
        """JSON is YAML. Under a sanitizer the daemon is some ten times slower, and so is a loaded machine's Redis."""
        store = config.get("store")
        if store and SLOW:
            config["store"] = {"timeout": "2s", **store}
        document = {"listen": self._listen, "threads": 2, "defaults": self._defaults, **config}
        document = {key: value for key, value in document.items() if value is not None}
        pathlib.Path(self.file).write_text(json.dumps(document, indent=1, ensure_ascii=False))

    def start(self):
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen([BINARY, "serve", "-c", self.file], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env={**os.environ, **self.env}, cwd=self.directory)
        deadline = time.monotonic() + 20
        while not self._is_ready():
            assert self._process.poll() is None, f"the daemon ended with {self._process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"the daemon does not become ready:\n{self.log()}"
            time.sleep(0.005)
        return self

    def _is_ready(self):
        try:
            return self.admin("GET", "/readyz").status == 200
        except OSError:
            return False

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def signal(self, number):
        self._process.send_signal(number)

    def wait(self, within=15):
        """The exit code."""
        return self._process.wait(timeout=within)

    def stop(self):
        """A clean stop: SIGTERM, exit code 0. Nothing when it has ended already."""
        if self.running:
            self.signal(signal.SIGTERM)
            code = self.wait()
            assert code == 0, f"exit code {code} after SIGTERM"

    def kill(self):
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()

    def log(self):
        return pathlib.Path(self.log_file).read_text(errors="replace")

    # The two APIs.

    def request(self, method, target, body=None, headers=None, tcp=False):
        return call(self.tcp if tcp else self.data, method, target, body, headers)

    def admin(self, method, target, body=None, headers=None):
        return call(self.admin_address, method, target, body, headers)

    def key(self, method, key, body=None, headers=None):
        return self.request(method, "/v1/keys/" + urllib.parse.quote(key, safe=":/"), body, headers)

    def get(self, key, **headers):
        """Header names as keyword arguments: cache_control="no-cache"."""
        return self.key("GET", key, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target, document):
        return self.request("POST", target, json.dumps(document), {"Content-Type": "application/json"})

    def wire(self, tcp=False, timeout=10):
        return Wire(self.tcp if tcp else self.data, timeout)
