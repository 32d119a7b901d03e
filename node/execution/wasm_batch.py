"""A batch inside the worker: what both task ABIs share."""

from __future__ import annotations

import mmap
import os
import stat
import time
from dataclasses import dataclass, field

from .outcome import ExecutionError, ExecutionFault, Exit
from .wasm_engine import NO_FUEL_LIMIT, ComponentProgram, Program, ProgramLoader, Stop
from .wasm_pace import Pacer
from .wasm_wasi import Host
from .wasm_wire import MAX_BATCH_OUTPUT_BYTES, MAX_BATCH_STDERR_BYTES, Done, Run, pack_column

DETAIL_BYTES = 300
FUEL_SLACK = 1_000_000


@dataclass(frozen=True, slots=True)
class Machinery:
    """The worker's own parts, one of each."""

    loader: ProgramLoader
    host: Host
    pacer: Pacer


@dataclass(slots=True)
class Columns:
    """One entry a finished task. The time of a task runs from the end of the one before it."""

    exits: list[int] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    fuels: list[int] = field(default_factory=list)
    cpu_us: list[int] = field(default_factory=list)
    stderrs: dict[int, bytes] = field(default_factory=dict)
    output_bytes: int = 0
    stderr_bytes: int = 0
    cpu_mark_us: int = field(default_factory=lambda: time.thread_time_ns() // 1_000)

    def add(self, exit: int, output: bytes, fuel: int) -> None:
        now_us = time.thread_time_ns() // 1_000
        self.exits.append(exit)
        self.outputs.append(output)
        self.fuels.append(fuel)
        self.cpu_us.append(now_us - self.cpu_mark_us)
        self.cpu_mark_us = now_us
        self.output_bytes += len(output)

    def note(self, written: bytes, stop: Stop | None, most_bytes: int) -> None:
        """Keep the stderr of the task that is about to be added, with our reason at its end."""
        if stop is not None and stop.detail:
            written += f"hearth: {stop.detail}\n".encode()[:DETAIL_BYTES]
        if self.stderr_bytes > MAX_BATCH_STDERR_BYTES:
            most_bytes = 0
        if written:
            self.stderrs[len(self.exits)] = written[-(most_bytes + DETAIL_BYTES) :]
            self.stderr_bytes += len(written)

    def is_full(self) -> bool:
        """Whether the outputs fill a frame; the tasks that are left are given back as CANCELLED."""
        return self.output_bytes >= MAX_BATCH_OUTPUT_BYTES

    def finish(self, run: Run) -> Done:
        missing = run.count - len(self.exits)
        return Done(
            run.batch,
            pack_column("h", self.exits + [Exit.CANCELLED] * missing),
            pack_column("I", [*map(len, self.outputs)] + [0] * missing),
            memoryview(b"".join(self.outputs)),
            pack_column("Q", self.fuels + [0] * missing),
            pack_column("Q", self.cpu_us + [0] * missing),
            self.stderrs,
        )


class Batch:
    """One run: its inputs opened and its program at hand. Use as a context manager."""

    def __init__(self, machinery: Machinery, program: Program | ComponentProgram, run: Run) -> None:
        self.machinery = machinery
        self.program = program
        self.run = run
        self.columns = Columns()
        self.fuel_budget = run.fuel + FUEL_SLACK if run.fuel else NO_FUEL_LIMIT
        self.files: dict[str, mmap.mmap | bytes] = {}

    def __enter__(self) -> Batch:
        for name, path in self.run.files:
            self.files[name] = _map_file(name, path)
        return self

    def __exit__(self, *error: object) -> None:
        self.machinery.host.world = None
        for content in self.files.values():
            if isinstance(content, mmap.mmap):
                content.close()

    def judge_fuel(self, used: int, stop: Stop | None) -> tuple[int, Stop | None]:
        """Fuel and stop of a task that used so much. Exact, where wasmtime itself looks only at loops and calls."""
        limit = self.run.fuel
        if limit and used > limit and (stop is None or stop.exit not in (Exit.WALL, Exit.CANCELLED)):
            return limit, Stop(Exit.FUEL, f"more than {limit} fuel")
        return used, stop

    def why(self, stop: Stop) -> Stop:
        """The first cause of a guest's stop: the pacer's, else the host's, else the trap itself."""
        pace, world = self.machinery.pacer.stop, self.machinery.host.world
        if pace is not None:
            return Stop(pace, f"stopped after {self.run.wall_us / 1e6:g} s" if pace is Exit.WALL else "")
        return world.stop if world is not None and world.stop is not None else stop


def _map_file(name: str, path: str) -> mmap.mmap | bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ExecutionError(ExecutionFault.UNAVAILABLE, f"input file {name} is not a regular file")
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if found.st_size else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ExecutionError(ExecutionFault.UNAVAILABLE, f"input file {name}: {error.strerror}") from error
