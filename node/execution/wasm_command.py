"""The "command" ABI: a WASI program, `_start` in a fresh instance for each task."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .outcome import ExecutionError, ExecutionFault, Exit
from .wasm_abi import START
from .wasm_batch import Batch
from .wasm_engine import Guest, Program, Stop
from .wasm_files import CheckpointFolder, FileTree
from .wasm_wasi import TaskWorld
from .wasm_wire import split, unpack_column

PROGRAM_NAME = "task"


def run_commands(batch: Batch) -> None:
    """Fill the batch's columns, up to a cancel."""
    run = batch.run
    inputs = split(run.inputs, unpack_column("I", run.lengths, run.count)) if run.lengths else [b""] * run.count
    for index, standard_input in enumerate(inputs, run.first):
        exit, output, fuel = _run_one(batch, index, standard_input)
        if batch.machinery.pacer.stop is Exit.CANCELLED:
            return
        batch.columns.add(exit, output, fuel)
        if batch.columns.is_full():
            return


def _run_one(batch: Batch, index: int, standard_input: bytes) -> tuple[int, bytes, int]:
    """Exit, output and fuel of one task; its stderr is noted."""
    run, machinery = batch.run, batch.machinery
    machinery.pacer.task += 1
    machinery.pacer.stop = None if machinery.pacer.stop is Exit.WALL else machinery.pacer.stop
    checkpoint = CheckpointFolder(Path(run.checkpoints) / str(index)) if run.checkpoints else None
    tree = _tree(batch, checkpoint)
    guest = Guest(machinery.loader.engine, run.memory_bytes, machinery.pacer.attach)
    try:
        world = TaskWorld(
            guest,
            run.seed,
            index,
            tree,
            arguments=(PROGRAM_NAME, str(index), *run.arguments),
            environment=run.environment,
            standard_input=standard_input,
            output_bytes=run.output_bytes,
            stderr_bytes=run.stderr_bytes,
        )
        machinery.host.world = world
        assert isinstance(batch.program, Program)
        stop = guest.start(batch.program, batch.fuel_budget) or _call_start(guest)
        if stop is not None:
            stop = batch.why(stop)
        fuel, stop = batch.judge_fuel(batch.fuel_budget - guest.fuel_left(), stop)
        output = _pack(world, run.output_bytes) if stop is None or stop.exit >= 0 else b""
        if isinstance(output, Stop):
            stop, output = output, b""
    finally:
        guest.close()
    exit = Exit.SUCCESS if stop is None else stop.exit
    if checkpoint is not None and exit == Exit.SUCCESS:
        checkpoint.discard()
    batch.columns.note(world.take_stderr(), stop, run.stderr_bytes)
    return exit, output, fuel


def _tree(batch: Batch, checkpoint: CheckpointFolder | None) -> FileTree:
    try:
        return FileTree(batch.files, batch.run.scratch_bytes, checkpoint)
    except OSError as error:
        raise ExecutionError(ExecutionFault.UNAVAILABLE, f"checkpoint folder: {error.strerror}") from error


def _call_start(guest: Guest) -> Stop | None:
    start = guest.function(START)
    assert start is not None, "the shape was checked"
    return guest.call1(start, 0)


def _pack(world: TaskWorld, most_bytes: int) -> bytes | Stop:
    """[stdout, {name: bytes}], or the reason why that is too much."""
    assert world.tree is not None
    files = dict(world.tree.output_files())
    size = len(world.stdout) + sum(map(len, files.values()))
    if size <= most_bytes:
        packed = msgspec.msgpack.encode([bytes(world.stdout), files])
        if len(packed) <= most_bytes:
            return packed
    return Stop(Exit.OUTPUT, f"{size} bytes of output and files, at most {most_bytes} are taken, packed")
