"""What a user asks to be computed, and how it becomes a signed spec with its blobs."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ...protocol.inputs import INPUT_BYTES_MAX, input_packs
from ...protocol.quota import COMPARATOR_BYTES_MAX
from ...protocol.records import FileRef, InputPack, JobSpec, ResourceLimits, Secrecy
from ..execution.oci_archive import ImageFault, read_image
from ..execution.outcome import ExecutionError
from ..execution.wasm_abi import COMPONENT_HEAD, misfit
from ..execution.wasm_imports import unoffered
from ..execution.wasm_sections import MAX_MODULE_BYTES, read_shape
from ..jobfile import JobFile
from ..storage.blobs import INLINE_BYTES, BlobStore
from .errors import ClientError
from .peers_view import as_peers_read, mistyped

# Inputs of a job this small ride in the spec itself, which saves a transfer.
INLINE_INPUTS_BYTES_MAX = 48 * 1024
INLINE_INPUTS_MAX = 1024
_CHUNK_BYTES = 1 << 20
# Told of so many bytes more.
Told = Callable[[int], None]
NO_PROGRAM = hashlib.sha256(b"").digest()
NO_TASKS = "a job needs at least one task: give tasks or inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job in a program's own terms.

    program: a module's bytes or path (wasm), the name of a native command, or the path of an image's OCI archive (oci).
    inputs: bytes of each task, in order;
    with None, `tasks` says how many there are.  files: inputs that all tasks read, by name, as bytes or paths.
    nonce: jobs that are equal in everything are one job; another nonce makes another one.  verification: "none",
    "spot(0.05)", "quorum(2)", "adaptive"; empty for the runtime's default.  comparator: "exact", "pixels",
    "numeric(abs=…, rel=…)", "values(abs=…, rel=…)", or a module (bytes or path) that says when two outputs are the
    same.
    checkpoint_us, price_limit_micro: as of `JobSpec`.
    confidential: names, program, inputs and results are read by this client and the workers alone.  trust_classes,
    trust_owners: what the workers' certificates have to say; empty for any.  trust_streak: so many right results in a
    row this client has to have found of them.
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
    comparator: str | bytes | Path = "exact"
    checkpoint_us: int = 0
    price_limit_micro: int = 0
    confidential: bool = False
    trust_classes: tuple[str, ...] = ()
    trust_owners: tuple[str, ...] = ()
    trust_streak: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        if not self.confidential and (self.trust_classes or self.trust_owners or self.trust_streak):
            raise ClientError("trust_classes, trust_owners and trust_streak are for confidential jobs")
        if self.confidential and not isinstance(self.comparator, str):
            raise ClientError("a confidential job's comparator cannot be a module: who keeps the job would read it")
        if self.confidential and (self.runtime in ("python", "oci") or self.checkpoint_us):
            raise ClientError(
                "a confidential job has no Python runtime and no image, and its tasks do not move: "
                "leave out checkpoint_us"
            )
        if self.runtime != "wasm" and self.abi != "command":
            raise ClientError(f'runtime "{self.runtime}" has the abi "command" only')
        self._check_words()
        if self.confidential and isinstance(self.inputs, Iterator):
            # They are gone through twice.
            object.__setattr__(self, "inputs", tuple(self.inputs))

    def _check_types(self) -> None:
        """Those that the spec does not show. Raises ClientError."""
        for name in ("program", "comparator"):
            if isinstance(getattr(self, name), bytearray):
                object.__setattr__(self, name, bytes(getattr(self, name)))
        for name, kinds, wanted in _KINDS:
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise mistyped(name, value, wanted)
        for name in ("arguments", "inputs", "trust_classes", "trust_owners"):
            value = getattr(self, name)
            if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable | None):
                raise mistyped(name, value, "a sequence")
            if name != "inputs":
                object.__setattr__(self, name, tuple(() if value is None else value))
        for name, content in self.files.items():
            if not isinstance(name, str):
                raise mistyped("files", name, "names that are text")
            if not isinstance(content, bytes | Path):
                raise mistyped(f'files["{name}"]', content, "bytes or a Path")

    def _check_words(self) -> None:
        """All that the spec will say but for blobs, before any is read. Raises ClientError."""
        if self.inputs is None and self.tasks in (None, 0):
            raise ClientError(NO_TASKS)
        tasks = 1 if self.tasks is None else self.tasks
        files = tuple(FileRef(name, NO_PROGRAM, 0) for name in sorted(self.files))
        command = str(self.program) if self.runtime == "native" else ""
        comparator = self.comparator if isinstance(self.comparator, str) else ""
        secrecy = None
        if self.confidential:
            secrecy = Secrecy(NO_PROGRAM, NO_PROGRAM, b"", self.trust_classes, self.trust_owners)
        as_peers_read(_said(self, NO_PROGRAM, (NO_PROGRAM, 0, command), tasks, files, (), (), comparator, secrecy))
        texts = [("program", self.program), ("comparator", self.comparator)]
        texts += [(f"arguments[{number}]", argument) for number, argument in enumerate(self.arguments)]
        texts += [(f'files["{name}"]', content) for name, content in self.files.items()]
        for name, text in texts:
            if isinstance(text, str | Path) and "\0" in str(text):
                raise mistyped(name, str(text), "text without a NUL character")

    def is_small(self) -> bool:
        """Whether `build_spec` takes less time than a hop to a thread and back."""
        if self.files or not isinstance(self.comparator, str) or self.runtime == "oci":
            return False
        if not isinstance(self.inputs, Sequence | None) or len(self.inputs or ()) > INLINE_INPUTS_MAX:
            return False
        if sum(map(size_of, self.inputs or ())) > INLINE_INPUTS_BYTES_MAX:
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

        For a Python job the component is built the first time: call it from a thread. Raises ClientError if that
        fails.
        """
        options: dict[str, Any] = {
            "name": job.name,
            "tasks": job.tasks,
            "limits": job.limits.resources(),
            "priority": job.priority,
            "estimate_us": int(job.estimate_ms * 1000),
            "deadline_us": job.deadline_us(now_us),
            "verification": job.verification,
            "comparator": job.comparator_module or job.comparator,
            "price_limit_micro": round(job.price_limit * 1_000_000),
            "nonce": os.urandom(16) if again else job.nonce.encode(),
        }
        if job.python_file is not None:
            return cls._of_python(job, job.python_file, options)
        return cls(
            program=job.module or job.image_archive or job.program,
            runtime=job.runtime,
            abi=job.abi,
            entry=job.entry,
            arguments=job.arguments,
            inputs=JobInputs(job) if job.has_inputs else None,
            files=dict(job.files),
            checkpoint_us=int(job.checkpoint_s * 1_000_000),
            confidential=job.confidential,
            trust_classes=job.workers.classes,
            trust_owners=job.workers.owners,
            trust_streak=job.workers.streak,
            **options,
        )

    @classmethod
    def _of_python(cls, job: JobFile, file: Path, options: Mapping[str, Any]) -> JobRequest:
        from ..python.guest.hearth_values import pack
        from .python_job import python_source_request

        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(f"{file}: cannot be read: {error}") from error
        inputs = JobInputs(job, pack) if job.has_inputs else None
        return python_source_request(source, job.entry, inputs=inputs, **options)


