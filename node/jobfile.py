"""`job.toml`: what a user hands to `hearth submit`."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from ..crypto.certificates import CLASSES_MAX
from ..protocol.inputs import INPUT_BYTES_MAX
from ..protocol.quota import COMPARATOR_BYTES_MAX
from ..protocol.records import ResourceLimits
from ..protocol.verification.comparators import parse_comparator
from ..protocol.verification.policy import parse_policy
from .execution.oci_archive import ImageFault, read_image
from .settings.checks import check_command_name, check_printable
from .settings.locate import KeyPath
from .settings.read import read_settings, what_is_wrong
from .settings.schema import Conflict, Key
from .toml import ConfigError, Document, dotted, read_toml

MB = 1024 * 1024
DEFAULT_ENTRY = "hearth_task"
SOURCE_BYTES_MAX = 1 * MB
TASKS_MAX = 10_000_000
# The spec with its arguments travels to every replica and worker.
ARGUMENT_BYTES_MAX = 128 * 1024
MODULE_BYTES_MAX = 256 * MB
OWNERS_MAX = 16
MODULE_SUFFIX = ".wasm"
_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SPAN = re.compile(r"\+([0-9]{1,6})([smhd])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WASM_MODULE = b"\0asm\x01\0\0\0"
_WASM_COMPONENT = b"\0asm\x0d\0\x01\0"


def check_deadline(text: str) -> None:
    """+N with s, m, h or d, or a time as RFC 3339 writes it, with its offset from UTC."""
    if _SPAN.fullmatch(text):
        return
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise ValueError('expected "+2h" (s, m, h, d) or a time like "2026-01-31T18:00:00Z"')
    if moment.year < 2000:
        raise ValueError("long past")


def check_nonce(text: str) -> None:
    if len(text.encode()) > 32:
        raise ValueError("longer than 32 bytes")


def check_verification(text: str) -> None:
    if text:
        parse_policy(text)


def check_comparator(text: str) -> None:
    if not text.endswith(MODULE_SUFFIX):
        parse_comparator(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """What one task may use."""

    memory_mb: Annotated[int, Key("Memory, MiB.", low=1, high=65_536)] = 256
    wall_s: Annotated[float, Key("Time on the wall, s.", low=0.001, high=86_400.0)] = 60.0
    fuel: Annotated[
        int, Key("WebAssembly instructions, about. 0: no limit but `wall_s`.", low=0, high=(1 << 63) - 1)
    ] = 0
    output_kb: Annotated[int, Key("Output with its files, KiB.", low=1, high=1_048_576)] = 1024
    scratch_mb: Annotated[int, Key("Files that it writes, MiB.", low=0, high=65_536)] = 16

    def resources(self) -> ResourceLimits:
        """The same as the job's signed spec says it."""
        return ResourceLimits(
            memory_bytes=self.memory_mb * MB,
            wall_us=int(self.wall_s * 1_000_000),
            fuel=self.fuel,
            output_bytes=self.output_kb * 1024,
            scratch_bytes=self.scratch_mb * MB,
        )


