"""Networks and disks of a run's own, made in namespaces that end with the process that holds them.

Needs root, `unshare` and `nsenter` (util-linux), and for networks `ip` (iproute2). Nothing of the machine's own network
or mounts is touched; the kernel removes all of it when the holders end, and these end when their standard input does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ..errors import TestnetError
from ..process import inside

_PREFIX = "10.86.0"
_CLIENT_HOST = f"{_PREFIX}.254"
READY_S = 10.0


def why_no_networks() -> str:
    """Why networks cannot be made here; empty if they can."""
    return _missing("unshare", "nsenter", "ip")


def why_no_disks() -> str:
    return _missing("unshare", "mount")


def _missing(*programs: str) -> str:
    if os.geteuid() != 0:
        return "it needs root"
    absent = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(absent)} is not installed" if absent else ""


@asynccontextmanager
async def _holder(kind: str, script: str, *arguments: str) -> AsyncIterator[int]:
    """The process id of a holder of a namespace, once the script in it is through. kind: "net" or "mount"."""
    whole = f"set -e; {script}; echo ready; exec cat >/dev/null"
    command = ["unshare", f"--{kind}", "--", "sh", "-c", whole, "holder", *arguments]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        with trio.move_on_after(READY_S):
            if not await process.stdout.receive_some(64):
                said = (await process.stderr.receive_some(4096)).decode(errors="replace").strip()
                raise TestnetError(f"a namespace ({kind}) cannot be made: {said or 'no reason was given'}")
        yield process.pid
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()


class Networks:
    """A network for each node, and a bridge that joins them; ports of it can be moved to others.

    The customer lives beside the first bridge, and reaches who is there.
    """

    def __init__(self, hub: int, holders: Mapping[str, int]) -> None:
        self._hub = hub
        self._holders = holders
        self._ports = {name: f"port{number}" for number, name in enumerate(holders, start=1)}

    @property
    def client_namespace(self) -> str:
        return f"--net=/proc/{self._hub}/ns/net"

    def namespace(self, name: str) -> str:
        return f"--net=/proc/{self._holders[name]}/ns/net"

    def host(self, name: str) -> str:
        return f"{_PREFIX}.{list(self._holders).index(name) + 1}"

    async def build(self) -> None:
        """Raises TestnetError."""
        lines = ["link set lo up", "link add bridge0 type bridge", f"addr add {_CLIENT_HOST}/24 dev bridge0"]
        lines += ["link set bridge0 up", "link add bridge1 type bridge", "link set bridge1 up"]
        for name, port in self._ports.items():
            lines.append(f"link add {port} type veth peer name eth0 netns {self._holders[name]}")
            lines += [f"link set {port} master bridge0", f"link set {port} up"]
        await _ip(self.client_namespace, lines)
        for name in self._holders:
            own = ["link set lo up", f"addr add {self.host(name)}/24 dev eth0", "link set eth0 up"]
            await _ip(self.namespace(name), own)

    async def cut(self, names: Sequence[str]) -> None:
        """These can talk to each other, and to nobody else: whatever is on its way between is lost, without a word."""
        await _ip(self.client_namespace, [f"link set {self._ports[name]} master bridge1" for name in names])

    async def pull(self, name: str) -> None:
        """Pull a node's plug."""
        await _ip(self.client_namespace, [f"link set {self._ports[name]} down"])

    async def heal(self) -> None:
        """All are joined again."""
        lines = [f"link set {port} {change}" for port in self._ports.values() for change in ("master bridge0", "up")]
        await _ip(self.client_namespace, lines)


@asynccontextmanager
async def networks(names: Sequence[str]) -> AsyncIterator[Networks]:
    """Raises TestnetError."""
    async with _holder("net", "true") as hub:
        holders: dict[str, int] = {}
        async with _all_holders(names, holders):
            made = Networks(hub, holders)
            await made.build()
            yield made


@asynccontextmanager
async def _all_holders(names: Sequence[str], holders: dict[str, int]) -> AsyncIterator[None]:
    if len(holders) == len(names):
        yield
        return
    async with _holder("net", "true") as pid:
        holders[names[len(holders)]] = pid
        async with _all_holders(names, holders):
            yield


class SmallDisk:
    """A file system of its own over one folder, for who lives in the namespace. state: the folder, seen from here."""

    def __init__(self, holder: int, folder: Path) -> None:
        self.state = Path(f"/proc/{holder}/root{folder}")
        self.namespace = f"--mount=/proc/{holder}/ns/mnt"

    @property
    def _filler(self) -> Path:
        return self.state / "filler"

    def fill(self) -> int:
        """Take all that is free. Returns how many bytes that was."""
        taken = 0
        with self._filler.open("wb") as filler:
            for step in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(filler.fileno(), taken, step)
                        taken += step
                except OSError:
                    continue
        return taken

    def free(self) -> None:
        self._filler.unlink()


@asynccontextmanager
async def small_disk(folder: Path, size_mb: int) -> AsyncIterator[SmallDisk]:
    """Over an existing folder, whose content it has too. Raises TestnetError."""
    place = folder.absolute()
    script = 'mount -t tmpfs -o "size=$1m,mode=700" hearth "$2"'
    async with _holder("mount", script, str(size_mb), os.fspath(place)) as holder:
        disk = SmallDisk(holder, place)
        shutil.copytree(place, disk.state, dirs_exist_ok=True)
        yield disk


async def _ip(namespace: str, lines: Sequence[str]) -> None:
    """Commands of `ip`, in one go. Raises TestnetError."""
    command = inside(namespace, ["ip", "-batch", "-"])
    batch = "".join(f"{line}\n" for line in lines).encode()
    done = await trio.run_process(command, stdin=batch, capture_stderr=True, capture_stdout=True, check=False)
    if done.returncode:
        raise TestnetError(f"the network cannot be made: {done.stderr.decode(errors='replace').strip()}")
