"""What an executor is asked and what it answers; the same for every runtime."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MAX_BATCH_TASKS = 65_536
MAX_FILES = 256
MAX_ARGUMENTS = 1_024
MAX_TEXT_BYTES = 128 * 1024
MAX_FILE_NAME_BYTES = 128
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z")


class Exit(enum.IntEnum):
    """How a task ended, when the program did not say so itself.

    An exit code >= 0 is the program's own status (0 = success, at most 255); a negative one is ours.
    """

    SUCCESS = 0
    TRAP = -1  # wasm trap (unreachable, out of bounds, division …) or a fatal signal of its own making
    MEMORY = -2  # it needed more than Limits.memory_bytes
    WALL = -3  # it ran longer than Limits.wall_us
    OUTPUT = -4  # more output, or files, than the limits allow; or an output that lies outside of its memory
    FUEL = -5  # it needed more than Limits.fuel
    CANCELLED = -6  # it was not run to its end because we were told to stop
    KILLED = -7  # killed by the system (out of memory, lost child)
    MISSING = -8  # the command, entry or file that it needs is not there


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one task. `fuel` 0 means none (wall_us still holds)."""

    memory_bytes: int = 256 << 20
    wall_us: int = 60_000_000
    fuel: int = 0
    output_bytes: int = 1 << 20
    stderr_bytes: int = 16 << 10
    scratch_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "wall_us", "output_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("fuel", "stderr_bytes", "scratch_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Tasks `first … first + count - 1` of one job.

    runtime: "wasm", "native" or "oci".  abi: "function" or "command" (wasm); the others have only "command".
    program: the module's file, or the image's archive, whose sha256 is `program_digest`; for native and oci the
    allow-list's key is `entry`.
    inputs: one entry a task, or None when the tasks have no input bytes (b"" each).
    files: the job's read-only inputs by name; they appear under /in.
    checkpoint_root: where this node keeps checkpoint folders; None means that the tasks get no /ckpt.
    init: the job's shared bytes, given once to each instance's `hearth_init` (function ABI).
    seed: 32 bytes; clock and randomness of a task derive from (seed, index).
    private: of a confidential job, the folder in memory that its files lie in; nothing of it may reach a disk, nor be
    left in a process that runs other jobs.
    canonical_nans: a module's NaNs are computed as a component's are: the same bits on every processor, but slowly.
    """

    job_id: bytes
    runtime: str
    abi: str
    program: Path
    program_digest: bytes
    first: int
    count: int
    seed: bytes
    entry: str = "hearth_task"
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    inputs: Sequence[bytes] | None = None
    init: bytes = b""
    limits: Limits = Limits()
    checkpoint_root: Path | None = None
    private: Path | None = None
    canonical_nans: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_BATCH_TASKS:
            raise ValueError(f"count must be within 1 and {MAX_BATCH_TASKS}")
        if not 0 <= self.first < 1 << 62:
            raise ValueError("first must be within 0 and 2^62")
        if not 1 <= len(self.seed) <= 64:
            raise ValueError("seed must have within 1 and 64 bytes")
        if self.inputs is not None and len(self.inputs) != self.count:
            raise ValueError("inputs must have one entry a task")
        if len(self.files) > MAX_FILES or not all(map(is_file_name, self.files)):
            raise ValueError(f"files: at most {MAX_FILES}, of plain names (letters, digits, '_', '-', '.')")
        texts = [*self.arguments, *self.environment, *self.environment.values()]
        if len(texts) > MAX_ARGUMENTS or sum(len(text) for text in texts) > MAX_TEXT_BYTES:
            raise ValueError(f"arguments and environment: at most {MAX_ARGUMENTS}, {MAX_TEXT_BYTES} characters")
        if any("\0" in text for text in texts):
            raise ValueError("arguments and environment must not contain NUL")


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """Columns, one entry a task, in order of index.

    exits: see `Exit`.  outputs: b"" unless the exit is >= 0.  stderrs: offset in the batch → the last
    bytes, only where there are any.  fuels: exact and deterministic for wasm, 0 for native.
    cpu_us: CPU time of the task on this machine (never deterministic).

    Output of the "function" ABI: the bytes that were returned. Of "command", native and oci: canonical
    MessagePack of [stdout, {file name: bytes, …}], names sorted, of the files left in /out.
    """

    first: int
    exits: list[int]
    outputs: list[bytes]
    stderrs: dict[int, bytes]
    fuels: list[int]
    cpu_us: list[int]

    def give_back(self, count: int) -> None:
        """Mark what is missing of `count` tasks as not run."""
        missing = count - len(self.exits)
        self.exits.extend([Exit.CANCELLED] * missing)
        self.outputs.extend([b""] * missing)
        self.fuels.extend([0] * missing)
        self.cpu_us.extend([0] * missing)


class ExecutionFault(enum.StrEnum):
    INVALID_MODULE = "invalid_module"
    MISSING_IMPORT = "missing_import"
    WRONG_SIGNATURE = "wrong_signature"
    TOO_BIG = "too_big"
    CHILD_LOST = "child_lost"
    UNAVAILABLE = "unavailable"


class ExecutionError(Exception):
    """The batch could not be run at all. `detail` is one line for the user.

    CHILD_LOST and UNAVAILABLE are this node's fault (another may try); the others are the job's.
    """

    def __init__(self, reason: ExecutionFault, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    @property
    def is_ours(self) -> bool:
        """True where another node, or another try, could succeed."""
        return self.reason in (ExecutionFault.CHILD_LOST, ExecutionFault.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What a module offers and wants. Imports are (module, name); exports are name → kind or signature."""

    digest: bytes
    abis: tuple[str, ...]
    imports: tuple[tuple[str, str], ...]
    exports: Mapping[str, str]
    memory_bytes: int
    compile_us: int


class Executor(Protocol):
    """Runs batches. Any number of `run` may be in flight; they wait for a free place in turn."""

    async def run(self, request: BatchRequest) -> BatchOutcome:
        """Run one batch to its end.

        Raises ExecutionError. Cancelling the surrounding scope stops the running task at once; nothing of
        the batch is returned then, and the executor stays usable.
        """
        ...

    def checkpoint_folder(self, root: Path, job_id: bytes, index: int) -> Path:
        """Where a task finds and leaves its checkpoint. root: of the node's checkpoints."""
        ...

    def set_duty(self, fraction: float) -> None:
        """Share of one core, 0 … 1, that each running task may use from now on; 0 pauses."""
        ...

    def forget_secrets(self, job_id: bytes) -> None:
        """A confidential job's key is wiped: no process that ran it is used again, or left idle."""
        ...

    async def aclose(self) -> None:
        """Stop everything that runs and leave no process behind."""
        ...


def is_file_name(name: str) -> bool:
    """Whether `name` is a plain file name that is safe to make in a folder on any node."""
    return len(name) <= MAX_FILE_NAME_BYTES and _FILE_NAME.match(name) is not None
