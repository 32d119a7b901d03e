"""The wasm executor: a few warm worker processes, and those who wait for one."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from .outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, ModuleReport
from .wasm_abi import offered_abis
from .wasm_child import ChildConfig, CompilesTooLong, LostIdle, WasmChild
from .wasm_wire import (
    MAX_OUTPUT_BYTES,
    Check,
    Checked,
    Done,
    FromWorker,
    Run,
    ToWorker,
    pack_column,
    split,
    unpack_column,
)

DEFAULT_IDLE_S = 60.0
MAX_WAITING = 256
TOO_LONG_REMEMBERED_MAX = 1024
# What compiles for too long only because the machine is busy is tried again after this.
BUSY_S = 3600.0
WORKER_OVERHEAD_BYTES = 384 << 20
"""Room that a worker needs beside one task: Python, wasmtime, the module, the batch's outputs while they are packed."""


class WasmPool:
    """At most `max_children` workers, started when needed, kept warm for `idle_s`, replaced when they die.

    A worker belongs to one batch at a time. Those who find none free wait in order, at most MAX_WAITING.
    """

    def __init__(self, config: ChildConfig, max_children: int, idle_s: float = DEFAULT_IDLE_S) -> None:
        if max_children < 1:
            raise ValueError("max_children must be at least 1")
        self._config = config
        self._max_children = max_children
        self._idle_s = idle_s
        self._duty = 1.0
        self._free: list[WasmChild] = []
        self._busy: dict[int, WasmChild] = {}
        self._places = max_children
        self._waiting: deque[trio.lowlevel.Task] = deque()
        self._reaper: trio.CancelScope | None = None
        self._closed = False
        # Programs that compile for too long, what is said of each, and until when: nobody waits for them twice.
        self._too_long: dict[bytes, tuple[CompilesTooLong, float]] = {}

    async def run(self, request: BatchRequest) -> BatchOutcome:
        """See `Executor.run`."""
        if request.runtime != "wasm" or request.abi not in ("function", "command"):
            raise ExecutionError(
                ExecutionFault.UNAVAILABLE, f"no runtime {request.runtime} with ABI {request.abi} here"
            )
        limits = request.limits
        needed_bytes = limits.memory_bytes + limits.scratch_bytes + 4 * limits.output_bytes + WORKER_OVERHEAD_BYTES
        if needed_bytes > self._config.memory_bytes:
            raise ExecutionError(
                ExecutionFault.TOO_BIG,
                f"a task's memory, files and output need {needed_bytes >> 20} MiB, "
                f"a worker here has {self._config.memory_bytes >> 20} MiB",
            )
        if limits.output_bytes > MAX_OUTPUT_BYTES:
            raise ExecutionError(ExecutionFault.TOO_BIG, f"output_bytes may be at most {MAX_OUTPUT_BYTES}")
        answer = await self._ask(request.program_digest, lambda batch: _encode(request, batch), request)
        return _decode(request, answer)

    async def check_module(self, program: Path, digest: bytes) -> ModuleReport:
        """Compile a module in a worker and say what it offers. Raises ExecutionError."""
        answer = await self._ask(digest, lambda batch: Check(batch, str(program), digest))
        if not isinstance(answer, Checked):
            raise ExecutionError(ExecutionFault.CHILD_LOST, "the worker answered something else")
        return ModuleReport(
            digest, offered_abis(answer.exports), answer.imports, answer.exports, answer.memory_bytes, answer.compile_us
        )

    async def prewarm(self, program: Path, digest: bytes) -> None:
        """Have a worker up and the module compiled, so that the first batch does not wait. Raises ExecutionError."""
        await self.check_module(program, digest)

    def set_duty(self, fraction: float) -> None:
        """See `Executor.set_duty`."""
        self._duty = min(max(fraction, 0.0), 1.0)
        for child in [*self._free, *self._busy.values()]:
            child.page.set_duty(self._duty)

    def pids(self) -> list[int]:
        """The live worker processes, for metering their CPU time."""
        return sorted(child.pid for child in [*self._free, *self._busy.values()])

    def resident_bytes(self) -> int:
        """What the workers said they hold, together."""
        return sum(child.resident_bytes() for child in [*self._free, *self._busy.values()])

    async def aclose(self) -> None:
        """End every worker; who waits or runs gets an ExecutionError (UNAVAILABLE or CHILD_LOST)."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        while self._waiting:
            trio.lowlevel.reschedule(self._waiting.popleft())
        for child in self._busy.values():
            child.kill()
        free, self._free = self._free, []
        for child in free:
            await child.end()

    def forget_secrets(self, job_id: bytes) -> None:
        """See `Executor.forget_secrets`."""
        for child in [child for child in self._free if child.secret == job_id]:
            self._free.remove(child)
            trio.lowlevel.spawn_system_task(child.end, name="wasm pool wipes")
        for child in self._busy.values():
            if child.secret == job_id:
                child.is_spent = True

    async def _ask(
        self, digest: bytes, message: Callable[[int], ToWorker], request: BatchRequest | None = None
    ) -> FromWorker:
        """The answer to a message, which is made with the number of its batch. request: that it is for, if for one.

        A warm worker may have died idle, and not show it yet (waitpid and the socket lag behind a SIGKILL). What it
        had not begun is asked once more, of a fresh one; the loss of a fresh one is the request's own.
        """
        self._refuse_known(digest)
        child = await self._acquire(request)
        try:
            try:
                return await child.ask(message(child.next_batch()))
            except LostIdle:
                if self._closed:
                    raise
                fresh = self._child(request)
                del self._busy[id(child)]
                child = self._busy[id(fresh)] = fresh
                return await child.ask(message(child.next_batch()))
        except CompilesTooLong as error:
            self._remember(digest, error)
            raise
        finally:
            await self._release(child)

    def _remember(self, digest: bytes, error: CompilesTooLong) -> None:
        """A busy machine has other hours; what takes too much of a processor does so always."""
        until_s = trio.current_time() + BUSY_S if error.is_ours else math.inf
        self._too_long[digest] = (error, until_s)
        while len(self._too_long) > TOO_LONG_REMEMBERED_MAX:
            del self._too_long[next(iter(self._too_long))]

    def _refuse_known(self, digest: bytes) -> None:
        """Raises CompilesTooLong."""
        known, until_s = self._too_long.get(digest, (None, 0.0))
        if known is not None and trio.current_time() < until_s:
            raise CompilesTooLong(known.reason, known.detail)

    def _child(self, request: BatchRequest | None) -> WasmChild:
        """One for a confidential job sees that job's folder; no other does."""
        if request is None or request.private is None:
            return WasmChild(self._config, self._duty)
        folders = self._config.folders
        own = replace(folders, write=(*folders.write, request.private.absolute()))
        return WasmChild(replace(self._config, folders=own), self._duty, request.job_id)

    async def _acquire(self, request: BatchRequest | None) -> WasmChild:
        """A worker that has run nothing but this confidential job, or (empty) nothing that was confidential."""
        if self._closed:
            raise ExecutionError(ExecutionFault.UNAVAILABLE, "the executor is closed")
        if self._places == 0:
            await self._wait_for_place()
        else:
            self._places -= 1
        try:
            secret = request.job_id if request is not None and request.private is not None else b""
            child = await self._take_free(secret) or self._child(request)
        except BaseException:  # boundary: whatever happened, the place is given back
            self._give_place()
            raise
        child.page.set_duty(self._duty)
        self._busy[id(child)] = child
        return child

    def checkpoint_folder(self, root: Path, job_id: bytes, index: int) -> Path:
        return root / job_id.hex() / str(index)

    async def _take_free(self, secret: bytes) -> WasmChild | None:
        """None, and there is room for a fresh one, if none fits."""
        while fitting := [child for child in self._free if child.secret == secret]:
            child = fitting[-1]
            self._free.remove(child)
            if child.is_running():
                return child
            await child.end()
        while self._free and len(self._free) + len(self._busy) >= self._max_children:
            await self._free.pop(0).end()
        return None

    async def _wait_for_place(self) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise ExecutionError(ExecutionFault.UNAVAILABLE, f"{MAX_WAITING} batches are waiting already")
        task = trio.lowlevel.current_task()
        self._waiting.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if self._closed:
            raise ExecutionError(ExecutionFault.UNAVAILABLE, "the executor is closed")

    def _give_place(self) -> None:
        """Hand the place to who waits longest, or put it back."""
        if self._waiting and not self._closed:
            trio.lowlevel.reschedule(self._waiting.popleft())
        else:
            self._places += 1

    async def _release(self, child: WasmChild) -> None:
        del self._busy[id(child)]
        try:
            if child.alive and not self._closed and not child.is_spent:
                child.idle_since_s = trio.current_time()
                self._free.append(child)
                if self._reaper is None and not math.isinf(self._idle_s):
                    self._reaper = trio.CancelScope()
                    trio.lowlevel.spawn_system_task(self._reap, self._reaper, name="wasm pool reaper")
            else:
                await child.end()
        finally:
            self._give_place()

    async def _reap(self, scope: trio.CancelScope) -> None:
        """End workers that nobody has wanted for `idle_s`; ends itself when none is left."""
        with scope:
            while self._free:
                oldest = min(child.idle_since_s for child in self._free)
                await trio.sleep_until(oldest + self._idle_s)
                now_s = trio.current_time()
                for child in [child for child in self._free if child.idle_since_s + self._idle_s <= now_s]:
                    self._free.remove(child)
                    await child.end()
        if self._reaper is scope:
            self._reaper = None


