"""A private PostgreSQL 15 cluster with the tables the tests read."""
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg2

from .ports import free_port

BIN = "/usr/lib/postgresql/15/bin"

SAMPLE = r"""
CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text, city text);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.com', 'London'), (2, 'Alan', NULL, 'London'),
  (3, 'Gräce "the" O''Hopper\', 'grace@example.com', 'New York');
CREATE TABLE secrets (word text);
INSERT INTO secrets VALUES ('xyzzy-secret-word');
CREATE TABLE kinds (id int PRIMARY KEY, small smallint, big bigint, num numeric, real8 double precision, yes boolean, nothing text,
  at timestamptz, day date, doc jsonb, list int[], words text[], raw bytea, uid uuid, gap interval);
INSERT INTO kinds VALUES (1, -7, 9223372036854775807, 123456789.000000000123456789, 0.1, true, NULL, '2024-02-29 12:34:56.789+00',
  '1999-12-31', '{"a": [1, {"b": null}], "ü": "\u00e9"}', '{1,2,NULL}', '{"a b","c\"d"}', '\xdeadbeef', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  '1 day 02:03:04');
CREATE TABLE calls (name text NOT NULL);
-- Counts the call, waits, answers.
CREATE FUNCTION counted(who text, seconds float8) RETURNS TABLE (name text, waited float8) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  INSERT INTO calls VALUES (who);
  PERFORM pg_sleep(seconds);
  RETURN QUERY SELECT who, seconds;
END $$;
"""


class PostgresServer:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="asidecar-pg-")
        self.port = free_port()
        self.url = f"postgresql://app@127.0.0.1:{self.port}/postgres"
        self.socket_url = f"postgresql:///postgres?host={self.directory}&port={self.port}&user=app"
        self._data = f"{self.directory}/data"
        self._process = None
        self._connection = None
        # The server refuses to run as root.
        self._as = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            os.chmod(self.directory, 0o755)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def create(self):
        subprocess.run([f"{BIN}/initdb", "--no-sync", "-A", "trust", "-U", "app", "-E", "UTF8", "--locale=C.UTF-8", "-D", self._data],
                       check=True, stdout=subprocess.DEVNULL, cwd=self.directory, **self._as)
        self.start()
        self.run(SAMPLE)
        return self

    def start(self):
        with open(f"{self.directory}/log", "ab") as log:
            self._process = subprocess.Popen(
                [f"{BIN}/postgres", "-D", self._data, "-p", str(self.port), "-k", self.directory, "-h", "127.0.0.1", "-c", "fsync=off",
                 "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB", "-c", "max_connections=50"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, **self._as)
        deadline = time.monotonic() + 20
        while True:
            try:
                self._connection = psycopg2.connect(self.url)
                self._connection.autocommit = True
                return
            except psycopg2.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.02)

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        """Immediate shutdown, as in a crash."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)

    def stall(self):
        """Every process of the server stands still: connections are taken by the kernel, and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self):
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number):
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True).stdout.split()
        for pid in [self._process.pid, *map(int, children)]:
            os.kill(pid, number)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def pgbench(self, scale):
        """pgbench's tables, as `pgbench -i` makes them."""
        subprocess.run([f"{BIN}/pgbench", "-i", "-q", "-s", str(scale), self.url], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, sql, *params):
        """The rows of a statement, or None when it has none."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, *params):
        return self.run(sql, *params)[0][0]

    def calls(self, name):
        return self.value("SELECT count(*) FROM calls WHERE name = %s", name)
