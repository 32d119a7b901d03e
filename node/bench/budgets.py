"""What it costs to keep account of peers: the same work in two meshes by turns, one of which keeps none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..fair_queue import FairQueue
from ..intake import Intake, IntakeLimits
from ..limits import LimitMeter
from .street import running
from .unmetered import NoAccounts, OneLine
from .workloads import CLIENT, PARTS, TinyRound, run_tiny, warm_up

_PEERS = [bytes([number]) * 32 for number in range(8)]
_MESSAGE_BYTES = 200
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Budgets:
    """with_, without: the rounds of each mesh, in pairs.  message_us: of one small signed message, with and without."""

    with_: tuple[TinyRound, ...]
    without: tuple[TinyRound, ...]
    message_us: tuple[float, float]

    def ratios(self) -> tuple[float, ...]:
        """CPU time of the nodes for a task, with by without, pair by pair. The client keeps its accounts in both."""
        pairs = zip(self.with_, self.without, strict=True)
        return tuple(nodes_cpu_us(one) / nodes_cpu_us(other) for one, other in pairs)


def nodes_cpu_us(measured: TinyRound) -> float:
    return sum(spent_us for name, spent_us in measured.cpu_us.items() if name != CLIENT)


async def measure_budgets(folder: Path, rounds: int, tasks: int, progress: Callable[[str], None]) -> Budgets:
    """Raises UserError, ClientError."""
    measured: tuple[list[TinyRound], list[TinyRound]] = ([], [])
    async with running(folder, PARTS) as usual, running(folder, PARTS, unmetered=True) as bare:
        async with usual.client() as client, bare.client() as other:
            sides = ((usual, client, measured[0]), (bare, other, measured[1]))
            for mesh_client in (client, other):
                await warm_up(mesh_client)
            for number in range(rounds):
                # Who begins changes, since the second of a pair finds a warmer machine.
                for mesh, of, into in sides if number % 2 else sides[::-1]:
                    into.append(await run_tiny(mesh, of, tasks))
                rates = " and ".join(f"{side[-1].tasks_per_s:,.0f}" for side in measured)
                progress(f"budgets: round {number + 1} of {rounds}: {rates} tasks/s with and without")
    return Budgets(tuple(measured[0]), tuple(measured[1]), measure_message_us())


def measure_message_us(messages: int = 20_000, rounds: int = 5) -> tuple[float, float]:
    """CPU time for one small signed message: what accounts and turns take, and what takes their place without."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        times[0].append(_message_us(Intake, FairQueue(), messages))
        times[1].append(_message_us(NoAccounts, OneLine(), messages))
    return median(times[0]), median(times[1])


def _message_us(intake: type[Intake], waiting: FairQueue[bytes], messages: int) -> float:
    accounts = intake(IntakeLimits(bytes_burst=1 << 40, signatures_burst=1 << 40), LimitMeter(lambda: 0.0), _source_of)
    began_ns = time.thread_time_ns()
    for at in range(0, messages, _AT_ONCE):
        peer = _PEERS[at // _AT_ONCE % len(_PEERS)]
        now_us = at
        for _ in range(_AT_ONCE):
            accounts.charge(peer, _MESSAGE_BYTES, 1, now_us)
            waiting.push(peer, peer, 2)
        while waiting:
            waiting.pop()
        accounts.overdrawn_us(peer, now_us)
    return (time.thread_time_ns() - began_ns) / 1e3 / messages


def _source_of(peer: bytes) -> str:
    return "192.0.2.7"
