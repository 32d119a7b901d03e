"""Verified results as files, in a folder that a later run can complete.

    0007.out                     output of task 7 (function ABI); 0007.err: the end of its standard error
    0007/stdout, 0007/<file>     of a program: standard output, and what it left in /out; 0007/stderr
    results.jsonl                one line a task: exit code, worker, digest, fuel, CPU time, batch
    proofs/                      what a third party needs to check all this (proof_files.py)
    job.json                     which job this is
    .gitignore                   git leaves the folder alone

A task's line is written after its files. Lines say the digests, so a run that resumes trusts no file that it
has not hashed; whatever does not match is fetched again. The first line of a task names the batch that was, or will
be, signed for: a client accepts a task once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.intervals import IntervalSet
from ...protocol.records import JobSpec
from ..client import Result
from ..client.job import SignedPart, VerifiedBatch
from ..execution.outcome import is_file_name
from .errors import UserError
from .proof_files import (
    DamagedRecords,
    batch_path,
    comparator_path,
    encode_records,
    mesh_path,
    read_records,
    records_path,
)

# A confidential result that cannot be opened counts as failed, with this code.
SPOILED_EXIT = -9
_OWN_NAMES = ("stdout", "stderr", "output", "files")


class ResultsFolder:
    """Not safe for two processes at a time."""

    def __init__(self, root: Path, job_id: bytes, spec: JobSpec) -> None:
        """Makes the folder, or takes up one of the same job. Raises UserError."""
        self.root = root
        self.tasks = spec.tasks
        self.done = IntervalSet()
        self.failed: dict[int, int] = {}
        self._signed: dict[int, bytes] = {}
        self._job_id = job_id
        self._programs = spec.abi != "function"
        self._spec = spec
        self._journal = root / "results.jsonl"
        if root.exists() and not root.is_dir():
            raise UserError(f"{root}: is a file, and results go to a folder; name another with --folder")
        try:
            (root / "proofs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{root}: cannot be made: {error.strerror}; name another with --folder") from error
        try:
            self._claim(spec)
            self._resume()
        except OSError as error:
            raise UserError(f"{error.filename or root}: {error.strerror}") from error

    def have(self) -> list[tuple[int, int]]:
        """The tasks that are here, as [lo, hi)."""
        return list(self.done)

    def signed(self) -> list[SignedPart]:
        """Which batch each task is accepted from: [lo, hi) and the batch's id; also where its file was damaged."""
        found: list[SignedPart] = []
        for index in sorted(self._signed):
            batch_id = self._signed[index]
            if found and found[-1][1:] == (index, batch_id):
                found[-1] = (found[-1][0], index + 1, batch_id)
            else:
                found.append((index, index + 1, batch_id))
        return found

    def batch(self, batch_id: bytes) -> tuple[bytes, bytes] | None:
        """Header and columns of a batch that a result here came in; None if they are not here."""
        try:
            header, columns = (
                batch_path(self.root, batch_id.hex(), part).read_bytes() for part in ("header", "columns")
            )
        except OSError:
            return None
        return header, columns

    def add(self, taken: VerifiedBatch, results: Sequence[Result]) -> None:
        """Keep a batch's results: files first, then their lines, on disk when it returns. Raises UserError."""
        try:
            batch = taken.header.id.hex()
            keys = dict(taken.keys)
            if taken.opened is not None:
                keys[taken.header.id] = taken.opened.key
            for header, columns in ((taken.header, taken.columns), *taken.evidence):
                # The header last: where it is, its proof is whole.
                self._put(batch_path(self.root, header.id.hex(), "columns"), columns, durable=True)
                if keys.get(header.id):
                    self._put(batch_path(self.root, header.id.hex(), "key"), keys[header.id], durable=True)
                self._put(batch_path(self.root, header.id.hex(), "header"), header.raw, durable=True)
            lines = [self._keep(result, batch) for result in results]
            with self._journal.open("ab") as journal:
                journal.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise UserError(f"{error.filename or self.root}: {error.strerror}; what is here stays usable") from error
        for result in results:
            self._count(result.index, _ending(result.exit_code, result.spoiled))
            self._signed.setdefault(result.index, taken.header.id)

    def add_comparator(self, module: bytes) -> None:
        """The job's own comparator, to judge the proofs with."""
        try:
            self._put(comparator_path(self.root), module, durable=True)
        except OSError as error:
            raise UserError(f"{error.filename or self.root}: {error.strerror}; what is here stays usable") from error

    def add_proofs(self, mesh: bytes, records: Sequence[bytes]) -> None:
        """The records that show what was submitted, asked for and accepted, beside those of earlier runs."""
        try:
            self._put(mesh_path(self.root), mesh, durable=True)
            try:
                held = read_records(self.root)
            except DamagedRecords:
                held = []
            self._put(records_path(self.root), encode_records((*held, *records)), durable=True)
        except OSError as error:
            raise UserError(f"{error.filename or self.root}: {error.strerror}; what is here stays usable") from error

    # -- keeping -------------------------------------------------------------------------------------------

    def _keep(self, result: Result, batch: str) -> dict[str, Any]:
        line: dict[str, Any] = {
            "index": result.index,
            "exit": result.exit_code,
            "worker": result.worker,
            "sha256": sha256(result.output).hexdigest(),
            "size_bytes": len(result.output),
            "fuel": result.fuel,
            "cpu_us": result.cpu_us,
            "batch": batch,
        }
        if result.spoiled:
            line["spoiled"] = True
        if self._programs:
            line["files"] = self._keep_program(result)
            stderr = self._place(result.index) / "stderr"
        else:
            self._put(self._place(result.index), result.output)
            stderr = self._place(result.index).with_suffix(".err")
            if not result.stderr:
                stderr.unlink(missing_ok=True)
        if result.stderr:
            line["stderr_bytes"] = len(result.stderr)
            self._put(stderr, result.stderr)
        return line

    def _keep_program(self, result: Result) -> list[str] | None:
        """Names of its files; None where the output is empty, or not of a program's form and kept as one piece."""
        place = self._place(result.index)
        place.mkdir(exist_ok=True)
        if not result.output:
            return None
        stdout, files = result.stdout, result.files
        if _pack(stdout, files) != result.output or not all(map(is_file_name, files)):
            self._put(place / "output", result.output)
            return None
        self._put(place / "stdout", stdout)
        for name, content in files.items():
            target = place / _stored_name(name)
            target.parent.mkdir(exist_ok=True)
            self._put(target, content)
        return list(files)

    def _place(self, index: int) -> Path:
        return place_of(self.root, index, self._spec)

    def _put(self, path: Path, content: bytes, *, durable: bool = False) -> None:
        fresh = path.with_name(f".{path.name}.part")
        with fresh.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)

    def _count(self, index: int, exit_code: int) -> None:
        self.done.add(index, index + 1)
        self.failed.pop(index, None)
        if exit_code:
            self.failed[index] = exit_code

    # -- resuming ------------------------------------------------------------------------------------------

    def _claim(self, spec: JobSpec) -> None:
        path = self.root / "job.json"
        mine = {"job": self._job_id.hex(), "mesh": spec.mesh_id.hex(), "name": spec.name, "tasks": spec.tasks}
        mine["abi"] = spec.abi
        try:
            held = json.loads(path.read_bytes())
        except FileNotFoundError:
            held = None
        except ValueError:
            raise UserError(f"{path}: damaged; choose another --folder") from None
        if held is None:
            # Results are no part of the project in whose folder somebody works; who wants them in it removes this.
            self._put(self.root / ".gitignore", b"*\n")
            self._put(path, json.dumps(mine).encode() + b"\n", durable=True)
        elif not isinstance(held, dict) or held.get("job") != mine["job"]:
            raise UserError(f"{self.root}: holds the results of another job; choose another --folder")

    def _resume(self) -> None:
        try:
            content = self._journal.read_bytes()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):  # the last run ended in the middle of a line
            with self._journal.open("r+b") as journal:
                journal.truncate(len(whole))
        for line in map(_line, whole.splitlines()):
            if line is not None and line["index"] < self.tasks:
                self._signed.setdefault(line["index"], bytes.fromhex(line["batch"]))
        for index, line in read_lines(self.root)[0].items():
            if index < self.tasks and output_digest(self.root, index, line, self._spec)[1] == line["sha256"]:
                self._count(index, _ending(line["exit"], bool(line.get("spoiled"))))


