"""What was done to the nodes, in the form of their own histories and beside them, so that one checker reads all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from ...node.history import VERSION
from ...node.ports import monotonic_us


class Diary:
    """Appends to `chaos.jsonl` in the history folder. node ids are in hex; empty where a fault is nobody's.

    results: how many the customer has; each fault and mending says so too.  begun: how many it had at the first fault;
    None before there is one.
    """

    def __init__(self, folder: Path, results: Callable[[], int]) -> None:
        self._file = (folder / "chaos.jsonl").open("ab", buffering=0)
        self._count = 0
        self._results = results
        self.begun: int | None = None
        self._write("begin", version=VERSION, node=os.urandom(32).hex(), name="chaos")

    def fault(self, kind: str, node: str = "") -> None:
        """Written before it happens."""
        results = self._results()
        if self.begun is None:
            self.begun = results
        self._write("fault", kind=kind, node=node, results=results)

    def mend(self, kind: str, node: str = "") -> None:
        self._write("mend", kind=kind, node=node, results=self._results())

    def expect(self, job: str) -> None:
        """Whatever happened, the job is to be accepted whole."""
        self._write("expect", job=job)

    def books(self, job: str, replica: str, fingerprint: str, workers: Mapping[str, Sequence[int]]) -> None:
        """workers: by node id, (tasks done, cpu_us, energy_mj, useful_mj), as this replica says."""
        rows = {node: list(row) for node, row in workers.items()}
        self._write("books", job=job, replica=replica, fingerprint=fingerprint, workers=rows)

    def close(self) -> None:
        self._file.close()

    def _write(self, event: str, **fields: object) -> None:
        self._count += 1
        line = {"n": self._count, "at_us": monotonic_us(), "event": event, **fields}
        self._file.write(msgspec.json.encode(line) + b"\n")
