"""How fast two processes on this machine talk over a secured connection, and what a quiet host costs.

The far end is this module run as a program: it serves on loopback, prints one line of JSON and ends with its stdin.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from libp2p.abc import INetStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from ..transport.host import HostConfig, SecureHost, create_host
from ..transport.muxed_stream import YamuxStream

if TYPE_CHECKING:
    from trio_typing import TaskStatus

ECHO_PROTOCOL = "/hearth/bench/echo/1"
SINK_PROTOCOL = "/hearth/bench/sink/1"
REQUEST_BYTES = 200
PIPELINE_DEPTH = 64
BULK_CHUNK_BYTES = 1 << 20
START_S = 20.0
LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Far:
    """The other process: where it listens, who it is."""

    pid: int
    peer_id: ID
    address: Multiaddr


@asynccontextmanager
async def far_process(module: str = __name__) -> AsyncIterator[Far]:
    """A second process that serves the benchmark's protocols. Raises OSError if it does not start."""
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            lambda task_status=trio.TASK_STATUS_IGNORED: trio.run_process(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
                task_status=task_status,
            )
        )
        assert process.stdout is not None and process.stdin is not None
        try:
            line = b""
            with trio.move_on_after(START_S):
                while not line.endswith(b"\n"):
                    piece = await process.stdout.receive_some(4096)
                    if not piece:
                        break
                    line += piece
            if not line.endswith(b"\n"):
                raise OSError("the far process of the benchmark did not start")
            said = json.loads(line)
            yield Far(process.pid, ID.from_string(said["peer"]), Multiaddr(said["address"]))
        finally:
            process.terminate()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected_pair() -> AsyncIterator[tuple[SecureHost, SwarmConn, Far]]:
    """A host in this process, connected to one in another."""
    async with far_process() as far:
        host = create_host(secrets.token_bytes(32), HostConfig())
        async with host.run():
            yield host, await host.dial(far.peer_id, [far.address], START_S), far