class JobInputs:
    """Those of a job file, read anew each time. packed: what becomes of each."""

    def __init__(self, job: JobFile, packed: Callable[[bytes], bytes] = bytes) -> None:
        self._job = job
        self._packed = packed

    def __iter__(self) -> Iterator[bytes]:
        return map(self._packed, self._job.read_inputs())

    def size_bytes(self) -> int:
        """Of their files. Raises OSError."""
        lines = self._job.inputs_lines
        return sum(path.stat().st_size for path in (*self._job.inputs, *((lines,) if lines else ())))


def build_spec(
    request: JobRequest, mesh_id: bytes, store: BlobStore, pin: bytes, told: Told = lambda part_bytes: None
) -> JobSpec:
    """The request as a spec whose blobs are in the store, pinned. Reads files: call it from a thread if they are large.

    told: of each part of a large file, and each pack of inputs, that was written; what it raises ends the copy, which
    leaves no half of a file behind. Raises ClientError, OSError, StorageError.
    """
    files = tuple(FileRef(name, *_put(content, store, pin, told)) for name, content in sorted(request.files.items()))
    program, program_bytes, command = NO_PROGRAM, 0, ""
    if request.runtime == "native":
        command = str(request.program)
    else:
        source = Path(request.program) if isinstance(request.program, str) else request.program
        command = _image_digest(source) if request.runtime == "oci" else ""
        program, program_bytes = _put(source, store, pin, told)
    inline: tuple[bytes, ...] = ()
    packs: tuple[InputPack, ...] = ()
    if request.inputs is not None:
        inline, packs = _inputs(request.inputs, store, pin, told)
    comparator = _comparator(request, store, pin)
    return spec_of(request, mesh_id, (program, program_bytes, command), files, inline, packs, comparator)


