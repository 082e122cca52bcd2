"""A private master, its replicas, and Sentinels that watch them."""
import subprocess
import tempfile
import time

from .ports import free_port
from .redis import RedisClient, RedisServer
from .wire import eventually

MASTER = "mymaster"


class Sentinel:
    def __init__(self, directory, master_port, password=None):
        self.port, self._file = free_port(), f"{directory}/sentinel.conf"
        with open(self._file, "w") as file:  # Sentinel rewrites it
            file.write(f"port {self.port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n"
                       f"sentinel down-after-milliseconds {MASTER} 700\nsentinel failover-timeout {MASTER} 3000\n")
            if password:
                file.write(f"requirepass {password}\nsentinel sentinel-pass {password}\n")
        self._password, self._log = password, f"{directory}/sentinel.log"
        self.start()

    def start(self):
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(["redis-server", self._file, "--sentinel"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ask(self, *words):
        client = RedisClient(self.port)
        try:
            if self._password:
                client("AUTH", self._password)
            return client("SENTINEL", *words)
        finally:
            client.close()

    def master(self):
        flat = self.ask("MASTER", MASTER)
        return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2])}

    def stop(self):
        self._process.kill()
        self._process.wait()


class ReplicatedRedis:
    """A master, its replica, and three Sentinels that know of each other and of both."""

    def __init__(self, directory, password=None):
        self._directory, self._password = directory, password
        self.servers, self.sentinels = [], []

    def start(self):
        for _ in range(2):
            self.servers.append(RedisServer(self._own()).start())
        self.servers[1].client()("REPLICAOF", "127.0.0.1", self.servers[0].port)
        eventually(lambda: b"master_link_status:up" in self.servers[1].client()("INFO", "replication"), within=10)
        for _ in range(3):
            self.sentinels.append(Sentinel(self._own(), self.servers[0].port, self._password))
        eventually(lambda: all(self._complete(s) for s in self.sentinels), within=40)
        self.url = "redis-sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + f"/{MASTER}/0"
        return self

    def _own(self):
        return tempfile.mkdtemp(prefix="s-", dir=self._directory)

    @staticmethod
    def _complete(sentinel):
        try:
            state = sentinel.master()
        except OSError:
            return False
        return state["flags"] == "master" and int(state["num-slaves"]) >= 1 and int(state["num-other-sentinels"]) == 2

    @property
    def master(self):
        port = int(self.sentinels[0].ask("GET-MASTER-ADDR-BY-NAME", MASTER)[1])
        return next(s for s in self.servers if s.port == port)

    def fail_over(self):
        """By hand, with all alive. Ends when every Sentinel names the other server."""
        before = self.master
        began = time.monotonic()
        while True:
            try:
                self.sentinels[0].ask("FAILOVER", MASTER)
                break
            except Exception:  # -NOGOODSLAVE, until it has looked again
                assert time.monotonic() - began < 20
                time.sleep(0.2)
        eventually(lambda: all(int(s.master()["port"]) != before.port for s in self.sentinels), within=20)

    def stop(self):
        for one in self.sentinels + self.servers:
            one.stop()
