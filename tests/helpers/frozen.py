"""A balancer before a database that can freeze: its connections stay open, and nothing passes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from sqlalchemy.engine import make_url


class Balancer:
    """Forwards a port to the server of a database URL.

    Attributes:
        url: The database's, by way of the balancer.
    """

    def __init__(self, url: str) -> None:
        to = make_url(url)
        self._to = (to.host or "127.0.0.1", to.port or 0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = to.set(
            host="127.0.0.1", port=self._listening.getsockname()[1]
        ).render_as_string(hide_password=False)
        self._open, self._old = threading.Event(), threading.Event()
        self._sockets: list[socket.socket] = []
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self, *, only_old: bool = False) -> None:
        """From here on nothing passes; with `only_old` on the connections that there are."""
        self._open.clear()
        if only_old:
            self._old, self._open = self._open, threading.Event()
            self._open.set()

    def thaw(self) -> None:
        """Let pass what waits, in the old connections too."""
        self._open.set()
        self._old.set()

    def close(self) -> None:
        self.thaw()
        self._listening.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(self._to)
                self._sockets += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(
                        target=_pass, args=(*ends, self._open), daemon=True
                    ).start()


def _pass(one: socket.socket, other: socket.socket, is_open: threading.Event) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            is_open.wait()
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
