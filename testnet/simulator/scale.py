"""What membership, gossip, finding each other and stealing cost a node, as the mesh grows."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..line_log import LineLog
from . import compiled
from .cores import each_in_a_new_process
from .engine import HOUR, SECOND
from .long_plan import long_plan
from .run import rare_collections
from .world import World

# What a message is for; all others are of jobs.
PURPOSES: dict[str, tuple[str, ...]] = {
    "membership": ("Ping", "Ack", "PingRequest", "IndirectAck", "Leaving"),
    "gossip": ("TableSync", "TableRows", "Announce"),
    "finding": ("FindNodes", "FoundNodes", "FindZone", "CellDigest"),
    "stealing": ("Steal", "Granted", "Refused", "HandOn", "Renew", "Superseded"),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one node and second; and the simulation's own.

    start_bytes: of one node, in all, until the mesh has settled.  links: that a node has, at the end.
    memory_bytes: by which the process grew, a node.  cpu_us: of the simulation, a node and second; start_cpu_ms: until
    the mesh has settled.  compiled: whether compiled modules were measured, of which the CPU and the memory are others.
    """

    nodes: int
    messages: float
    membership_messages: float
    gossip_messages: float
    finding_messages: float
    stealing_messages: float
    job_messages: float
    bytes: float
    membership_bytes: float
    gossip_bytes: float
    finding_bytes: float
    stealing_bytes: float
    job_bytes: float
    start_bytes: int
    links: float
    memory_bytes: int
    start_cpu_ms: float
    cpu_us: float
    events: int
    events_per_cpu_s: int
    violations: int
    compiled: bool

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Asked:
    """How a size is measured. after_s: from the settling to the count.  jobs: 0 or 1."""

    seconds: float
    after_s: float = 0.0
    jobs: int = 1
    seed: int = 1
    preset: str = "lan"
    warm: bool = False


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """sources: a digest of what was measured."""

    sources: str
    asked: Asked
    cost: Cost


class ScaleLog:
    """A file of JSON lines. Lines of other sources or questions are left alone, and so is what is no whole line."""

    def __init__(self, path: Path, asked: Asked) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)
        self._asked = asked
        self._sources = compiled.digest_of_sources()

    def measured(self) -> dict[int, Cost]:
        """By size. Raises OSError."""
        found: dict[int, Cost] = {}
        for raw in self._lines.whole():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            if (line.sources, line.asked) == (self._sources, self._asked):
                found[line.cost.nodes] = line.cost
        return found

    def append(self, cost: Cost) -> None:
        """Raises OSError."""
        self._lines.append(msgspec.json.encode(_Line(self._sources, self._asked, cost)))


def costs_of(sizes: tuple[int, ...], asked: Asked, path: Path | None = None) -> Iterator[Cost]:
    """In their order. path: of a log, to which each is appended; what it holds is not measured again.

    Raises OSError.
    """
    log = ScaleLog(path, asked) if path is not None else None
    known = log.measured() if log is not None else {}
    missing = tuple(size for size in sizes if size not in known)
    fresh = each_in_a_new_process(partial(_measure_number, missing, asked), len(missing)) if missing else iter(())
    for size in sizes:
        cost = known.get(size)
        if cost is None:
            cost = next(fresh)
            if log is not None:
                log.append(cost)
        yield cost


def _measure_number(sizes: tuple[int, ...], asked: Asked, number: int) -> Cost:
    return measure(sizes[number], asked)


def measure(nodes: int, asked: Asked) -> Cost:
    """A calm mesh of so many nodes.

    To be called in a process that has measured nothing yet, or it has memory that it need not ask for.
    """
    seconds, after_s = asked.seconds, asked.after_s
    hours = (after_s + seconds) * SECOND / HOUR
    plan = long_plan(asked.seed, nodes=nodes, hours=hours, jobs=1, preset=asked.preset, warm=asked.warm)
    # The job may not be through by then; what it costs is asked here, not whether it ends.
    plan = replace(plan, jobs=tuple(replace(job, task_us=SECOND // 5) for job in plan.jobs[: asked.jobs]))
    before = _memory_bytes()
    cpu_started = time.process_time()
    with rare_collections(), World.opened(plan) as world:
        engine = world.engine
        engine.run(world.settled_us)
        settled_cpu_s = time.process_time()
        start_bytes = world.network.traffic.bytes // nodes
        since_us = world.settled_us + int(after_s * SECOND)
        engine.run(since_us)
        at_first = {kind: tuple(row) for kind, row in world.network.traffic.by_kind.items()}
        counted_cpu_s = time.process_time()
        engine.run(since_us + int(seconds * SECOND))
        ended_cpu_s = time.process_time()
        gc.collect()
        used = _memory_bytes() - before
        links = sum(len(machine.life.links) for machine in world.nodes if machine.life is not None)
        events, violations = world.trace.events, len(world.checkers.violations)
        spent = {
            kind: [after - first for after, first in zip(row, at_first.get(kind, (0, 0)), strict=True)]
            for kind, row in world.network.traffic.by_kind.items()
        }
    known = [kind for kinds in PURPOSES.values() for kind in kinds]
    purposes = {**PURPOSES, "job": tuple(kind for kind in spent if kind not in known)}
    rates: dict[str, float] = {}
    for at, what in enumerate(("messages", "bytes")):
        rates[what] = round(sum(row[at] for row in spent.values()) / (nodes * seconds), 3)
        for purpose, kinds in purposes.items():
            total = sum(spent[kind][at] for kind in kinds if kind in spent)
            rates[f"{purpose}_{what}"] = round(total / (nodes * seconds), 3)
    return Cost(
        nodes=nodes,
        **rates,
        start_bytes=start_bytes,
        links=round(links / nodes, 1),
        memory_bytes=max(0, used) // nodes,
        start_cpu_ms=round((settled_cpu_s - cpu_started) * 1000 / nodes, 1),
        cpu_us=round((ended_cpu_s - counted_cpu_s) * 1e6 / (nodes * seconds), 1),
        events=events,
        events_per_cpu_s=round(events / max(1e-9, ended_cpu_s - cpu_started)),
        violations=violations,
        compiled=compiled.in_use(),
    )


def _memory_bytes() -> int:
    """What the process has in memory; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
