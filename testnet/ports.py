"""Ports that nobody else gets between choosing them and listening on them."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class ReservedPort:
    """A port of this machine, held until `release`, while one process may already listen on it.

    A socket that is bound and does not listen keeps the port from being handed out; with SO_REUSEADDR on both
    sides a listener may share it. So two test networks that start at once never meet.
    """

    def __init__(self, preferred: int = 0) -> None:
        """Raises OSError if no port is free."""
        self._socket: socket.socket | None = _bind(preferred) or _bind(0)
        if self._socket is None:
            raise OSError("no port is free")
        self.port: int = self._socket.getsockname()[1]

    def release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bind(port: int) -> socket.socket | None:
    """None if somebody listens on it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
    except OSError:
        found.close()
        return None
    return found