async def measure_requests(duration_s: float = 1.0) -> dict[str, float]:
    """Echoes of 200 bytes on one long-lived stream: in turn (with quantiles), then 64 in flight, then a stream each."""
    async with connected_pair() as (host, connection, _):
        stream = muxed(await host.open_stream(connection, ECHO_PROTOCOL))
        await _echo_for(stream, duration_s / 5)  # warm up
        times_us = sorted(await _echo_for(stream, duration_s))
        pipelined = await _pipeline_for(stream, duration_s)
        await stream.reset()
        opened = await _count_for(duration_s / 2, lambda: _echo_on_new_stream(host, connection))
    return {
        "requests_per_s": len(times_us) / sum(times_us) * 1e6,
        "request_us_p50": times_us[len(times_us) // 2],
        "request_us_p99": times_us[len(times_us) * 99 // 100],
        "requests_pipelined_per_s": pipelined,
        "requests_on_new_streams_per_s": opened,
    }


async def measure_bulk(size_bytes: int = 64 << 20) -> dict[str, float]:
    """One stream, one way, until the far end says that it has read all. MB are 10^6 bytes."""
    async with connected_pair() as (host, connection, _):
        await _send_bulk(muxed(await host.open_stream(connection, SINK_PROTOCOL)), 4 << 20)  # warm up
        stream = muxed(await host.open_stream(connection, SINK_PROTOCOL))
        start = time.perf_counter()
        await _send_bulk(stream, size_bytes)
        return {"bulk_mb_per_s": size_bytes / (time.perf_counter() - start) / 1e6}


async def measure_idle(duration_s: float = 3.0, connections: int = 8) -> dict[str, float]:
    """Resident memory and CPU of a process that only holds connections. Linux only: it reads /proc."""
    async with far_process() as far:
        hosts = [create_host(secrets.token_bytes(32), HostConfig()) for _ in range(connections)]
        async with trio.open_nursery() as nursery:
            alone = _resident_bytes(far.pid)
            for host in hosts:
                await nursery.start(_hold, host, far)
            await trio.sleep(0.2)  # the handshakes' leftovers are not idleness
            before, start = _cpu_s(far.pid), time.perf_counter()
            await trio.sleep(duration_s)
            cpu, resident = _cpu_s(far.pid) - before, _resident_bytes(far.pid)
            nursery.cancel_scope.cancel()
        return {
            "host_rss_mb": alone / 1e6,
            "connection_rss_kb": (resident - alone) / connections / 1e3,
            "host_cpu_idle_percent": 100 * cpu / (time.perf_counter() - start),
        }


def muxed(stream: INetStream) -> YamuxStream:
    """The muxer's stream below py-libp2p's wrapper."""
    below = stream.muxed_stream  # type: ignore[attr-defined]
    assert isinstance(below, YamuxStream)
    return below


async def _hold(host: SecureHost, far: Far, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with host.run():
        await host.dial(far.peer_id, [far.address], START_S)
        task_status.started()
        await trio.sleep_forever()


async def _echo_for(stream: YamuxStream, duration_s: float) -> list[float]:
    """Microseconds of each round trip."""
    request, times_us = bytes(REQUEST_BYTES), []
    end = time.perf_counter() + duration_s
    while (start := time.perf_counter()) < end:
        await stream.write(request)
        await _read_exactly(stream, REQUEST_BYTES)
        times_us.append((time.perf_counter() - start) * 1e6)
    return times_us


async def _pipeline_for(stream: YamuxStream, duration_s: float) -> float:
    request, sent, received = bytes(REQUEST_BYTES), 0, 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < duration_s:
        while sent - received < PIPELINE_DEPTH:
            await stream.write(request)
            sent += 1
        received_bytes = len(await stream.read(REQUEST_BYTES * PIPELINE_DEPTH))
        if received_bytes % REQUEST_BYTES:
            await _read_exactly(stream, REQUEST_BYTES - received_bytes % REQUEST_BYTES)
        received += -(-received_bytes // REQUEST_BYTES)
    await _read_exactly(stream, (sent - received) * REQUEST_BYTES)
    return received / elapsed


async def _echo_on_new_stream(host: SecureHost, connection: SwarmConn) -> None:
    stream = muxed(await host.open_stream(connection, ECHO_PROTOCOL))
    await stream.write(bytes(REQUEST_BYTES))
    await _read_exactly(stream, REQUEST_BYTES)
    await stream.reset()


async def _count_for(duration_s: float, once: Callable[[], object]) -> float:
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < duration_s:
        await once()  # type: ignore[misc]
        count += 1
    return count / elapsed


async def _send_bulk(stream: YamuxStream, size_bytes: int) -> None:
    chunk = bytes(BULK_CHUNK_BYTES)
    await stream.write(LENGTH.pack(size_bytes))
    for start in range(0, size_bytes, BULK_CHUNK_BYTES):
        await stream.write(chunk[: size_bytes - start])
    await _read_exactly(stream, 1)
    await stream.reset()


async def _read_exactly(stream: YamuxStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _echo(stream: INetStream) -> None:
    below = muxed(stream)
    while True:
        await below.write(await below.read())


async def _sink(stream: INetStream) -> None:
    below = muxed(stream)
    (left,) = LENGTH.unpack(await _read_exactly(below, LENGTH.size))
    while left:
        left -= len(await below.read())
    await below.write(b".")
    await below.close()


async def _serve() -> None:
    host = create_host(secrets.token_bytes(32), HostConfig(listen=("/ip4/127.0.0.1/tcp/0",)))
    host.set_stream_handler(ECHO_PROTOCOL, _echo)
    host.set_stream_handler(SINK_PROTOCOL, _sink)
    async with host.run(), trio.lowlevel.FdStream(os.dup(0)) as end:
        print(json.dumps({"peer": str(host.peer_id), "address": str(host.addresses()[0])}), flush=True)
        await end.receive_some(1)


if __name__ == "__main__":
    trio.run(_serve)
