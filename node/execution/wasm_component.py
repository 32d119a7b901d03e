"""Python tasks: a component with `init(source, entry)` and `run(index, seed, entry, argument)`, see node/python.

Each task has an instance of its own. The component is Python as it was once its libraries were loaded, so a start costs
milliseconds, and whatever a task leaves behind, and the order in which tasks come, can't change another's result.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import wasmtime

from . import wasm_ffi
from .outcome import ExecutionError, ExecutionFault, Exit
from .wasm_batch import Batch
from .wasm_engine import MAX_TABLE_ELEMENTS, ComponentProgram, Stop
from .wasm_wire import unpack_column

INIT, RUN = "init", "run"
MAX_CORE_INSTANCES, MAX_TABLES, MAX_MEMORIES = 100, 20, 4
# What wasmtime says where a component has more memories than its store's limit.
_MEMORY_COUNT = "memory count too high"
_OUT_OF_MEMORY = 2
_NO_FUNCTION = _NO_BYTES = 3


def run_component(batch: Batch, program: ComponentProgram) -> None:
    """Fill the batch's columns, up to a cancel."""
    run, columns, pacer = batch.run, batch.columns, batch.machinery.pacer
    lengths = unpack_column("I", run.lengths, run.count) if run.lengths else [0] * run.count
    starts = [0, *accumulate(lengths)]
    if starts[-1] != len(run.inputs):
        raise ExecutionError(ExecutionFault.UNAVAILABLE, "the batch's inputs do not add up")
    try:
        source = run.init.decode()
    except UnicodeDecodeError as error:
        raise ExecutionError(ExecutionFault.WRONG_SIGNATURE, f"the source is not UTF-8: {error.reason}") from error
    for offset in range(run.count):
        if columns.is_full():
            return
        pacer.task += 1
        pacer.stop = None
        argument = run.inputs[starts[offset] : starts[offset + 1]]
        task = _Task(batch, program)
        try:
            exit, output, said = task.run(source, run.first + offset, argument)
        except wasmtime.WasmtimeError as error:
            stop = batch.why(_stop_of(error))
            if stop.exit == Exit.CANCELLED:
                return
            exit, output, said = stop.exit, b"", f"hearth: {stop.detail}\n" if stop.detail else ""
        used, judged = batch.judge_fuel(task.fuel_used(), Stop(exit, "") if exit < 0 else None)
        task.close()
        if judged is not None and judged.exit != exit:
            exit, output, said = judged.exit, b"", f"hearth: {judged.detail}\n"
        if len(output) > run.output_bytes:
            exit, said = Exit.OUTPUT, f"hearth: {len(output)} bytes of output, {run.output_bytes} are allowed\n"
            output = b""
        columns.note(said.encode("utf-8", "replace"), None, run.stderr_bytes)
        columns.add(exit, output, used)


class _Task:
    """One instance, which serves one task."""

    def __init__(self, batch: Batch, program: ComponentProgram) -> None:
        self._batch = batch
        self._program = program
        self._store = self._open()

    def _open(self) -> wasmtime.Store:
        """A store in which all memories together have what the task may have: a limit holds for each."""
        batch, memories = self._batch, self._program.memories
        engine = batch.machinery.loader.component_engine
        batch.machinery.pacer.watch(engine)
        store = wasmtime.Store(engine)
        share_bytes = batch.run.memory_bytes // memories
        store.set_limits(share_bytes, MAX_TABLE_ELEMENTS, MAX_CORE_INSTANCES, MAX_TABLES, memories)
        context = wasm_ffi.address_of(store._context())
        batch.machinery.pacer.attach(wasm_ffi.address_of(store.ptr()), context)
        store.set_fuel(batch.fuel_budget)
        return store

    def _instantiate(self) -> Any:
        """Learns how many memories the program has: Python's has one. Raises WasmtimeError."""
        while True:
            try:
                return self._program.linker.instantiate(self._store, self._program.component)
            except wasmtime.WasmtimeError as error:
                if _MEMORY_COUNT not in str(error) or self._program.memories >= MAX_MEMORIES:
                    raise
            self._program.memories += 1
            self._store.close()
            self._store = self._open()

    def run(self, source: str, index: int, argument: bytes) -> tuple[int, bytes, str]:
        """(exit, output, what it said). Raises WasmtimeError where it was stopped, ExecutionError for a misfit."""
        run = self._batch.run
        instance = self._instantiate()
        wrong = self._call(instance, INIT, source, run.entry)
        if not isinstance(wrong, str):
            raise _misfit(INIT)
        if wrong:
            return _NO_FUNCTION, b"", wrong
        answer = self._call(instance, RUN, index, run.seed.decode("latin-1"), run.entry, argument.decode("latin-1"))
        try:
            code, output, said = answer
        except (TypeError, ValueError) as error:
            raise _misfit(RUN) from error
        if not (type(code) is int and isinstance(output, str) and isinstance(said, str)):
            raise _misfit(RUN)
        try:
            packed = output.encode("latin-1")
        except UnicodeEncodeError:
            # This task's alone: its batch's other tasks end elsewhere as they do here.
            return _NO_BYTES, b"", said
        return (int(Exit.MEMORY) if code == _OUT_OF_MEMORY else code & 0xFF), b"" if code else packed, said

    def _call(self, instance: Any, name: str, *arguments: object) -> Any:
        function = instance.get_func(self._store, name)
        if function is None:
            raise _misfit(name)
        try:
            answer = function(self._store, *arguments)
            function.post_return(self._store)
        except TypeError as error:
            raise _misfit(name) from error
        return answer

    def fuel_used(self) -> int:
        return self._batch.fuel_budget - self._store.get_fuel()

    def close(self) -> None:
        self._store.close()


def _misfit(name: str) -> ExecutionError:
    return ExecutionError(
        ExecutionFault.WRONG_SIGNATURE, f"a component needs {name} as node/python/guest/task.wit has it"
    )


def _stop_of(error: Exception) -> Stop:
    """Why wasmtime ended the task: its text names the trap in its last line."""
    text = str(error).strip()
    last = text.splitlines()[-1].strip().removeprefix("wasm trap: ") if text else "trap"
    if "fuel" in last:
        return Stop(Exit.FUEL, "out of fuel")
    return Stop(Exit.TRAP, last[:200])
