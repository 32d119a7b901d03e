"""What membership, tables and stealing cost a node, as the mesh grows."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .engine import HOUR, SECOND
from .long_plan import long_plan
from .run import rare_collections
from .world import World

_MEMBERSHIP = ("Ping", "Ack", "PingRequest", "IndirectAck", "Leaving")
_TABLES = ("TableSync", "TableRows")
_STEALING = ("Steal", "Granted", "Refused", "HandOn", "Renew", "Superseded")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one node and second, once the mesh has settled; and the simulation's own speed.

    start_bytes: of one node, in all, until then.  memory_bytes: of one node, at most; 0 if it was not measured.
    """

    nodes: int
    messages: float
    membership_bytes: float
    table_bytes: float
    stealing_bytes: float
    other_bytes: float
    start_bytes: int
    memory_bytes: int
    events: int
    events_per_cpu_s: int
    violations: int

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def measure(
    nodes: int, seconds: float, seed: int, *, preset: str = "lan", warm: bool = False, memory: bool = False
) -> Cost:
    """A calm mesh of so many nodes with one job, for so long after it has settled.

    memory: measured with tracemalloc, which makes the run several times slower.
    """
    plan = long_plan(seed, nodes=nodes, hours=seconds * SECOND / HOUR, jobs=1, preset=preset, warm=warm)
    # The job may not be through by then; what it costs is asked here, not whether it ends.
    plan = replace(plan, jobs=tuple(replace(job, task_us=SECOND // 5) for job in plan.jobs))
    if memory:
        tracemalloc.start()
    cpu_started = time.process_time()
    with rare_collections(), World.opened(plan) as world:
        world.engine.run(world.settled_us)
        at_first = {kind: list(row) for kind, row in world.network.traffic.by_kind.items()}
        world.engine.run(world.settled_us + int(seconds * SECOND))
        cpu_s = time.process_time() - cpu_started
        used = tracemalloc.get_traced_memory()[1] if memory else 0
        sent = world.network.traffic.by_kind
        events, violations = world.trace.events, len(world.checkers.violations)
    if memory:
        tracemalloc.stop()

    def rate(kinds: Iterable[str], what: int) -> float:
        counted = (sent[kind][what] - at_first.get(kind, [0, 0])[what] for kind in kinds if kind in sent)
        return sum(counted) / (nodes * seconds)

    known = _MEMBERSHIP + _TABLES + _STEALING
    return Cost(
        nodes=nodes,
        messages=round(rate(sent, 0), 2),
        membership_bytes=round(rate(_MEMBERSHIP, 1), 1),
        table_bytes=round(rate(_TABLES, 1), 1),
        stealing_bytes=round(rate(_STEALING, 1), 1),
        other_bytes=round(rate([kind for kind in sent if kind not in known], 1), 1),
        start_bytes=sum(row[1] for row in at_first.values()) // nodes,
        memory_bytes=used // nodes,
        events=events,
        events_per_cpu_s=round(events / cpu_s) if cpu_s else 0,
        violations=violations,
    )


def measure_number(
    sizes: tuple[int, ...], seconds: float, seed: int, preset: str, warm: bool, memory: bool, number: int
) -> Cost:
    """`measure` of one of several sizes, for a process of a pool."""
    return measure(sizes[number], seconds, seed, preset=preset, warm=warm, memory=memory)
