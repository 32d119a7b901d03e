"""CPU time and memory of a process and of those that it started. Source: proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_us: user and system time of the process.  children_cpu_us: of its descendants, also ended ones.

    rss_bytes: resident, descendants included.
    """

    cpu_us: int
    children_cpu_us: int
    rss_bytes: int

    def cpu_since(self, before: Usage) -> tuple[int, int]:
        """(of the process, of its descendants), microseconds."""
        return self.cpu_us - before.cpu_us, self.children_cpu_us - before.children_cpu_us


def read_usage(pid: int) -> Usage:
    """Raises ProcessLookupError if it is gone."""
    own_us, ended_us = _cpu_us(pid)
    rss_bytes, children_us = _rss_bytes(pid), ended_us
    for child in descendants(pid):
        try:
            used_us, waited_us = _cpu_us(child)
            rss_bytes += _rss_bytes(child)
        except ProcessLookupError:
            continue
        children_us += used_us + waited_us
    return Usage(own_us, children_us, rss_bytes)


def descendants(pid: int) -> Iterator[int]:
    """Children, theirs, and so on, as far as they exist while one looks."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return
    for thread in threads:
        try:
            children = (thread / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


def machine_cpu_us() -> int:
    """What all cores together have worked since the boot, for everybody; with what a hypervisor took for others."""
    with open("/proc/stat", "rb") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000 // _TICKS_S


def _cpu_us(pid: int) -> tuple[int, int]:
    """(its own, that of the children it has waited for)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"process {pid} is gone") from None
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own * 1_000_000 // _TICKS_S, ended * 1_000_000 // _TICKS_S


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"process {pid} is gone") from None
