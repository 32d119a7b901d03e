"""What a test network's folder knows of its nodes: names, peer ids, ports, processes. One JSON file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from .errors import TestnetError
from .ports import HOST
from .process import Process

FILE_BYTES_MAX = 1 << 20
_NOT_OURS = (errno.EACCES, errno.EPERM)


class NodeEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """pid 0: it was not started, or stopped in order.  port: where it listened last, 0 if it never did.

    host: its address.  namespace: which it lives in, as nsenter's option (`--net=/proc/PID/ns/net`); empty: this one.
    state: where its state folder is seen from here, if that is not in its own.  clock_offset_s: how far off it is.
    relay, hidden: as its room says.
    """

    peer_id: str
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    pid: Annotated[int, Meta(ge=0)] = 0
    started_ticks: int = 0
    boot: str = ""
    host: str = HOST
    namespace: str = ""
    state: str = ""
    clock_offset_s: float = 0.0
    relay: bool = False
    hidden: bool = False

    @property
    def process(self) -> Process | None:
        return Process(self.pid, self.started_ticks, self.boot) if self.pid else None

    def with_process(self, process: Process | None) -> NodeEntry:
        if process is None:
            return msgspec.structs.replace(self, pid=0, started_ticks=0, boot="")
        return msgspec.structs.replace(self, pid=process.pid, started_ticks=process.started_ticks, boot=process.boot)


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=1)]
    nodes: dict[str, NodeEntry]


class Registry:
    """The file is the only truth: several commands, and a running `up`, share it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "testnet.json"
        self._lock_path = folder / "testnet.lock"

    def exists(self) -> bool:
        """Raises TestnetError if that cannot be told."""
        try:
            self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise TestnetError(f"{self.path}: cannot be read: {error.strerror}") from error
        return True

    def nodes(self) -> dict[str, NodeEntry]:
        """Raises TestnetError."""
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
            return msgspec.json.decode(content, type=_Content).nodes
        except FileNotFoundError:
            raise TestnetError(f"{self.path.parent}: there is no test network; hearth testnet up makes one") from None
        except OSError as error:
            raise TestnetError(f"{self.path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # msgspec's own errors, and UnicodeDecodeError
            raise TestnetError(f"{self.path}: damaged: {error}; remove the folder by hand") from error

    def write(self, nodes: dict[str, NodeEntry]) -> None:
        """Raises TestnetError."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(_Content(1, nodes)), indent=1) + b"\n")
            fresh.replace(self.path)
        except OSError as error:
            raise TestnetError(f"{self.path}: cannot be written: {error.strerror}") from error

    def update(self, name: str, entry: NodeEntry) -> None:
        """Call it under `changing`."""
        self.write({**self.nodes(), name: entry})

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keeps other commands from starting or stopping nodes meanwhile. Raises TestnetError if one does, or if the
        network is another user's."""
        try:
            handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "; only who made the network can start and stop its nodes" if error.errno in _NOT_OURS else ""
            raise TestnetError(f"{self._lock_path}: {error.strerror}{hint}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TestnetError(
                    f"{self.path.parent}: another command is starting or stopping nodes there; wait for its end"
                ) from None
            yield
        finally:
            os.close(handle)