def spec_of(
    request: JobRequest,
    mesh_id: bytes,
    program: tuple[bytes, int, str],
    files: tuple[FileRef, ...],
    inline: tuple[bytes, ...],
    packs: tuple[InputPack, ...],
    comparator: str,
) -> JobSpec:
    """What a request says, with what became of its blobs. program: its digest, its size in bytes, and what nodes
    know it by if that is something else."""
    tasks = task_count(request, inline, packs)
    return as_peers_read(_said(request, mesh_id, program, tasks, files, inline, packs, comparator, None))


def _said(
    request: JobRequest,
    mesh_id: bytes,
    program: tuple[bytes, int, str],
    tasks: int,
    files: tuple[FileRef, ...],
    inline: tuple[bytes, ...],
    packs: tuple[InputPack, ...],
    comparator: str,
    secrecy: Secrecy | None,
) -> JobSpec:
    """Unchecked."""
    return JobSpec(
        version=1,
        mesh_id=mesh_id,
        nonce=request.nonce,
        name=request.name,
        runtime=request.runtime,
        abi=request.abi,
        program=program[0],
        program_bytes=program[1],
        command=program[2],
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
        comparator=comparator,
        checkpoint_us=request.checkpoint_us,
        price_limit_micro=request.price_limit_micro,
        secrecy=secrecy,
    )


def check_module(request: JobRequest) -> None:
    """Whether a node could run the module, as far as its sections say; it may be no valid code all the same. A
    component, as Python functions come in, has other sections: nodes look at those.

    Raises ClientError.
    """
    if request.runtime != "wasm":
        return
    source = Path(request.program) if isinstance(request.program, str) else request.program
    module = _module("program", source, MAX_MODULE_BYTES)
    if module.startswith(COMPONENT_HEAD):
        return
    try:
        shape = read_shape(module)
    except ExecutionError as error:
        raise ClientError(f"program: {error.detail}") from error
    problem = unoffered(shape.imports) or misfit(shape.exports, request.abi, request.entry)
    if problem is not None:
        raise ClientError(f"program: {problem}")
    if shape.memory_bytes > request.limits.memory_bytes:
        raise ClientError(
            f"limits.memory_bytes: {request.limits.memory_bytes}, but the module starts with {shape.memory_bytes}"
        )


def _module(name: str, source: bytes | Path, most_bytes: int) -> bytes:
    """The bytes of a module, looked at before they are read. Raises ClientError."""
    if isinstance(source, Path):
        try:
            # Without waiting for whoever writes into a named pipe.
            with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ClientError(f"{name}: {source} is no regular file")
                size_bytes, module = found.st_size, b""
                if size_bytes <= most_bytes:
                    module = file.read(most_bytes + 1)
        except OSError as error:
            raise ClientError(f"{source}: cannot be read: {error.strerror}") from error
    else:
        size_bytes, module = len(source), source
    if max(size_bytes, len(module)) > most_bytes:
        raise ClientError(f"{name}: a module of {max(size_bytes, len(module))} bytes, at most {most_bytes} are taken")
    return module


def _image_digest(source: bytes | Path) -> str:
    """Of the image in an OCI archive. Raises ClientError."""
    if isinstance(source, bytes):
        raise ClientError("an image is given by the path of its archive")
    try:
        return read_image(source).digest
    except ImageFault as fault:
        raise ClientError(f"{source}: {fault}") from fault
    except OSError as error:
        raise ClientError(f"{source}: cannot be read: {error.strerror}") from error