def check_class(text: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.\-]{0,31}", text):
        raise ValueError('no class: lower case letters, digits, "_", ".", "-", at most 32')


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTerms:
    """Whom a confidential job may be shown to; whatever is left out asks for nothing."""

    classes: Annotated[
        tuple[str, ...],
        Key("Classes that their certificates must have, all of them.", items=CLASSES_MAX, check=check_class),
    ] = ()
    owners: Annotated[tuple[str, ...], Key("Owners, of which their certificates must name one.", items=OWNERS_MAX)] = ()
    streak: Annotated[
        int,
        Key(
            "So many right results in a row this client must have found of them, by `hearth trust`.",
            low=0,
            high=1_000_000,
        ),
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSettings:
    """What becomes of the results."""

    folder: Annotated[Path | None, Key("Folder that `hearth results` fills if no other is named.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A whole job file. Of a loaded one, name and tasks are never empty.

    inputs: files of a task's input each, from `inputs_from`, in the order of tasks.  source: what it was read from.
    """

    name: Annotated[str, Key("Name for people.", length=128, check=check_printable, absent="the file's name")] = ""
    runtime: Annotated[
        str,
        Key(
            "`native`: a command that nodes' owners allow, in a sandbox. `oci`: a command in an image that they allow, "
            "in a container. `python`: a function of a Python file, run by a Python that is WebAssembly "
            "(docs/python.md).",
            choices=("wasm", "native", "oci", "python"),
        ),
    ] = "wasm"
    abi: Annotated[
        str,
        Key(
            "`command`: a WASI program, one run a task. `function`: an exported function, many tasks a run.",
            choices=("function", "command"),
        ),
    ] = "command"
    program: Annotated[
        str,
        Key(
            "WebAssembly module, relative to the file; or Python file; or OCI archive of an image; "
            "or the name of the native command."
        ),
    ]
    entry: Annotated[str, Key("Exported function of the `function` ABI; the function of a Python file.", length=64)] = (
        DEFAULT_ENTRY
    )
    arguments: Annotated[
        tuple[str, ...],
        Key(
            "Arguments, 128 KiB in all; of an image: the program and its arguments, or nothing for the image's own. "
            "In native and oci jobs `{index}`, `{count}` stand for the task."
        ),
    ] = ()
    tasks: Annotated[
        int | None,
        Key("Number of tasks; they are numbered from 0.", low=1, high=TASKS_MAX, absent="the number of inputs"),
    ] = None
    inputs_from: Annotated[
        Path | None,
        Key(
            "Folder: each file is the input of one task, in the order of names; hidden files are left out.",
            exists="folder",
        ),
    ] = None
    inputs_lines: Annotated[
        Path | None,
        Key(
            "File: each line, without its end, is the input of one task. Instead of `inputs_from`.",
            exists="file",
        ),
    ] = None
    priority: Annotated[int, Key("0 (volunteer) to 9 (urgent).", low=0, high=9)] = 5
    deadline: Annotated[
        str,
        Key(
            "When results are wanted: `+2h` after the submission (s, m, h, d), or `2026-01-31T18:00:00Z`. What is late "
            "is still done, as work without a deadline.",
            check=check_deadline,
        ),
    ] = ""
    estimate_ms: Annotated[
        float, Key("CPU time of one task, as far as known, ms. 0: unknown.", low=0.0, high=86_400_000.0)
    ] = 0.0
    checkpoint_s: Annotated[
        float,
        Key(
            "Most CPU time between two checkpoints that a task writes into `/ckpt`, s: a heater that gets too warm "
            "moves it on from there. 0: it writes none. Only of the `command` ABI.",
            low=0.0,
            high=86_400.0,
        ),
    ] = 0.0
    price_limit: Annotated[
        float,
        Key(
            "Most that an hour of CPU may cost where nobody wants its heat, in the mesh's currency. It is paid only "
            "while the job is urgent (priority 8, 9) or its deadline is at risk, and not yet over.",
            low=0.0,
            high=1e6,
        ),
    ] = 0.0
    nonce: Annotated[
        str,
        Key("Any text of at most 32 bytes; the same file with another one is another job.", check=check_nonce),
    ] = ""
    verification: Annotated[
        str,
        Key(
            "How results are cross-checked: `none`, `spot(0.05)`, `quorum(2)` to `quorum(8)`, `adaptive`.",
            check=check_verification,
            absent="`adaptive` for `wasm`, `python` or with a `comparator`, else `none`",
        ),
    ] = ""
    comparator: Annotated[
        str,
        Key(
            "When two outputs are the same: `exact`, `pixels` (of PNG, PPM, PGM), `numeric(abs=1e-9, rel=1e-6)`, "
            "`values(rel=1e-9)` (of Python's values), or a WebAssembly module `x.wasm` that says it.",
            length=256,
            check=check_comparator,
        ),
    ] = "exact"
    confidential: Annotated[
        bool, Key("Names, arguments, program, inputs and results are read by the client and the job's workers alone.")
    ] = False
    files: Annotated[
        Mapping[str, Path],
        Key("Inputs that all tasks read, by name. `init` goes to `hearth_init`.", exists="file"),
    ] = field(default_factory=dict)
    limits: Annotated[JobLimits, Key("What one task may use.")] = JobLimits()
    workers: Annotated[WorkerTerms, Key("Whom a confidential job may be shown to.")] = WorkerTerms()
    results: Annotated[ResultSettings, Key("What becomes of the results.")] = ResultSettings()
    folder: Path = Path()
    inputs: tuple[Path, ...] = ()
    source: Document | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.runtime in ("native", "oci") and self.abi != "command":
            raise Conflict("abi", f'"{self.abi}" is not possible for runtime "{self.runtime}"', 'use "command"')
        if self.checkpoint_s and (self.abi != "command" or self.runtime == "python"):
            raise Conflict("checkpoint_s", f'not possible with abi "{self.abi}"', "only a command has a /ckpt")
        if self.runtime == "python" and self.entry == DEFAULT_ENTRY:
            raise Conflict("entry", 'is missing for runtime "python"', "name the function that is called for each task")
        if self.runtime == "python" and self.files:
            raise Conflict("files", "a Python task has no files", "pass what it needs as inputs")
        if self.inputs_from is not None and self.inputs_lines is not None:
            raise Conflict("inputs_lines", "given together with inputs_from", "keep one of the two")
        if self.tasks is None and self.inputs_from is None and self.inputs_lines is None:
            raise Conflict("tasks", "is missing", "give the number of tasks, or inputs_from or inputs_lines")
        if self.confidential and (self.runtime in ("python", "oci") or self.checkpoint_s):
            key = "runtime" if self.runtime in ("python", "oci") else "checkpoint_s"
            raise Conflict(key, "is not for confidential jobs", "their tasks are wasm or native, and do not move")
        if self.confidential and self.comparator.endswith(MODULE_SUFFIX):
            raise Conflict("comparator", "is a module, which who keeps the job would read", "leave confidential out")
        if not self.confidential and self.workers != WorkerTerms():
            raise Conflict("workers", "is for confidential jobs", "add confidential = true, or leave it out")
        if sum(len(argument.encode()) for argument in self.arguments) > ARGUMENT_BYTES_MAX:
            raise Conflict("arguments", f"longer than {ARGUMENT_BYTES_MAX} bytes in all", "put them in [files]")

    def error(self, path: KeyPath, problem: str, hint: str = "") -> ConfigError:
        """What is found to be wrong with a key later on, with its line."""
        if self.source is None:
            return ConfigError(self.folder, 0, dotted(path), problem, hint)
        return self.source.error(path, problem, hint)

    @property
    def module(self) -> Path | None:
        """The WebAssembly module's file; None for another job."""
        return self.folder / self.program if self.runtime == "wasm" else None

    @property
    def image_archive(self) -> Path | None:
        """The OCI archive of a container job's image; None for another job."""
        return self.folder / self.program if self.runtime == "oci" else None

    @property
    def python_file(self) -> Path | None:
        """The file of a Python job; None for another."""
        return self.folder / self.program if self.runtime == "python" else None

    @property
    def comparator_module(self) -> Path | None:
        """The file of a comparator of the job's own."""
        return self.folder / self.comparator if self.comparator.endswith(MODULE_SUFFIX) else None

    @property
    def has_inputs(self) -> bool:
        return self.inputs_from is not None or self.inputs_lines is not None

    def read_inputs(self) -> Iterator[bytes]:
        """Each task's input, in the order of tasks; nothing for a job without. Raises OSError."""
        for path in self.inputs:
            yield path.read_bytes()
        if self.inputs_lines is not None:
            for _, line in _lines(self.inputs_lines):
                yield line

    def deadline_us(self, now_us: int) -> int:
        """Unix microseconds, 0 for none. now_us: time of the submission."""
        if not self.deadline:
            return 0
        span = _SPAN.fullmatch(self.deadline)
        if span:
            return now_us + int(span[1]) * _UNITS_US[span[2]]
        return (datetime.fromisoformat(self.deadline) - _EPOCH) // timedelta(microseconds=1)


def load_job_file(path: Path, *, now_us: int = 0) -> JobFile:
    """The job of a file, its program and inputs looked at. now_us: unix microseconds, for deadlines that are past.

    Raises ConfigError.
    """
    document = read_toml(path)
    job = read_settings(document, JobFile, folder=document.folder, source=document)
    if job.deadline and job.deadline_us(now_us) <= now_us:
        problem = f'"{job.deadline}" is past'
        raise document.error(("deadline",), problem, 'give a later one, "+2h" from now, or none')
    _check_program(document, job)
    if job.comparator_module is not None:
        _check_module(document, "comparator", job.comparator, job.comparator_module, COMPARATOR_BYTES_MAX)
    try:
        job, count = _find_inputs(document, job)
    except OSError as error:
        key = "inputs_from" if job.inputs_from is not None else "inputs_lines"
        raise document.error((key,), f"cannot be read: {error}") from error
    if count is not None and count > TASKS_MAX:
        raise document.error(("tasks",), f"{count} inputs", f"at most {TASKS_MAX} tasks are allowed")
    if count is not None and job.tasks not in (None, count):
        raise document.error(("tasks",), f"{job.tasks}, but there are {count} inputs", "leave tasks out")
    return replace(job, name=job.name or path.stem[:128], tasks=job.tasks if count is None else count)


def _check_python(document: Document, job: JobFile, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            source = opened.read(SOURCE_BYTES_MAX + 1)
        if len(source) > SOURCE_BYTES_MAX:
            raise ValueError(f"longer than {SOURCE_BYTES_MAX} bytes")
        tree = ast.parse(source.decode())
    except OSError as error:
        raise document.error(("program",), f"{job.program} cannot be read: {error.strerror}") from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise document.error(("program",), f"{job.program} is no Python: {error}") from error
    if not any(isinstance(part, ast.FunctionDef) and part.name == job.entry for part in tree.body):
        raise document.error(("entry",), f"{job.program} has no function {job.entry}")


def _check_program(document: Document, job: JobFile) -> None:
    if job.python_file is not None:
        _check_python(document, job, job.python_file)
        return
    if job.image_archive is not None:
        _check_image(document, job, job.image_archive)
        return
    module = job.module
    if module is None:
        try:
            check_command_name(job.program)
        except ValueError as error:
            hint = "native jobs name a command of the nodes' [native.commands]"
            raise document.error(("program",), str(error), hint) from error
        return
    _check_module(document, "program", job.program, module)


def _check_image(document: Document, job: JobFile, archive: Path) -> None:
    try:
        read_image(archive)
    except ImageFault as fault:
        hint = "make it by `podman save --format oci-archive` or `skopeo copy`"
        raise document.error(("program",), f"{job.program} is no image: {fault}", hint) from fault
    except OSError as error:
        raise document.error(("program",), f"{job.program} cannot be read: {error.strerror}") from error


def _check_module(document: Document, key: str, name: str, module: Path, most_bytes: int = MODULE_BYTES_MAX) -> None:
    if not module.is_file():
        hint = "paths are relative to the job file"
        raise document.error((key,), what_is_wrong(name, module, "file"), hint)
    try:
        with module.open("rb") as file:
            head, size_bytes = file.read(8), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise document.error((key,), f"{name} cannot be read: {error.strerror}") from error
    if head == _WASM_COMPONENT:
        raise document.error((key,), f"{name} is a component", "only core modules run")
    if head != _WASM_MODULE:
        hint = "compile it to wasm32-wasi first"
        raise document.error((key,), f"{name} is not a WebAssembly module", hint)
    if size_bytes > most_bytes:
        raise document.error((key,), f"{name} is longer than {most_bytes} bytes")


def _find_inputs(document: Document, job: JobFile) -> tuple[JobFile, int | None]:
    """The job with its input files, and how many tasks they make; None for a job without inputs."""
    if job.inputs_from is not None:
        found = _input_files(document, job.inputs_from)
        return replace(job, inputs=tuple(found)), len(found)
    if job.inputs_lines is None:
        return job, None
    count = 0
    for count, line in _lines(job.inputs_lines):
        if len(line) > INPUT_BYTES_MAX:
            raise _too_long(document, "inputs_lines", f"line {count}")
    if not count:
        raise document.error(("inputs_lines",), f"{job.inputs_lines.name} is empty")
    return job, count


def _input_files(document: Document, folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    found = sorted(visible, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        if not entry.is_file():
            raise document.error(("inputs_from",), f"{entry.name} is no file", "the folder may hold files only")
        if entry.stat().st_size > INPUT_BYTES_MAX:
            raise _too_long(document, "inputs_from", entry.name)
    if not found:
        raise document.error(("inputs_from",), f"there are no files in {folder.name}")
    return [Path(entry.path) for entry in found]


def _too_long(document: Document, key: str, what: str) -> Exception:
    hint = f"at most {INPUT_BYTES_MAX}; larger data that tasks share goes into [files]"
    return document.error((key,), f"{what} is too long for a task's input", hint)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered from 1, without their ends. A line longer than an input may be is cut one byte after that."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(INPUT_BYTES_MAX + 2):
            number += 1
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")
