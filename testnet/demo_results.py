"""The demo's client keeps what it was given on disk, and everything is checked again from there.

A batch is one file: the signed header, the columns, and which of its tasks count. So a session may end at any time,
and the next one knows what it need not ask for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..crypto.certificates import CertificateError, MembershipPolicy, Role
from ..protocol.batches import BatchError, check_batch, check_task, prove_task
from ..protocol.intervals import IntervalSet
from ..protocol.records import BatchHeader, RecordError, RecordKind, open_record

_SUFFIX = ".batch"


class KeptBatch(Struct, array_like=True, frozen=True):
    """header: the signed record.  parts: [lo, hi) of tasks that count."""

    header: bytes
    columns: bytes
    parts: Annotated[tuple[tuple[int, int], ...], Meta(min_length=1)]


class ResultFolder:
    """One file a batch, named by its digest; written beside and renamed, so that none is ever half there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, batch: KeptBatch) -> None:
        data = msgspec.msgpack.encode(batch)
        path = self.folder / f"{batch.parts[0][0]:07d}-{sha256(data).hexdigest()[:16]}{_SUFFIX}"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(path)

    def batches(self) -> Iterator[KeptBatch]:
        """In order of tasks. Raises msgspec.DecodeError for a file that is none of ours."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            yield msgspec.msgpack.decode(path.read_bytes(), type=KeptBatch)

    def signed(self) -> list[tuple[int, int, bytes]]:
        """Which batch each was accepted from: [lo, hi), and the batch's id."""
        found: list[tuple[int, int, bytes]] = []
        for batch in self.batches():
            batch_id = open_record(batch.header, check_signature=False).id
            found.extend((lo, hi, batch_id) for lo, hi in batch.parts)
        return found

    def given_back(self, batch_id: bytes) -> tuple[bytes, bytes] | None:
        """Header and columns, for a replica that lost it; None if it is not here."""
        for batch in self.batches():
            if open_record(batch.header, check_signature=False).id == batch_id:
                return batch.header, batch.columns
        return None

    def have(self) -> IntervalSet:
        """Tasks whose results are here."""
        return IntervalSet(*(part for batch in self.batches() for part in batch.parts))


@dataclass(slots=True)
class Audit:
    """What checking everything anew found. faults: empty if all is good.

    signatures: of batch headers.  proofs: tasks whose result was shown, alone, to be under a signed root.
    energies: millijoules of the tasks that count, and what of it met a demand of heat, as the workers signed.
    """

    tasks: int
    batches: int = 0
    signatures: int = 0
    proofs: int = 0
    outputs: dict[int, bytes] = field(default_factory=dict)
    tasks_by_worker: dict[bytes, int] = field(default_factory=dict)
    cpu_us: int = 0
    energy_mj: int = 0
    useful_mj: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.outputs) == self.tasks


def audit(batches: Iterable[KeptBatch], job_id: bytes, tasks: int, policy: MembershipPolicy) -> Audit:
    """Check each batch's signature, its signer's admission, and for each task that counts its own proof."""
    found = Audit(tasks)
    for kept in batches:
        found.batches += 1
        try:
            _check_batch(found, kept, job_id, policy)
        except (RecordError, CertificateError, BatchError) as error:
            found.faults.append(f"a batch of tasks {kept.parts[0][0]} to {kept.parts[-1][1] - 1}: {error}")
    missing = IntervalSet(*((index, index + 1) for index in found.outputs)).gaps(0, tasks)
    if missing:
        lacking = sum(hi - lo for lo, hi in missing)
        found.faults.append(f"{lacking} of {tasks} tasks have no result, task {missing[0][0]} is the first")
    return found


def _check_batch(found: Audit, kept: KeptBatch, job_id: bytes, policy: MembershipPolicy) -> None:
    record = open_record(kept.header)
    found.signatures += 1
    if record.kind is not RecordKind.BATCH or record.body.job_id != job_id:
        raise BatchError("it is not of this job")
    header: BatchHeader = record.body
    policy.check(header.certificate, record.author, int(time.time()), Role.WORKER)
    batch = check_batch(header, kept.columns)
    counted = 0
    for lo, hi in kept.parts:
        if not header.first <= lo < hi <= header.first + header.count:
            raise BatchError(f"tasks {lo} to {hi - 1} are not in it")
        for index in range(lo, hi):
            proof = prove_task(record, batch, index)
            output = batch.outputs[index - batch.first]
            if not check_task(header, proof) or sha256(output).digest() != proof.output_digest:
                raise BatchError(f"task {index} is not under the signed root")
            if proof.exit_code != 0:
                raise BatchError(f"task {index} ended with exit code {proof.exit_code}")
            if index in found.outputs:
                raise BatchError(f"task {index} was accepted before, from another batch")
            found.proofs += 1
            found.outputs[index] = output
            found.cpu_us += proof.cpu_us
            counted += 1
    found.tasks_by_worker[record.author] = found.tasks_by_worker.get(record.author, 0) + counted
    found.energy_mj += header.energy_mj * counted // header.count
    found.useful_mj += header.useful_mj * counted // header.count


def write_outputs(outputs: Mapping[int, bytes], folder: Path) -> None:
    """One file a task, as the aggregator reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, output in outputs.items():
        (folder / f"{index:06d}.out").write_bytes(output)