def _ending(exit_code: int, spoiled: bool) -> int:
    return exit_code or (SPOILED_EXIT if spoiled else 0)


def place_of(root: Path, index: int, spec: JobSpec) -> Path:
    """A task's output file, or for programs its folder."""
    name = f"{index:0{len(str(spec.tasks - 1))}d}"
    return root / (f"{name}.out" if spec.abi == "function" else name)


def read_lines(root: Path) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """The journal: the last line of each task, and the numbers (from 1) of those that are none. Raises OSError."""
    lines: dict[int, dict[str, Any]] = {}
    damaged: list[int] = []
    try:
        content = (root / "results.jsonl").read_bytes()
    except FileNotFoundError:
        return lines, damaged
    for number, text in enumerate(content.splitlines(), 1):
        line = _line(text)
        if line is None:
            damaged.append(number)
        else:
            lines[line["index"]] = line
    return lines, damaged


def torn_line(root: Path) -> int:
    """The number (from 1) of the journal's last line if its end was never written, else 0. Raises OSError."""
    try:
        content = (root / "results.jsonl").read_bytes()
    except FileNotFoundError:
        return 0
    return len(content.splitlines()) if content and not content.endswith(b"\n") else 0


def output_digest(root: Path, index: int, line: dict[str, Any], spec: JobSpec) -> tuple[str, str]:
    """(file, digest) of the output as its files hold it now; the digest is empty where one is not there."""
    place = place_of(root, index, spec)
    try:
        if spec.abi == "function":
            output = place.read_bytes()
        elif line.get("files") is None:
            whole = place / "output"
            output = whole.read_bytes() if whole.exists() else b""
        else:
            files = {name: (place / _stored_name(name)).read_bytes() for name in line["files"]}
            output = _pack((place / "stdout").read_bytes(), files)
    except OSError:
        return place.name, ""
    return place.name, sha256(output).hexdigest()


