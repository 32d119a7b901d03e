"""The "function" ABI: one live instance, one exported function called for each task of a batch.

A task's exit must not depend on its neighbours: one that fails in an instance which has run others is run
again in a fresh one, and an instance that keeps more than half of the free memory is replaced.
"""

from __future__ import annotations

from typing import Any

from .outcome import Exit
from .wasm_abi import ALLOC, INIT, INITIALIZE
from .wasm_batch import Batch
from .wasm_engine import Guest, OutsideMemory, Stop
from .wasm_files import FileTree
from .wasm_wasi import INIT_INDEX, TaskWorld

_U32 = (1 << 32) - 1
_NOT_REPEATED = (Exit.WALL, Exit.CANCELLED)


def run_functions(batch: Batch) -> None:
    """Fill the batch's columns, up to a cancel."""
    _FunctionBatch(batch).run()


class _FunctionBatch:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._run = batch.run
        self._pacer = batch.machinery.pacer
        self._guest: Guest | None = None
        self._world: TaskWorld | None = None
        self._alloc: Any = None
        self._entry: Any = None
        self._tasks_in_guest = 0
        self._replace_above_bytes = 0
        self._lasting_stop: Stop | None = None

    def run(self) -> None:
        columns, first = self._batch.columns, self._run.first
        keeps_world = bool(self._batch.program.shape.imports)
        try:
            for offset in range(self._run.count):
                stop, output, fuel = self._task(first + offset, self._batch.input(offset))
                if stop is not None and stop.exit not in _NOT_REPEATED and self._tasks_in_guest > 1:
                    self._close()
                    stop, output, fuel = self._task(first + offset, self._batch.input(offset))
                if self._pacer.stop is Exit.CANCELLED:
                    return
                if stop is not None or keeps_world:
                    written = self._world.take_stderr() if self._world is not None else b""
                    columns.note(written, stop, self._run.stderr_bytes)
                columns.add(Exit.SUCCESS if stop is None else stop.exit, output, fuel)
                if stop is not None or self._guest is None or self._guest.memory_bytes() > self._replace_above_bytes:
                    self._close()
                if columns.is_full():
                    return
        finally:
            self._close()

    def _task(self, index: int, payload: bytes) -> tuple[Stop | None, bytes, int]:
        """Why it failed, or its output; and the fuel that it took."""
        self._pacer.task += 1
        guest = self._guest
        if guest is None:
            self._lasting_stop = self._lasting_stop or self._open()
            if self._lasting_stop is not None or self._guest is None:
                return self._lasting_stop, b"", 0
            guest = self._guest
            self._pacer.task += 1
        self._tasks_in_guest += 1
        if self._world is not None:
            self._world.begin(index)
        guest.set_fuel(self._batch.fuel)
        try:
            stop, output = self._call(guest, index, payload)
        except OutsideMemory:
            stop, output = Stop(Exit.OUTPUT, "an address outside of the module's memory"), b""
        if stop is not None and stop.exit < 0:
            stop = self._batch.why(stop)
        fuel = self._batch.fuel - guest.fuel_left()
        self._pacer.stop = None if self._pacer.stop is Exit.WALL else self._pacer.stop
        return stop, output, fuel

    def _call(self, guest: Guest, index: int, payload: bytes) -> tuple[Stop | None, bytes]:
        address = 0
        if payload:
            placed = self._place(guest, payload)
            if isinstance(placed, Stop):
                return placed, b""
            address = placed
        stop = guest.call3(self._entry, index, address, len(payload))
        if stop is not None:
            return stop, b""
        packed = guest.result()
        if packed < 0:
            return Stop(packed & 0xFF or 0xFF, ""), b""
        length = packed & _U32
        if length > self._run.output_bytes:
            return Stop(Exit.OUTPUT, f"{length} bytes of output, at most {self._run.output_bytes} are taken"), b""
        return None, guest.read(packed >> 32, length) if length else b""

    def _place(self, guest: Guest, payload: bytes) -> int | Stop:
        """Put bytes where the module wants them."""
        stop = guest.call3(self._alloc, len(payload), 0, 0)
        if stop is not None:
            return stop
        address = guest.result() & _U32
        if address == 0:
            return Stop(Exit.MEMORY, f"{ALLOC}({len(payload)}) had no room")
        guest.write(address, payload)
        return address

    def _open(self) -> Stop | None:
        """A fresh instance, initialised; a reason why there can be none."""
        batch, run = self._batch, self._run
        guest = Guest(batch.machinery.loader.engine, run.memory_bytes, self._pacer.attach)
        self._guest, self._tasks_in_guest = guest, 0
        self._world = None
        if batch.program.shape.imports:
            tree = FileTree(batch.files, 0, None)
            self._world = TaskWorld(guest, run.seed, INIT_INDEX, tree, stderr_bytes=run.stderr_bytes)
        batch.machinery.host.world = self._world
        try:
            stop = guest.start(batch.program, batch.fuel)
            if stop is None:
                self._entry, self._alloc = guest.function(run.entry), guest.function(ALLOC)
                initialize, init = guest.function(INITIALIZE), guest.function(INIT)
                stop = guest.call(initialize) if initialize is not None else None
                if stop is None and init is not None:
                    stop = self._init(guest, init)
        except OutsideMemory:
            stop = Stop(Exit.OUTPUT, "an address outside of the module's memory")
        if stop is not None:
            if stop.exit < 0:
                stop = batch.why(stop)
            stop = Stop(stop.exit, f"at the instance's start: {stop.detail or f'exit {stop.exit}'}")
        before = guest.memory_bytes()
        self._replace_above_bytes = before + (run.memory_bytes - before) // 2
        return stop

    def _init(self, guest: Guest, init: Any) -> Stop | None:
        address = 0
        if self._run.init:
            placed = self._place(guest, self._run.init)
            if isinstance(placed, Stop):
                return placed
            address = placed
        stop = guest.call3(init, address, len(self._run.init), 0)
        if stop is not None:
            return stop
        code = guest.result() & _U32
        return Stop(code & 0xFF or 0xFF, f"{INIT} returned {code}") if code else None

    def _close(self) -> None:
        if self._guest is not None:
            self._guest.close()
            self._guest = None