def _comparator(request: JobRequest, store: BlobStore, pin: bytes) -> str:
    """As the spec has it: a module by its digest."""
    if isinstance(request.comparator, str):
        return request.comparator
    digest, _ = _put(_module("comparator", request.comparator, COMPARATOR_BYTES_MAX), store, pin)
    return f"wasm({digest.hex()})"


def task_count(request: JobRequest, inline: Sequence[bytes], packs: Sequence[InputPack]) -> int:
    """Of a request whose inputs became these. Raises ClientError."""
    tasks = request.tasks
    if request.inputs is not None:
        count = len(inline) if inline else sum(pack.count for pack in packs)
        if tasks is not None and tasks != count:
            raise ClientError(f"{count} inputs for {tasks} tasks; give one input a task, or leave tasks out")
        tasks = count
    if not tasks:
        raise ClientError(NO_TASKS)
    return tasks


def policy_of(request: JobRequest) -> str:
    """The policy that is asked for, or what can be checked without asking: bytes of WebAssembly are the same anywhere.

    A native command's may not be; with a comparator its owner says when they count as the same.
    """
    if request.verification:
        return request.verification
    return "adaptive" if request.runtime == "wasm" or request.comparator != "exact" else "none"


def _put(
    content: bytes | Path, store: BlobStore, pin: bytes, told: Told = lambda part_bytes: None
) -> tuple[bytes, int]:
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
                        told(len(part))
                        size += len(part)
                        part = source.read(_CHUNK_BYTES)
                    digest = writer.finish()
        except OSError as error:
            raise ClientError(f"{content}: cannot be read: {error.strerror}") from error
    if not store.pin(digest, pin):
        # A submission that was given up took it away just now; what comes is pinned on arrival.
        return _put(content, store, pin, told)
    return digest, size


def _inputs(
    inputs: Iterable[bytes], store: BlobStore, pin: bytes, told: Told
) -> tuple[tuple[bytes, ...], tuple[InputPack, ...]]:
    """Inline if they are few and small, else in packs."""
    head, everything = inline_or_all(inputs, INLINE_INPUTS_MAX, INLINE_INPUTS_BYTES_MAX)
    if everything is None:
        return tuple(head), ()
    packs = []
    for first, count, data in input_packs(everything):
        digest, pack_bytes = _put(data, store, pin)
        told(pack_bytes)
        packs.append(InputPack(digest, first, count, pack_bytes))
    return (), tuple(packs)


def inline_or_all(
    inputs: Iterable[bytes], items_max: int, bytes_max: int, overhead_bytes: int = 0
) -> tuple[list[bytes], Iterator[bytes] | None]:
    """All of them and None if they fit the bounds, each a little longer; else some, and all of them anew."""
    head: list[bytes] = []
    size = 0
    source = only_bytes(inputs)
    for item in source:
        head.append(item)
        size += len(item) + overhead_bytes
        if size > bytes_max or len(head) > items_max:
            return head, chain(head, source)
    return head, None


def only_bytes(inputs: Iterable[bytes]) -> Iterator[bytes]:
    """Raises ClientError at the first that is something else."""
    for index, item in enumerate(inputs):
        if not isinstance(item, bytes | bytearray | memoryview):
            raise mistyped(f"inputs[{index}]", item, "bytes")
        if size_of(item) > INPUT_BYTES_MAX:
            hint = "larger data that tasks share goes into files"
            raise ClientError(f"inputs[{index}]: {size_of(item)} bytes, at most {INPUT_BYTES_MAX} fit; {hint}")
        yield bytes(item)


def size_of(item: object) -> int:
    """Bytes of an input; 0 of what is none."""
    if isinstance(item, memoryview):
        return item.nbytes
    return len(item) if isinstance(item, bytes | bytearray) else 0


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("program", bytes | Path | str, "bytes, a Path or a name"),
    ("comparator", bytes | Path | str, "bytes, a Path or a name"),
    ("files", Mapping, "a mapping of names"),
    ("limits", ResourceLimits, "ResourceLimits"),
    ("confidential", bool, "True or False"),
    ("trust_streak", int, "a number"),
)
