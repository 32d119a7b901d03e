"""Reading histories: files of one JSON object a line, one file a node or client, one stretch of lines a life."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES_MAX = 1024
FILE_BYTES_MAX = 1 << 30
LINE_BYTES_MAX = 1 << 20
VERSION = 1
_SHOWN_CHARACTERS = 300
# Faults that leave all nodes as they are.
HARMLESS = ("flood", "kill-client")


class HistoryError(Exception):
    """The folder holds nothing that could be checked. The text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Line:
    """number: in its file, life: of its node, n: in its life, all from 1.  at_us: the machine's monotonic clock."""

    file: str
    number: int
    node: str
    name: str
    life: int
    n: int
    at_us: int
    event: str
    fields: Mapping[str, Any]
    text: str

    @property
    def who(self) -> tuple[str, int]:
        """The node and which of its lives: no memory but the disk goes from one to the next."""
        return self.node, self.life

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]

    def shown(self) -> dict[str, Any]:
        """As evidence."""
        return {"file": self.file, "line": self.number, "text": _shortened(self.text)}


@dataclass(frozen=True, slots=True)
class Violation:
    """What does not hold, and the lines that prove it."""

    check: str
    text: str
    lines: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class History:
    """torn: last lines of lives that ended in the middle of writing one."""

    lines: list[Line] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    torn: int = 0

    def find(self, event: str) -> Iterator[Line]:
        return (line for line in self.lines if line.event == event)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)


def _is_id_or_none(value: object) -> bool:
    return value == "" or _is_id(value)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_parts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, list) and len(part) == 3 and _is_id(part[0]) and _is_count(part[1]) and _is_count(part[2])
        for part in value
    )


def _is_workers(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_id(node) and isinstance(row, list) and len(row) == 4 and all(map(_is_count, row))
        for node, row in value.items()
    )


_RANGE: dict[str, Callable[[object], bool]] = {"job": _is_id, "lo": _is_count, "hi": _is_count}
# A task may be run in copies, to compare. Grants, leases and releases are of numbers: copy * tasks + task.
COPIES_MAX = 16
# What each event must carry; more is ignored, so that a newer writer can be read.
EVENTS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "begin": {"version": _is_count, "node": _is_id, "name": _is_text},
    "submit": {"job": _is_id, "tasks": _is_count},
    "kept": {"job": _is_id, "replicas": _is_ids, "stored_by": _is_ids},
    "finish": {"job": _is_id},
    "grant": {"grant": _is_id, **_RANGE, "epoch": _is_count, "holder": _is_id, "parent": _is_id_or_none},
    "lease": {"grant": _is_id, "granter": _is_id, **_RANGE, "epoch": _is_count},
    "release": {"grant": _is_id, **_RANGE, "epoch": _is_count},
    "expire": {**_RANGE, "holder": _is_id},
    "overrun": {"job": _is_id, "holder": _is_id},
    "recheck": {**_RANGE, "copy": _is_count},
    "start": {"execution": _is_count, **_RANGE, "epoch": _is_count, "copy": _is_count},
    "stop": {"execution": _is_count, "reason": _is_text},
    "result": {
        "execution": _is_count,
        "batch": _is_id,
        **_RANGE,
        "epoch": _is_count,
        "copy": _is_count,
        "failed": _is_count,
        "cpu_us": _is_count,
        "energy_mj": _is_count,
        "useful_mj": _is_count,
    },
    "keep": {"batch": _is_id, "worker": _is_id, "job": _is_id},
    "take": {"job": _is_id, "batch": _is_id},
    "accept": {"acceptance": _is_id, "job": _is_id, "parts": _is_parts},
    "cancel": {"job": _is_id},
    "peer": {"peer": _is_id, "status": _is_text},
    "meter": {"work_uj": _is_count, "useful_uj": _is_count},
    # What who ran the test did to the nodes, and what it saw in the end.
    "fault": {"kind": _is_text, "node": _is_id_or_none},
    "mend": {"kind": _is_text, "node": _is_id_or_none},
    "expect": {"job": _is_id},
    "books": {"job": _is_id, "replica": _is_id, "fingerprint": _is_id, "workers": _is_workers},
}


