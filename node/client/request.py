"""What a user asks to be computed, and how it becomes a signed spec with its blobs."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...protocol.inputs import input_packs
from ...protocol.records import FileRef, InputPack, JobSpec, ResourceLimits
from ..jobfile import JobFile
from ..storage.blobs import INLINE_BYTES, BlobStore
from .errors import ClientError

# Inputs of a job this small ride in the spec itself, which saves a transfer.
INLINE_INPUTS_BYTES_MAX = 48 * 1024
INLINE_INPUTS_MAX = 1024
_CHUNK_BYTES = 1 << 20
_NO_PROGRAM = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job in a program's own terms.

    program: a module's bytes or path (wasm), or the name of a native command.  inputs: bytes of each task, in order;
    with None, `tasks` says how many there are.  files: inputs that all tasks read, by name, as bytes or paths.
    nonce: jobs that are equal in everything are one job; another nonce makes another one.  verification: "none",
    "spot(0.05)", "quorum(2)", "adaptive"; empty for the runtime's default.  comparator: "exact", "pixels" or
    "numeric(abs=…, rel=…)".  checkpoint_us, price_limit_micro: as of `JobSpec`.
    """

    program: bytes | Path | str
    name: str = "job"
    runtime: str = "wasm"
    abi: str = "function"
    entry: str = "hearth_task"
    arguments: Sequence[str] = ()
    tasks: int | None = None
    inputs: Iterable[bytes] | None = None
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()
    priority: int = 5
    estimate_us: int = 0
    deadline_us: int = 0
    nonce: bytes = b""
    verification: str = ""
    comparator: str = "exact"
    checkpoint_us: int = 0
    price_limit_micro: int = 0

    def is_small(self) -> bool:
        """Whether `build_spec` takes less time than a hop to a thread and back."""
        if self.files or not isinstance(self.inputs, Sequence | None) or len(self.inputs or ()) > INLINE_INPUTS_MAX:
            return False
        if sum(map(len, self.inputs or ())) > INLINE_INPUTS_BYTES_MAX:
            return False
        if self.runtime != "wasm":
            return True
        if isinstance(self.program, bytes):
            return len(self.program) <= INLINE_BYTES
        try:
            found = os.stat(self.program)
            return stat.S_ISREG(found.st_mode) and found.st_size <= INLINE_BYTES
        except OSError:
            return False

    @classmethod
    def from_file(cls, job: JobFile, *, now_us: int, again: bool = False) -> JobRequest:
        """From a checked job file. now_us: unix microseconds, for deadlines.  again: as a new job.

        For a Python job the component is built the first time: call it from a thread. Raises ClientError then.
        """
        if job.python_file is not None:
            return cls._of_python(job, job.python_file, now_us, again)
        assert job.module is not None or job.runtime == "native"
        return cls(
            program=job.module if job.module is not None else job.program,
            name=job.name,
            runtime=job.runtime,
            abi=job.abi,
            entry=job.entry,
            arguments=job.arguments,
            tasks=job.tasks,
            inputs=job.read_inputs() if job.has_inputs else None,
            files=dict(job.files),
            limits=job.limits.resources(),
            priority=job.priority,
            estimate_us=int(job.estimate_ms * 1000),
            deadline_us=job.deadline_us(now_us),
            verification=job.verification,
            comparator=job.comparator,
            checkpoint_us=int(job.checkpoint_s * 1_000_000),
            price_limit_micro=round(job.price_limit * 1_000_000),
            nonce=os.urandom(16) if again else job.nonce.encode(),
        )

    @classmethod
    def _of_python(cls, job: JobFile, file: Path, now_us: int, again: bool) -> JobRequest:
        from ..python.guest.hearth_values import pack
        from .python_job import python_source_request

        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(f"{file}: cannot be read: {error}") from error
        return python_source_request(
            source,
            job.entry,
            inputs=map(pack, job.read_inputs()) if job.has_inputs else None,
            tasks=job.tasks,
            name=job.name,
            limits=job.limits.resources(),
            priority=job.priority,
            estimate_us=int(job.estimate_ms * 1000),
            deadline_us=job.deadline_us(now_us),
            verification=job.verification,
            comparator=job.comparator,
            nonce=os.urandom(16) if again else job.nonce.encode(),
        )


