"""One task's verified result."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.msgpack import Decoder

from ...crypto.identity import peer_id_text
from ...protocol.batches import Batch, TaskProof, prove_task
from ...protocol.records import Record

_files = Decoder(tuple[bytes, dict[str, bytes]])


@dataclass(frozen=True, slots=True)
class Result:
    """Checked here: the worker was admitted, signed the batch, and this result is in it.

    exit_code: 0 for success, > 0 as the program ended, < 0 as the node stopped it (see `Exit`).
    output: as the task returned it; for programs with files `stdout` and `files` take it apart.  spoiled: of a
    confidential job, its worker sealed it so that it cannot be opened; the output is empty then.
    """

    index: int
    exit_code: int
    output: bytes
    stderr: bytes
    fuel: int
    cpu_us: int
    abi: str
    header: Record
    batch: Batch
    spoiled: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.spoiled

    @property
    def worker(self) -> str:
        """Peer id of the node that ran it."""
        return peer_id_text(self.header.author)

    @property
    def stdout(self) -> bytes:
        return self._parts()[0]

    @property
    def files(self) -> dict[str, bytes]:
        """What a program left in its output folder, by name."""
        return self._parts()[1]

    def _parts(self) -> tuple[bytes, dict[str, bytes]]:
        if self.abi == "function" or not self.output:
            return self.output, {}
        try:
            stdout, files = _files.decode(self.output)
        except ValueError:  # msgspec's own errors, and UnicodeDecodeError for a name that is not text
            return self.output, {}
        return (self.output, {}) if "" in files else (stdout, files)

    def proof(self) -> TaskProof:
        """Shows this one result to anybody, without the others of its batch."""
        return prove_task(self.header, self.batch, self.index)
