"""The worker process: runs one batch at a time for its parent, until the parent goes away.

    python -m hearthmesh.node.execution.wasm_worker SOCKET PAGE CACHE MEMORY_BYTES CACHE_BYTES NICE LAYERS

SOCKET and PAGE are inherited descriptors; LAYERS is JSON, see `WorkerLayers`. Imports nothing of trio or libp2p; about
45 MB resident.
"""

from __future__ import annotations

import resource
import socket
import sys
from functools import cached_property
from pathlib import Path

import msgspec
import wasmtime

from ..isolation.confine import ConfinementFailed, confine, limit
from ..isolation.worker_sandbox import readable_paths
from .outcome import ExecutionError, ExecutionFault
from .wasm_abi import misfit
from .wasm_batch import Batch, Machinery
from .wasm_cache import CompiledCache
from .wasm_command import run_commands
from .wasm_component import run_component
from .wasm_control import ControlPage
from .wasm_engine import ComponentProgram, Program, ProgramLoader
from .wasm_function import run_functions
from .wasm_imports import unoffered
from .wasm_pace import Pacer
from .wasm_wasi import Host
from .wasm_wire import (
    HEADER,
    MAX_FRAME_BYTES,
    Check,
    Checked,
    Done,
    Failed,
    FromWorker,
    Run,
    ToWorker,
    decode_to_worker,
    encode,
)


class WorkerLayers(msgspec.Struct, frozen=True):
    """What the process puts on itself, and the folders that it may use then."""

    landlock_abi: int
    seccomp: bool
    read: tuple[str, ...]
    write: tuple[str, ...]


class Worker:
    """Serves one parent over one socket."""

    def __init__(self, connection: socket.socket, page: ControlPage, cache: CompiledCache) -> None:
        self._connection = connection
        self._page = page
        self._cache = cache
        loader = ProgramLoader(cache, self._link)
        self._machinery = Machinery(loader, Host(loader.engine), Pacer(loader.engine, page))

    @cached_property
    def _careful(self) -> Machinery:
        """For canonical NaNs; most workers never need it."""
        loader, pacer = ProgramLoader(self._cache, self._link, canonical_nans=True), self._machinery.pacer
        pacer.watch(loader.engine)
        return Machinery(loader, Host(loader.engine), pacer)

    def serve(self) -> None:
        """Until the parent closes its end."""
        while True:
            self._page.report_resident(_resident_bytes())
            message = self._receive()
            if message is None:
                return
            try:
                answer: FromWorker = self._run(message) if isinstance(message, Run) else self._check(message)
            except ExecutionError as error:
                answer = Failed(message.batch, error.reason.value, error.detail)
            except Exception as error:  # boundary: the parent hears why before this process ends
                detail = f"the worker failed: {error!r}"[:300].replace("\n", " ")
                self._connection.sendall(encode(Failed(message.batch, ExecutionFault.CHILD_LOST.value, detail)))
                raise
            self._connection.sendall(encode(answer))

    def _run(self, run: Run) -> Done:
        machinery = self._careful if run.canonical_nans else self._machinery
        program = machinery.loader.load(Path(run.program), run.digest, keep=not run.secret)
        if isinstance(program, ComponentProgram):
            wrong = None if run.abi == "function" else "a component has the function ABI only"
        else:
            wrong = misfit(program.shape.exports, run.abi, run.entry)
        if wrong is not None:
            raise ExecutionError(ExecutionFault.WRONG_SIGNATURE, wrong)
        with Batch(machinery, program, run) as batch:
            self._page.report_loaded(run.batch)
            machinery.pacer.begin_batch(run.batch, run.wall_us)
            try:
                if machinery.pacer.stop is not None:
                    pass
                elif isinstance(program, ComponentProgram):
                    run_component(batch, program)
                else:
                    (run_functions if run.abi == "function" else run_commands)(batch)
            finally:
                machinery.pacer.end_batch()
            return batch.columns.finish(run)

    def _check(self, check: Check) -> Checked:
        program = self._machinery.loader.load(Path(check.program), check.digest)
        if isinstance(program, ComponentProgram):
            return Checked(check.batch, (), {}, 0, program.compile_us)
        shape = program.shape
        imports = tuple((wanted.module, wanted.name) for wanted in shape.imports)
        return Checked(check.batch, imports, shape.exports, shape.memory_bytes, program.compile_us)

    def _link(self, engine: wasmtime.Engine, program: Program) -> wasmtime.InstancePre:
        problem = unoffered(program.shape.imports)
        if problem is not None:
            raise ExecutionError(ExecutionFault.MISSING_IMPORT, problem)
        is_usual = engine is self._machinery.loader.engine
        return (self._machinery if is_usual else self._careful).host.linker.instantiate_pre(program.module)

    def _receive(self) -> ToWorker | None:
        header = self._read(HEADER.size)
        if header is None:
            return None
        (length,) = HEADER.unpack(header)
        assert length <= MAX_FRAME_BYTES
        body = self._read(length)
        return None if body is None else decode_to_worker(body)

    def _read(self, length: int) -> bytearray | None:
        filled = bytearray(length)
        view, position = memoryview(filled), 0
        while position < length:
            received = self._connection.recv_into(view[position:])
            if not received:
                return None
            position += received
        return filled


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main(arguments: list[str]) -> int:
    connection_number, page_number, cache, memory_bytes, cache_bytes, nice, layers_json = arguments
    layers = msgspec.json.decode(layers_json, type=WorkerLayers)
    limit(int(memory_bytes), int(nice))
    connection = socket.socket(fileno=int(connection_number))
    page = ControlPage(int(page_number))
    try:
        read = [*readable_paths(), *map(Path, layers.read)]
        confine(read, [Path(cache), *map(Path, layers.write)], layers.landlock_abi, layers.seccomp)
    except ConfinementFailed as error:
        connection.sendall(encode(Failed(0, ExecutionFault.UNAVAILABLE.value, f"the worker's sandbox: {error}")))
        return 1
    try:
        Worker(connection, page, CompiledCache(Path(cache), int(cache_bytes))).serve()
    except ExecutionError as error:
        connection.sendall(encode(Failed(0, error.reason.value, error.detail)))
        return 1
    except (BrokenPipeError, ConnectionResetError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
