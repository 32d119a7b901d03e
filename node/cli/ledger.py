"""What was submitted from here: a line a job in the client's state folder. Only a convenience; the mesh knows."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..client.session import job_id_prefix
from .authority import write_atomically
from .errors import UserError

ENTRIES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Submitted:
    """folder: where its results go, empty for none named."""

    job_id: str
    name: str
    folder: str


class Ledger:
    def __init__(self, state: Path) -> None:
        self._path = state / "submitted.jsonl"

    def entries(self) -> list[Submitted]:
        """Oldest first; lines that cannot be read are left out."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [entry for entry in map(_parse, lines) if entry is not None]

    def add(self, entry: Submitted) -> None:
        """Make it the last one. A ledger that cannot be written loses `--last`, not the job."""
        kept = [held for held in self.entries() if held.job_id != entry.job_id][-ENTRIES_MAX + 1 :]
        lines = [
            json.dumps({"job": held.job_id, "name": held.name, "folder": held.folder, "at_s": int(time.time())})
            for held in (*kept, entry)
        ]
        try:
            write_atomically(self._path, ("\n".join(lines) + "\n").encode())
        except OSError:
            return

    def find(self, job_id: str) -> Submitted | None:
        return next((held for held in self.entries() if held.job_id == job_id), None)

    def resolve(self, prefix: str | None, last: bool) -> str:
        """The id to ask the mesh for: of the last one, the one that begins so, or the prefix as it is.

        Raises UserError, and ClientError for what cannot be a job's id.
        """
        if (prefix is None) != last:
            raise UserError("name one job: its id or the beginning of it, or --last")
        entries = self.entries()
        if prefix is None:
            if not entries:
                raise UserError(
                    f"{self._path}: nothing was submitted from here yet; hearth jobs lists what the mesh has"
                )
            return entries[-1].job_id
        wanted = job_id_prefix(prefix)
        matching = [held.job_id for held in entries if held.job_id.startswith(wanted)]
        return matching[0] if len(matching) == 1 else wanted


def _parse(line: str) -> Submitted | None:
    try:
        found: Any = json.loads(line)
        return Submitted(str(found["job"]), str(found["name"]), str(found["folder"]))
    except (ValueError, KeyError, TypeError):
        return None
