"""Results of confidential tasks: each batch under a key of its own, which is sealed to the submitter.

So no other worker reads them, and who copies another's answer cannot sign it: what binds a result names its worker.
The header has the key's digest, so that the worker is held to one reading of what it signed (SIV alone does not bind
who knows the key). A large output is a blob; beside it stands inline, sealed, what the blob holds, so that the
submitter can compare without fetching.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from ...crypto.envelope import Envelope
from ...crypto.identity import Identity
from ...crypto.sealing import SealError, seal, unseal
from ..batches import Batch
from ..records import KeyBox, Record
from .keys import key_digest

# The end of a task's standard error that fits the columns once it is sealed.
STDERR_BYTES_MAX = 3900
_MARK = Struct("<32sQ")
_INDEX = Struct("<Q")
_PURPOSE = "results"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the blob of a large output holds in the clear."""

    digest: bytes
    size_bytes: int


class BatchSealer:
    """A worker's side. key: 32 random bytes, for this batch alone."""

    def __init__(self, job_id: bytes, submitter: bytes, worker: bytes, key: bytes) -> None:
        """Raises SealError if the submitter's key is none."""
        self._envelope = Envelope(key, _PURPOSE)
        self._where = job_id + worker
        self.box = KeyBox(key_digest(key), seal(submitter, key, _PURPOSE.encode() + b"\0" + self._where))

    def output(self, index: int, output: bytes) -> bytes:
        return self._envelope.seal(output, _binding("output", self._where, index))

    def mark(self, index: int, output: bytes) -> bytes:
        packed = _MARK.pack(sha256(output).digest(), len(output))
        return self._envelope.seal(packed, _binding("mark", self._where, index))

    def stderr(self, index: int, text: bytes) -> bytes:
        return self._envelope.seal(text[-STDERR_BYTES_MAX:], _binding("stderr", self._where, index))


@dataclass(frozen=True, slots=True)
class OpenedBatch:
    """A batch in the clear. outputs: None where its worker sealed what cannot be opened; empty for a marked one.

    key: of the batch; empty if even that could not be had.  marks: of large outputs, by offset.
    """

    key: bytes
    outputs: tuple[bytes | None, ...]
    marks: dict[int, Mark]
    stderrs: dict[int, bytes]

    def spoiled(self, offset: int) -> bool:
        return self.outputs[offset] is None

    def digest(self, offset: int) -> bytes | None:
        """Of the output in the clear; None of a spoiled one."""
        if offset in self.marks:
            return self.marks[offset].digest
        output = self.outputs[offset]
        return None if output is None else sha256(output).digest()


def batch_key(submitter: Identity, header: Record) -> bytes:
    """The key of a batch; empty if its worker gave none, or not the one it signed for."""
    box: KeyBox | None = header.body.box
    if box is None:
        return b""
    try:
        key = unseal(submitter, box.sealed, _PURPOSE.encode() + b"\0" + header.body.job_id + header.author)
    except SealError:
        return b""
    return key if is_key_of(header, key) else b""


def is_key_of(header: Record, key: bytes) -> bool:
    """Whether the batch's worker signed for this key."""
    box: KeyBox | None = header.body.box
    return box is not None and len(key) == 32 and key_digest(key) == box.digest


def open_batch(header: Record, batch: Batch, key: bytes) -> OpenedBatch:
    """key: what `batch_key` found, or anybody was given; empty opens nothing."""
    where = header.body.job_id + header.author
    envelope = Envelope(key, _PURPOSE) if key else None

    def opened(kind: str, offset: int, sealed: bytes) -> bytes | None:
        if envelope is None:
            return None
        try:
            return envelope.open(sealed, _binding(kind, where, batch.first + offset))
        except SealError:
            return None

    outputs: list[bytes | None] = []
    marks: dict[int, Mark] = {}
    for offset, sealed in enumerate(batch.outputs):
        if offset in batch.externals:
            packed = opened("mark", offset, sealed)
            if packed is not None and len(packed) == _MARK.size:
                marks[offset] = Mark(*_MARK.unpack(packed))
            outputs.append(b"" if offset in marks else None)
        elif batch.exits[offset] < 0 and not sealed:
            outputs.append(b"")
        else:
            outputs.append(opened("output", offset, sealed))
    said = {offset: opened("stderr", offset, sealed) for offset, sealed in batch.stderrs.items()}
    return OpenedBatch(key, tuple(outputs), marks, {offset: text or b"" for offset, text in said.items()})


def open_large(header: Record, index: int, mark: Mark, key: bytes, sealed: bytes) -> bytes | None:
    """A large output from its blob; None if the blob is not what its worker said."""
    try:
        output = Envelope(key, _PURPOSE).open(sealed, _binding("output", header.body.job_id + header.author, index))
    except SealError:
        return None
    return output if sha256(output).digest() == mark.digest and len(output) == mark.size_bytes else None


def _binding(kind: str, where: bytes, index: int) -> bytes:
    return kind.encode() + b"\0" + where + _INDEX.pack(index)
