"""Free TCP ports below the range that the kernel hands out by itself, so that nobody else takes them meanwhile."""
import random
import socket

_random = random.SystemRandom()


def free_port():
    for _ in range(1000):
        port = _random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")