def _encode(request: BatchRequest, batch: int) -> Run:
    limits, inputs = request.limits, request.inputs
    checkpoints = request.checkpoint_root / request.job_id.hex() if request.checkpoint_root is not None else ""
    return Run(
        batch=batch,
        program=os.fspath(request.program),
        digest=request.program_digest,
        abi=request.abi,
        entry=request.entry,
        arguments=request.arguments,
        environment=tuple(f"{name}={value}" for name, value in sorted(request.environment.items())),
        files=tuple((name, os.fspath(path)) for name, path in sorted(request.files.items())),
        first=request.first,
        count=request.count,
        lengths=pack_column("I", [*map(len, inputs)]) if inputs is not None else b"",
        inputs=b"".join(inputs) if inputs is not None else b"",
        init=request.init,
        seed=request.seed,
        memory_bytes=limits.memory_bytes,
        wall_us=limits.wall_us,
        fuel=limits.fuel,
        output_bytes=limits.output_bytes,
        stderr_bytes=limits.stderr_bytes,
        scratch_bytes=limits.scratch_bytes,
        checkpoints=os.fspath(checkpoints),
        secret=request.private is not None,
        canonical_nans=request.canonical_nans,
    )


def _decode(request: BatchRequest, answer: FromWorker) -> BatchOutcome:
    """Raises ExecutionError(CHILD_LOST) where the worker's answer does not fit the request."""
    count = request.count
    try:
        if not isinstance(answer, Done):
            raise ValueError("not an outcome")
        if any(not 0 <= offset < count for offset in answer.stderrs):
            raise ValueError("a task that was not asked for")
        lengths = unpack_column("I", answer.lengths, count)
        if max(lengths) > request.limits.output_bytes:
            raise ValueError("an output over its limit")
        return BatchOutcome(
            first=request.first,
            exits=unpack_column("h", answer.exits, count),
            outputs=split(answer.outputs, lengths),
            stderrs=answer.stderrs,
            fuels=unpack_column("Q", answer.fuels, count),
            cpu_us=unpack_column("Q", answer.cpu_us, count),
        )
    except ValueError as error:
        raise ExecutionError(ExecutionFault.CHILD_LOST, f"the worker's answer is no good: {error}") from error
