"""The "function" ABI: one live instance, one exported function called for each task of a batch.

A task's exit must not depend on its neighbours: one that fails in an instance which has run others is run
again in a fresh one, and an instance that keeps more than half of the free memory is replaced.

What an instance keeps from one task to the next may reach the outputs all the same. So the batch is a function of its
first task alone: an end that this machine brought about, which another would not, is the last of its batch. Who judges
a result runs the batch from its first task up to there, and comes to the same.
"""

from __future__ import annotations

from itertools import accumulate

from .outcome import ExecutionError, ExecutionFault, Exit
from .wasm_abi import ALLOC, INIT, INITIALIZE
from .wasm_batch import Batch
from .wasm_engine import Guest, OutsideMemory, Program, Stop
from .wasm_files import FileTree
from .wasm_wasi import INIT_INDEX, TaskWorld
from .wasm_wire import unpack_column

_U32 = (1 << 32) - 1
_NOT_REPEATED = (Exit.WALL, Exit.CANCELLED)
_MEMORY_LOOK_TASKS = 16


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
        self._alloc = 0
        self._entry = 0
        self._tasks_in_guest = 0
        self._replace_above_bytes = 0
        lengths = unpack_column("I", self._run.lengths, self._run.count) if self._run.lengths else []
        self._lengths = lengths or [0] * self._run.count
        self._starts = [0, *accumulate(self._lengths)]
        if self._starts[-1] != len(self._run.inputs):
            raise ExecutionError(ExecutionFault.UNAVAILABLE, "the batch's inputs do not add up")
        self._inputs = memoryview(self._run.inputs)
        self._fuel_mark = 0

    def run(self) -> None:
        columns, count = self._batch.columns, self._run.count
        repeat = False
        try:
            while (offset := len(columns.exits)) < count and not columns.is_full():
                stop = self._open() if self._guest is None else None
                if stop is not None:
                    self._give_up(stop)
                    return
                stop, fuel = self._burst(offset, repeat)
                if stop is None:
                    repeat = False
                    continue
                if self._pacer.stop is Exit.CANCELLED:
                    return
                repeat = stop.exit not in _NOT_REPEATED and self._tasks_in_guest > 1
                if not repeat:
                    self._note(stop)
                    columns.add(stop.exit, b"", fuel)
                if stop.exit == Exit.WALL or stop.is_machines:
                    return  # the rest is given back; what is to be repeated begins a batch
                self._close()
        finally:
            self._close()

    def _burst(self, start: int, single: bool) -> tuple[Stop | None, int]:
        """Run tasks in the live guest until one fails (why, and its fuel), or it is to be replaced, or all are done.

        The loop that every task passes, about 5 µs: no calls but those that the task needs.
        """
        guest, world, pacer, columns = self._guest, self._world, self._pacer, self._batch.columns
        assert guest is not None
        first, budget, most_bytes = self._run.first, self._batch.fuel_budget, self._run.output_bytes
        size, starts, lengths = guest.memory_bytes(), self._starts, self._lengths
        view, inputs, limit, left = guest.view, self._inputs, self._run.fuel, budget
        guest.set_fuel(budget)
        for offset in range(start, start + 1 if single else self._run.count):
            pacer.task += 1
            self._tasks_in_guest += 1
            if world is not None:
                world.begin(first + offset)
            if limit:
                guest.set_fuel(budget)
                left = budget
            self._fuel_mark = left
            address, length = 0, lengths[offset]
            if length:
                stop = guest.call1(self._alloc, length)
                if stop is not None:
                    return self._failed(guest, stop)
                address = guest.result() & _U32
                if address + length > size:
                    size = guest.memory_bytes()
                if address == 0 or address + length > size:
                    return self._failed(guest, Stop(Exit.MEMORY, f"{ALLOC}({length}) had no room"))
                begin = starts[offset]
                view[address : address + length] = inputs[begin : begin + length]
            stop = guest.call3(self._entry, first + offset, address, length)
            if stop is not None:
                return self._failed(guest, stop)
            packed = guest.result()
            length, address = packed & _U32, packed >> 32
            if packed < 0:
                return self._failed(guest, Stop(packed & 0xFF or 0xFF, ""))
            if length > most_bytes:
                return self._failed(guest, Stop(Exit.OUTPUT, f"{length} bytes of output, {most_bytes} are allowed"))
            if address + length > size:
                size = guest.memory_bytes()
                if address + length > size:
                    return self._failed(guest, Stop(Exit.OUTPUT, "an output outside of the module's memory"))
            if world is not None:
                self._note(None)
            now_left = guest.fuel_left()
            if limit and left - now_left > limit:
                return self._failed(guest, Stop(Exit.FUEL, ""))
            columns.add(0, bytes(view[address : address + length]), left - now_left)
            left = now_left
            if columns.is_full() or (offset % _MEMORY_LOOK_TASKS == 0 and self._is_worn(guest)):
                break
        return None, 0

    def _is_worn(self, guest: Guest) -> bool:
        """Whether the guest grew so much that it must be replaced; it is closed then."""
        if guest.memory_bytes() <= self._replace_above_bytes:
            return False
        self._close()
        return True

    def _failed(self, guest: Guest, stop: Stop) -> tuple[Stop, int]:
        """The true reason, and the fuel up to there."""
        if stop.exit < 0:
            stop = self._batch.why(stop)
        fuel, judged = self._batch.judge_fuel(self._fuel_mark - guest.fuel_left(), stop)
        return judged or stop, fuel

    def _give_up(self, stop: Stop) -> None:
        """No instance can be had: every task that is left ends the same way."""
        if self._pacer.stop is Exit.CANCELLED:
            return
        self._note(stop)
        while len(self._batch.columns.exits) < self._run.count:
            self._batch.columns.add(stop.exit, b"", 0)

    def _note(self, stop: Stop | None) -> None:
        written = self._world.take_stderr() if self._world is not None else b""
        if written or stop is not None:
            self._batch.columns.note(written, stop, self._run.stderr_bytes)

    def _place(self, guest: Guest, payload: bytes) -> int | Stop:
        """Put bytes where the module wants them."""
        stop = guest.call1(self._alloc, len(payload))
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
        self._pacer.task += 1
        self._pacer.stop = None if self._pacer.stop is Exit.WALL else self._pacer.stop
        guest = Guest(batch.machinery.loader.engine, run.memory_bytes, self._pacer.attach)
        self._guest, self._tasks_in_guest = guest, 0
        self._world = None
        assert isinstance(batch.program, Program)
        if batch.program.shape.imports:
            tree = FileTree(batch.files, 0, None)
            self._world = TaskWorld(guest, run.seed, INIT_INDEX, tree, stderr_bytes=run.stderr_bytes)
        batch.machinery.host.world = self._world
        try:
            stop = guest.start(batch.program, batch.fuel_budget)
            if stop is None:
                self._entry, self._alloc = _needed(guest, run.entry), _needed(guest, ALLOC)
                initialize, init = guest.function(INITIALIZE), guest.function(INIT)
                stop = guest.call1(initialize, 0) if initialize is not None else None
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

    def _init(self, guest: Guest, init: int) -> Stop | None:
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


def _needed(guest: Guest, name: str) -> int:
    function = guest.function(name)
    assert function is not None, "the shape was checked"
    return function
