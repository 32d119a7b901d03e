"""A process of its own that turns the heat off when its node's control loop falls silent.

It knows nothing of the mesh and imports nothing of it: one pipe from the node, one byte each control period. Silent for
longer than the limit, the node is taken to hang: every process below it is stopped, and the safe values are written
into the actuators' files and devices. When the node beats again, processes go on and files get back what they had, but
for those that it has written itself meanwhile; a device is told anew by the node. A node that dies leaves the safe
values behind, and what was there before in its state folder, for its next life; its workers end with it. One that
leaves in order says so before.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time

LEAVING = b"q"
BEAT = b"."
READ_BYTES = 4096
VALUE_BYTES_MAX = 4096
DEVICE_TIMEOUT_S = 2.0
# A node that died tells nobody any more: its devices are tried so often, this far apart.
LAST_TRIES, LAST_PAUSE_S = 5, 2.0

Safe = list[tuple[str, str, bool]]


def watch(pipe: int, node: int, limit_s: float, safe: Safe) -> None:
    """Until the pipe ends. safe: where, what, and whether that is a device: "HOST:PORT" and a Modbus request in hex."""
    tripped: _Tripped | None = None
    while True:
        ready, _, _ = select.select([pipe], [], [], limit_s)
        if not ready:
            if tripped is None:
                tripped = _Tripped(node, safe)
            tripped.stop()
            tripped.tell_devices()
            continue
        told = os.read(pipe, READ_BYTES)
        if told.endswith(LEAVING):
            if tripped is not None:
                # It only took long to let go of its devices; its files may be put back already.
                tripped.undo()
            return
        if not told:
            if tripped is None:
                tripped = _Tripped(node, safe)
            for _ in range(LAST_TRIES):
                tripped.tell_devices()
                if not tripped.untold:
                    break
                time.sleep(LAST_PAUSE_S)
            return
        if tripped is not None:
            tripped.undo()
            tripped = None


class _Tripped:
    """What was done, so that it can be undone. untold: devices that did not answer yet, and their requests."""

    def __init__(self, node: int, safe: Safe) -> None:
        self._node = node
        self._stopped: dict[int, None] = {}
        self._before = [(path, _read(path)) for path, _, device in safe if not device]
        self.untold = [(where, text) for where, text, device in safe if device]
        for path, text, device in safe:
            if not device:
                _write(path, text)
        # As the kernel tells it, which may be rounded.
        self._wrote = {path: _read(path) for path, _ in self._before}

    def tell_devices(self) -> None:
        """Those that did not hear yet; each costs some seconds at most."""
        self.untold = [(where, text) for where, text in self.untold if not _ask(where, text)]

    def stop(self) -> None:
        """Also those that were begun since the last time."""
        for pid in descendants(self._node, os.getpid()):
            if pid not in self._stopped and _signal(pid, signal.SIGSTOP):
                self._stopped[pid] = None

    def undo(self) -> None:
        for path, text in self._before:
            if text is not None and _read(path) == self._wrote[path]:
                _write(path, text)
        alive = set(descendants(self._node, os.getpid()))
        for pid in self._stopped:
            if pid in alive:
                _signal(pid, signal.SIGCONT)


def descendants(root: int, without: int) -> list[int]:
    """Every process below one, in order of depth; neither itself nor the one left out."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(int(name))
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found, level = [], [root]
    while level:
        level = [child for parent in level for child in sorted(children.get(parent, [])) if child != without]
        found += level
    return found


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(VALUE_BYTES_MAX)
    except (OSError, ValueError):
        return None


def _write(path: str, text: str) -> None:
    # Nobody is there to be told; the other files have to be written all the same.
    with contextlib.suppress(OSError), open(path, "r+", encoding="ascii") as file:
        file.truncate(0)
        file.write(text)


def _ask(where: str, request: str) -> bool:
    """Whether a Modbus device did as it was asked: its answer begins as the request does, without an error's mark."""
    host, _, port = where.rpartition(":")
    sent = bytes.fromhex(request)
    try:
        with socket.create_connection((host, int(port)), timeout=DEVICE_TIMEOUT_S) as connection:
            connection.sendall(sent)
            answer = b""
            while len(answer) < 8:
                part = connection.recv(260)
                if not part:
                    return False
                answer += part
    except (OSError, ValueError):
        return False
    # Transaction and protocol, then after the length unit and function.
    return answer[:4] == sent[:4] and answer[6:8] == sent[6:8]


def main() -> None:
    """Arguments: the node's process id, the limit in seconds, and the safe values as JSON."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    safe = [(str(where), str(text), bool(device)) for where, text, device in json.loads(sys.argv[3])]
    watch(sys.stdin.fileno(), int(sys.argv[1]), float(sys.argv[2]), safe)


if __name__ == "__main__":
    main()
