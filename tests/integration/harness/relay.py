"""Between the daemon and a server: what the server says is passed on in pieces of every size."""
import contextlib
import random
import socket
import threading


class Relay:
    def __init__(self, port, seed=1):
        self._target, self._random = port, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server.sendall), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, lambda data, to=client: self._cut(data, to)), daemon=True).start()

    @staticmethod
    def _pass(source, give):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                give(data)

    def _cut(self, data, to):
        while data:
            size = self._random.choice([1, 2, 3, 7, 30, 500, 5000, 1 << 16])
            to.sendall(data[:size])
            data = data[size:]

    def close(self):
        for wire in self._open:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()