def build_spec(request: JobRequest, mesh_id: bytes, store: BlobStore, pin: bytes) -> JobSpec:
    """The request as a spec whose blobs are in the store, pinned. Reads files: call it from a thread if they are large.

    Raises ClientError, OSError, StorageError.
    """
    files = tuple(FileRef(name, *_put(content, store, pin)) for name, content in sorted(request.files.items()))
    program, program_bytes = _NO_PROGRAM, 0
    if request.runtime == "wasm":
        source = Path(request.program) if isinstance(request.program, str) else request.program
        program, program_bytes = _put(source, store, pin)
    inline: tuple[bytes, ...] = ()
    packs: tuple[InputPack, ...] = ()
    tasks = request.tasks
    if request.inputs is not None:
        inline, packs = _inputs(request.inputs, store, pin)
        count = len(inline) if inline else sum(pack.count for pack in packs)
        if tasks is not None and tasks != count:
            raise ClientError(f"{count} inputs for {tasks} tasks; give one input a task, or leave tasks out")
        tasks = count
    if not tasks:
        raise ClientError("a job needs at least one task: give tasks or inputs")
    return JobSpec(
        version=1,
        mesh_id=mesh_id,
        nonce=request.nonce,
        name=request.name,
        runtime=request.runtime,
        abi=request.abi,
        program=program,
        program_bytes=program_bytes,
        command=str(request.program) if request.runtime == "native" else "",
        entry=request.entry,
        arguments=tuple(request.arguments),
        tasks=tasks,
        files=files,
        inline_inputs=inline,
        packs=packs,
        limits=request.limits,
        priority=request.priority,
        estimate_us=request.estimate_us,
        deadline_us=request.deadline_us,
        verification=policy_of(request),
        comparator=request.comparator,
        checkpoint_us=request.checkpoint_us,
        price_limit_micro=request.price_limit_micro,
    )


def policy_of(request: JobRequest) -> str:
    """The policy that is asked for, or what can be checked without asking: bytes of WebAssembly are the same anywhere.

    A native command's may not be; with a comparator its owner says when they count as the same.
    """
    if request.verification:
        return request.verification
    return "adaptive" if request.runtime == "wasm" or request.comparator != "exact" else "none"


def _put(content: bytes | Path, store: BlobStore, pin: bytes) -> tuple[bytes, int]:
    """Into the store, in parts if it is a file; (digest, size)."""
    if isinstance(content, bytes):
        digest = store.put_bytes(content, durable=False)
        size = len(content)
    else:
        try:
            with content.open("rb") as source:
                part = source.read(_CHUNK_BYTES)
                if len(part) < _CHUNK_BYTES:
                    return _put(part, store, pin)
                size = 0
                with store.writer(durable=False) as writer:
                    while part:
                        writer.write(part)
                        size += len(part)
                        part = source.read(_CHUNK_BYTES)
                    digest = writer.finish()
        except OSError as error:
            raise ClientError(f"{content}: cannot be read: {error.strerror}") from error
    store.pin(digest, pin)
    return digest, size


def _inputs(inputs: Iterable[bytes], store: BlobStore, pin: bytes) -> tuple[tuple[bytes, ...], tuple[InputPack, ...]]:
    """Inline if they are few and small, else in packs."""
    head: list[bytes] = []
    size = 0
    source = iter(inputs)
    for item in source:
        head.append(item)
        size += len(item)
        if size > INLINE_INPUTS_BYTES_MAX or len(head) > INLINE_INPUTS_MAX:
            break
    else:
        return tuple(head), ()

    def everything() -> Iterable[bytes]:
        yield from head
        yield from source

    packs = []
    for first, count, data in input_packs(everything()):
        digest, pack_bytes = _put(data, store, pin)
        packs.append(InputPack(digest, first, count, pack_bytes))
    return (), tuple(packs)
