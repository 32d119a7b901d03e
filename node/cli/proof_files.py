"""The proofs beside a folder of results: all that somebody needs who trusts neither this machine nor the mesh.

proofs/<batch>.header, .columns   a worker's signed header, and the results that its root is made of: of the
                                  batches that were accepted, and of those that they were compared with
proofs/<batch>.key                of a confidential job: the batch's key, for which its worker signed; it opens the
                                  results of that batch, and nothing else of the job
proofs/records                    signed records, as a MessagePack list: the job's spec, its replica sets, what the
                                  submitter asked to be run again, and what it accepted
proofs/comparator.wasm            of a job with a comparator of its own: the module, whose digest is in the spec
proofs/mesh                       the mesh's definition, whose digest is the mesh id in the spec
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ...protocol.records import RECORD_BYTES_MAX

RECORDS_MAX = 1_000_000

_decoder = msgspec.msgpack.Decoder(list[bytes])


class DamagedRecords(ValueError):
    """A file that does not hold a list of records."""


def records_path(root: Path) -> Path:
    return root / "proofs" / "records"


def comparator_path(root: Path) -> Path:
    return root / "proofs" / "comparator.wasm"


def mesh_path(root: Path) -> Path:
    return root / "proofs" / "mesh"


def batch_path(root: Path, name: str, part: str) -> Path:
    """part: "header", "columns" or "key"."""
    return root / "proofs" / f"{name}.{part}"


def read_records(root: Path) -> list[bytes]:
    """Raw records, unchecked; none if there is no file. Raises OSError, DamagedRecords."""
    try:
        content = records_path(root).read_bytes()
    except FileNotFoundError:
        return []
    try:
        raws = _decoder.decode(content)
    except msgspec.DecodeError as error:
        raise DamagedRecords("is no list of records") from error
    if len(raws) > RECORDS_MAX or any(len(raw) > RECORD_BYTES_MAX for raw in raws):
        raise DamagedRecords("has more, or longer records than a job can have")
    return raws


def encode_records(raws: Iterable[bytes]) -> bytes:
    """Without repeats, in order."""
    return msgspec.msgpack.encode(list(dict.fromkeys(raws)))
