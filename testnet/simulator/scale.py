"""What membership, tables and stealing cost a node, as the mesh grows."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

from .engine import HOUR, SECOND
from .long_plan import long_plan
from .plan import SETTLE_US
from .run import play

_MEMBERSHIP = ("Ping", "Ack", "PingRequest", "IndirectAck", "Leaving")
_TABLES = ("TableSync", "TableRows")
_STEALING = ("Steal", "Granted", "Refused", "HandOn", "Renew", "Superseded")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one node and second, but for `memory_bytes` of one node, and the simulation's own speed."""

    nodes: int
    messages: float
    membership_bytes: float
    table_bytes: float
    stealing_bytes: float
    other_bytes: float
    memory_bytes: int
    events: int
    events_per_cpu_s: int
    violations: int

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def measure(nodes: int, seconds: float, seed: int, *, preset: str = "lan", memory: bool = False) -> Cost:
    """A calm mesh of so many nodes with one job, for so long after it has settled.

    memory: measured with tracemalloc, which makes the run several times slower.
    """
    plan = replace(
        long_plan(seed, nodes=nodes, hours=seconds * SECOND / HOUR, jobs=1, preset=preset),
        bound_us=0,
        stops_early=False,
    )
    # One job may not be through by then; what it costs is asked here, not whether it ends.
    plan = replace(plan, jobs=tuple(replace(job, task_us=SECOND // 5) for job in plan.jobs))
    if memory:
        tracemalloc.start()
    outcome = play(plan)
    used = tracemalloc.get_traced_memory()[1] if memory else 0
    if memory:
        tracemalloc.stop()
    node_seconds = nodes * (seconds + (plan.join_us + SETTLE_US) / SECOND)

    def rate(kinds: tuple[str, ...]) -> float:
        return round(sum(outcome.traffic[kind][1] for kind in kinds if kind in outcome.traffic) / node_seconds, 1)

    known = _MEMBERSHIP + _TABLES + _STEALING
    others = tuple(kind for kind in outcome.traffic if kind not in known)
    liveness = sum(violation.checker in ("liveness", "replicas-converge") for violation in outcome.violations)
    return Cost(
        nodes=nodes,
        messages=round(outcome.messages / node_seconds, 2),
        membership_bytes=rate(_MEMBERSHIP),
        table_bytes=rate(_TABLES),
        stealing_bytes=rate(_STEALING),
        other_bytes=rate(others),
        memory_bytes=used // nodes,
        events=outcome.events,
        events_per_cpu_s=round(outcome.events / outcome.cpu_s) if outcome.cpu_s else 0,
        violations=len(outcome.violations) - liveness,
    )


def measure_number(sizes: tuple[int, ...], seconds: float, seed: int, preset: str, memory: bool, number: int) -> Cost:
    """`measure` of one of several sizes, for a process of a pool."""
    return measure(sizes[number], seconds, seed, preset=preset, memory=memory)
