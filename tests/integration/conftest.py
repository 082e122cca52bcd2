"""Fixtures of the black-box tests. See harness/ for what they are made of.

Every server is private: own directory, own port, stopped by its pid. Tests that share a server use a prefix of their own.
"""
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import uuid

import pytest

from harness.daemon import BINARY, Daemon
from harness.postgres import PostgresServer
from harness.redis import RedisServer
from harness.upstream import Upstream

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes ten seconds or more because a deadline of the contract does")
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"{BINARY} is not there: build it first, or set ASIDECAR_BIN", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed_in_call = outcome.get_result().failed


@pytest.fixture(scope="session")
def work_directory():
    path = tempfile.mkdtemp(prefix="asidecar-it-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis(work_directory):
    """The Redis that tests share."""
    server = RedisServer(tempfile.mkdtemp(prefix="r-", dir=work_directory)).start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(work_directory):
    """A Redis that the test may kill, stall and start again."""
    server = RedisServer(tempfile.mkdtemp(prefix="r-", dir=work_directory)).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates(work_directory):
    """A CA, and three certificates of its: for 127.0.0.1, for another name, and one that has run out."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tls-", dir=work_directory))

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, cwd=directory, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", 30, "-subj", "/CN=Test CA")
    (directory / "index").touch()
    (directory / "ca.conf").write_text("[ca]\ndefault_ca=x\n[x]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
                                       "copy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n")
    (directory / "serial").write_text("01")
    for name, alternative, ends in [("good", "IP:127.0.0.1", "20990101000000Z"), ("other", "DNS:elsewhere.example", "20990101000000Z"),
                                    ("old", "IP:127.0.0.1", "20200102000000Z")]:
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName={alternative}")
        openssl("ca", "-batch", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", f"{name}.csr", "-out", f"{name}.pem",
                "-startdate", "20200101000000Z", "-enddate", ends)
    return directory


@pytest.fixture(scope="session")
def postgres():
    server = PostgresServer()
    try:
        yield server.create()
    finally:
        server.remove()


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def prefix():
    """A Redis prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def store(redis, prefix):
    """A store block on the shared Redis."""
    return {"redis": redis.url, "prefix": prefix}


class _Daemons:
    """Makes daemons and ends them all. On a failed test their logs are printed."""

    def __init__(self, directory):
        self._directory = directory
        self._all = []

    def make(self, **config):
        """A configured daemon that does not run yet."""
        daemon = Daemon(self._directory, **config)
        self._all.append(daemon)
        return daemon

    def __call__(self, **config):
        return self.make(**config).start()

    def finish(self, failed):
        problems = []
        for daemon in self._all:
            try:
                daemon.stop()
            except Exception as problem:  # every daemon must be ended, whatever one of them does
                daemon.kill()
                problems.append(f"{daemon.file}: {problem}")
            if (failed or problems) and os.path.exists(daemon.log_file):
                print(f"---- log of {daemon.file}\n{daemon.log()}")
        assert not problems, problems


@pytest.fixture
def start_daemon(request, work_directory):
    """start_daemon(routes=..., origins=..., store=...) is a running daemon; it is stopped, with exit code 0, after the test."""
    daemons = _Daemons(work_directory)
    yield daemons
    daemons.finish(getattr(request.node, "failed_in_call", True))


@pytest.fixture(scope="module")
def start_module_daemon(request, work_directory):
    """The same for daemons that a whole module shares."""
    daemons = _Daemons(work_directory)
    yield daemons
    daemons.finish(request.session.testsfailed > 0)
