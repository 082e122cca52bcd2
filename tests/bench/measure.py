"""Measuring: CPU time from the kernel's accounting, load from wrk, idle cost from /proc and strace."""
import http.client
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import time

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def tree(pid):
    """A process and all that it has started."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid):
    """Time on a CPU of all threads of the process and its children: of the living in ns (schedstat's first field), of those that have ended
    in the clock's ticks (cutime and cstime of proc(5))."""
    while True:
        try:
            processes = tree(pid)
            living = sum(int(file.read_text().split()[0]) for p in processes for file in pathlib.Path(f"/proc/{p}/task").glob("*/schedstat"))
            ended = sum(sum(map(int, pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()[13:15])) for p in processes)
            return living / 1e9 + ended / os.sysconf("SC_CLK_TCK")
        except (FileNotFoundError, ProcessLookupError):
            pass  # one has just ended: it is counted otherwise now


def load(server, connections, seconds, core, script=None):
    """One run of wrk; figures of the server's processes, and the CPU time of the store it asks."""
    before = cpu_seconds(server.pid)
    store_before = cpu_seconds(server.store.pid) if server.store else 0
    headers = [word for header in server.headers for word in ("-H", header)]
    scripted = ["-s", str(script)] if script else []
    done = subprocess.run(["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *headers, *scripted, server.url],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{server.name}: wrk failed: {done.stdout[-200:]}{done.stderr[-200:]} {server.log_file.read_text()[-300:]}")
    done = done.stdout
    used = cpu_seconds(server.pid) - before
    store_used = cpu_seconds(server.store.pid) - store_before if server.store else 0
    requests = int(re.search(r"(\d+) requests in", done).group(1))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done)
    if bad:
        raise RuntimeError(f"{server.name}: {bad.group(0)}")
    latency = {p: float(v) * UNITS[u] * 1e6 for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)\b", done)}
    return {"cpu_us": used / requests * 1e6, "store_cpu_us": store_used / requests * 1e6, "requests_per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1)),
            "p50_us": latency["50"], "p99_us": latency["99"]}


def medians(runs):
    return {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


def idle_connections(host, port, count):
    """Connections that have asked once and say nothing more."""
    held = []
    for _ in range(count):
        connection = socket.create_connection((host, port))
        connection.sendall(b"GET /v1/keys/none:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(4096)
        held.append(connection)
    time.sleep(1)
    return held


def system_calls(pid, seconds):
    """System calls of an idle process, counted by strace."""
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    tracer.send_signal(signal.SIGINT)
    lines = tracer.communicate()[1].splitlines()
    # What was under way when strace came and went is no call of its own.
    calls = [line for line in lines if "(" in line and not line.startswith("strace:") and "resumed>" not in line]
    return len([line for line in calls if not re.search(r"<unfinished|<detached", line)])


class _Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=1)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def seconds_until_ready(command, admin_socket):
    """From fork to the first 200 of /readyz."""
    pathlib.Path(admin_socket).unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while time.monotonic() - began < 10:
            try:
                connection = _Local(admin_socket)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.0005)
        raise RuntimeError("not ready in 10 s")
    finally:
        process.terminate()
        process.wait()
