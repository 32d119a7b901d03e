"""A peer system in a process of its own: started, asked, and ended with everything that it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from .processes import Usage, descendants, read_usage

PROGRAM = Path(__file__).with_name("peer_program.py")
START_TIMEOUT_S = 120.0
WORK_TIMEOUT_S = 600.0
END_PATIENCE_S = 20.0
LINE_BYTES_MAX = 1 << 20


class PeerFailed(Exception):
    """The peer system did not start or did not do its work. The text says which, in one line."""


class PeerProcess:
    """Use `running_peer`."""

    def __init__(self, system: str, python: Path, log: Path) -> None:
        self.system = system
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [os.fspath(python), "-I", os.fspath(PROGRAM), system],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.version = ""

    async def start(self) -> None:
        """Returns when its workers have run something. Raises PeerFailed."""
        self.version = (await self._read(START_TIMEOUT_S))["version"]

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises PeerFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("ended") from None
        return await self._read(WORK_TIMEOUT_S)

    def usage(self) -> Usage:
        """Of all its processes. Raises PeerFailed."""
        try:
            return read_usage(self.pid)
        except ProcessLookupError:
            raise self._failed("ended") from None

    async def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        handle, line = self._process.stdout.fileno(), b""
        with trio.move_on_after(timeout_s) as scope:
            while not line.endswith(b"\n"):
                await trio.lowlevel.wait_readable(handle)
                part = os.read(handle, 65_536)
                line += part
                if not part or len(line) > LINE_BYTES_MAX:
                    raise self._failed("ended" if not part else "answered with too much")
        if scope.cancelled_caught:
            raise self._failed(f"did not answer within {timeout_s:g} s")
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._failed("answered with something else than JSON") from None
        return found

    def _failed(self, what: str) -> PeerFailed:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return PeerFailed(f"{self.system} {what}{': ' + lines[-1].strip()[:200] if lines else ''}")

    async def end(self) -> None:
        """It closes its cluster when its input ends; what is left of it then is killed."""
        handles = _handles([self.pid, *descendants(self.pid)])
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass
            with trio.move_on_after(END_PATIENCE_S):
                for handle in handles:
                    await trio.lowlevel.wait_readable(handle)
            for handle in handles:
                if not select.select([handle], [], [], 0)[0]:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            self._process.stdout.close()
            self._process.wait()
        finally:
            for handle in handles:
                os.close(handle)


@asynccontextmanager
async def running_peer(system: str, python: Path, folder: Path) -> AsyncIterator[PeerProcess]:
    """The system for the length of a block. Raises PeerFailed, OSError."""
    peer = PeerProcess(system, python, folder / f"{system}.log")
    try:
        await peer.start()
        yield peer
    finally:
        with trio.CancelScope(shield=True):
            await peer.end()


def _handles(pids: list[int]) -> list[int]:
    """Handles on processes, which a reused id cannot fool."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return handles