def read_history(folder: Path) -> History:
    """All `*.jsonl` of a folder, or of the folder `history` in it. Raises HistoryError."""
    place = folder / "history" if (folder / "history").is_dir() else folder
    try:
        files = sorted(place.glob("*.jsonl"))
        if not files:
            raise HistoryError(f"{place}: no history there (*.jsonl); nodes write one where `history` names a file")
        if len(files) > FILES_MAX:
            raise HistoryError(f"{place}: more than {FILES_MAX} files")
        history = History()
        for path in files:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise HistoryError(f"{path}: more than {FILE_BYTES_MAX >> 20} MiB")
            with path.open("rb") as lines:
                read_lines(history, path.name, lines)
    except OSError as error:
        raise HistoryError(f"{error.filename or place}: cannot be read: {error.strerror}") from error
    return history


def read_lines(history: History, file: str, lines: Iterator[bytes]) -> None:
    """Add one node's lines; what is wrong with them alone becomes a violation."""
    reader = _Reader(history, file)
    for raw in lines:
        reader.take(raw)
    reader.end()


class _Reader:
    def __init__(self, history: History, file: str) -> None:
        self._history = history
        self._file = file
        self._number = 0
        self._node = ""
        self._name = ""
        self._life = 0
        self._n = 0
        self._torn: dict[str, Any] | None = None

    def take(self, raw: bytes) -> None:
        self._number += 1
        text = raw.decode(errors="replace").rstrip("\n")
        if not text:
            return
        fields = _parsed(text) if len(raw) <= LINE_BYTES_MAX else None
        problem = _problem(fields)
        if fields is not None and problem == "" and fields["event"] == "begin":
            self._begin(fields, text)
        if self._torn is not None:
            self._wrong("unreadable", "not a whole line, and its life went on", self._torn)
            self._torn = None
        if fields is None:
            self._torn = {"file": self._file, "line": self._number, "text": _shortened(text)}
            return
        if problem:
            self._wrong("unreadable", problem, {"file": self._file, "line": self._number, "text": _shortened(text)})
            return
        self._add(fields, text)

    def _begin(self, fields: dict[str, Any], text: str) -> None:
        here = {"file": self._file, "line": self._number, "text": _shortened(text)}
        if fields["version"] != VERSION:
            self._wrong("unreadable", f"version {fields['version']}; this checker reads {VERSION}", here)
        if self._node not in ("", fields["node"]):
            self._wrong("sequence", "one file, and two nodes wrote it", here)
        if self._torn is not None:
            self._history.torn += 1
            self._torn = None
        self._node, self._name = fields["node"], fields["name"]
        self._life += 1
        self._n = 0

    def _add(self, fields: dict[str, Any], text: str) -> None:
        line = Line(
            self._file,
            self._number,
            self._node,
            self._name,
            self._life,
            fields["n"],
            fields["at_us"],
            fields["event"],
            fields,
            text,
        )
        if self._life == 0:
            self._wrong("sequence", "lines before any life began", line.shown())
        elif line.n != self._n + 1:
            lack = "a line is there twice" if line.n <= self._n else f"{line.n - self._n - 1} lines are missing"
            self._wrong("sequence", f"{lack}: number {line.n} follows {self._n}", line.shown())
        self._n = line.n
        self._history.lines.append(line)

    def end(self) -> None:
        if self._torn is not None:
            self._history.torn += 1

    def _wrong(self, check: str, text: str, *lines: dict[str, Any]) -> None:
        self._history.violations.append(Violation(check, text, lines))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _problem(fields: dict[str, Any] | None) -> str:
    if fields is None:
        return ""
    if not (_is_count(fields.get("n")) and _is_count(fields.get("at_us")) and _is_text(fields.get("event"))):
        return "no line of a history: n, at_us or event is not there"
    wanted = EVENTS.get(fields["event"])
    if wanted is None:
        return f"no event is called {_shortened(fields['event'])}"
    for key, fits in wanted.items():
        if not fits(fields.get(key)):
            return f"{fields['event']}: {key} is not there, or not what it should be"
    if "lo" in wanted and fields["lo"] >= fields["hi"]:
        return f"{fields['event']}: tasks {fields['lo']} to {fields['hi']} are no range"
    return ""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
