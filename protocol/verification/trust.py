"""Trust in a node at a runtime: how many results in a row were found right, by who keeps the book.

Evidence is what the keeper compared itself. It fades: without news a streak halves every 30 days.
Source of the rule: Anderson, BOINC (2019), adaptive replication.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ...crypto.bounded import DecodeError, decode_bounded
from ..records import Bytes32, JobSpec, UInt

HALF_LIFE_S = 30 * 86_400
# (node, runtime) pairs that are remembered; those that were not heard of for longest are forgotten first.
PAIRS_MAX = 16_384
STREAK_MAX = 1_000_000
# Right results that make up for a wrong one.
WRONG_WEIGHS = 20


class Standing(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One row of the book. streak: right in a row, as of at_s (unix seconds).  right, wrong: in all, ever."""

    node: Bytes32
    runtime: Annotated[str, Meta(max_length=320)]
    streak: UInt
    right: UInt
    wrong: UInt
    at_s: UInt

    def streak_at(self, now_s: int) -> int:
        """What is left of the streak."""
        return self.streak >> min(63, max(0, now_s - self.at_s) // HALF_LIFE_S)

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Standing:
        """Raises DecodeError."""
        return decode_bounded(data, cls, max_bytes=1024)


def runtime_of(spec: JobSpec) -> str:
    """What trust is kept for: all WebAssembly is one runtime, each native command or image another."""
    return "wasm" if spec.runtime == "wasm" else f"{spec.runtime} {spec.command}"


@dataclass(slots=True)
class TrustBook:
    """One keeper's book, in the order in which pairs were last heard of.

    _doubtful: of nodes that have any, how many rows have too many wrong.
    """

    _rows: dict[tuple[bytes, str], Standing]
    _doubtful: dict[bytes, int]

    def __init__(self) -> None:
        self._rows = {}
        self._doubtful = {}

    def __iter__(self) -> Iterator[Standing]:
        return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)

    def restore(self, data: bytes) -> None:
        """Take up a row of an earlier life; one that cannot be read is left out."""
        try:
            row = Standing.from_bytes(data)
        except DecodeError:
            return
        self._keep(row)

    def streak(self, node: bytes, runtime: str, now_s: int) -> int:
        row = self._rows.get((node, runtime))
        return row.streak_at(now_s) if row is not None else 0

    def standing(self, node: bytes, runtime: str) -> Standing | None:
        return self._rows.get((node, runtime))

    def doubts(self, node: bytes) -> bool:
        """Whether it was found wrong too often to be asked to keep a job, or to check others.

        What it computes is still compared, so it can earn its name again.
        """
        return node in self._doubtful

    def found_right(self, node: bytes, runtime: str, count: int, now_s: int) -> Standing:
        """So many more results were compared and right. Returns the new row."""
        old = self._rows.get((node, runtime)) or Standing(node, runtime, 0, 0, 0, now_s)
        streak = min(STREAK_MAX, old.streak_at(now_s) + count)
        return self._keep(Standing(node, runtime, streak, old.right + count, old.wrong, now_s))

    def found_wrong(self, node: bytes, runtime: str, now_s: int) -> Standing:
        """One was wrong: it starts from nothing. Returns the new row."""
        old = self._rows.get((node, runtime)) or Standing(node, runtime, 0, 0, 0, now_s)
        return self._keep(Standing(node, runtime, 0, old.right, old.wrong + 1, now_s))

    def _keep(self, row: Standing) -> Standing:
        key = (row.node, row.runtime)
        self._drop(key)
        self._rows[key] = row
        if _is_doubtful(row):
            self._doubtful[row.node] = self._doubtful.get(row.node, 0) + 1
        while len(self._rows) > PAIRS_MAX:
            self._drop(next(iter(self._rows)))
        return row

    def _drop(self, key: tuple[bytes, str]) -> None:
        row = self._rows.pop(key, None)
        if row is None or not _is_doubtful(row):
            return
        left = self._doubtful.pop(row.node) - 1
        if left:
            self._doubtful[row.node] = left


def _is_doubtful(row: Standing) -> bool:
    return row.wrong * WRONG_WEIGHS > row.right