def stderr_of(root: Path, index: int, spec: JobSpec) -> tuple[str, bytes]:
    """(file, content) of what a task's standard error ended with; empty if it said nothing."""
    place = place_of(root, index, spec)
    path = place.with_suffix(".err") if spec.abi == "function" else place / "stderr"
    try:
        return str(path.relative_to(root)), path.read_bytes()
    except OSError:
        return str(path.relative_to(root)), b""


def _stored_name(name: str) -> str:
    """A task's file that is called as one of ours stands one folder deeper."""
    return f"files/{name}" if name in _OWN_NAMES else name


def _pack(stdout: bytes, files: dict[str, bytes]) -> bytes:
    """A program's output as the executors encode it."""
    return msgspec.msgpack.encode([stdout, files])


def _line(text: bytes) -> dict[str, Any] | None:
    """A line of the journal if it is one; our own, but the disk is not to be trusted."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    numbers = all(isinstance(line.get(key), int) for key in ("index", "exit")) and line["index"] >= 0
    files = line.get("files")
    names = files is None or (isinstance(files, list) and all(isinstance(n, str) and is_file_name(n) for n in files))
    batch = line.get("batch")
    named = isinstance(batch, str) and re.fullmatch("[0-9a-f]{64}", batch) is not None
    return line if numbers and names and named and isinstance(line.get("sha256"), str) else None
