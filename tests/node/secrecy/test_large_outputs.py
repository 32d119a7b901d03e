"""A large sealed output is opened before it is given: one that cannot be is left out, and judged anew."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
import trio

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.client.job import Batches, Job, VerifiedBatch, open_notes
from hearthmesh.protocol.batches import Batch
from hearthmesh.protocol.effects import Notify
from hearthmesh.protocol.events import ResultsSpoiled, ResultsTaken
from hearthmesh.protocol.records import BatchHeader, JobSpec, Record, RecordKind, Secrecy, sign_record
from hearthmesh.protocol.secrecy.results import BatchSealer, batch_key, open_batch

SUBMITTER, WORKER = Identity.from_seed(bytes([1]) * 32), Identity.from_seed(bytes([2]) * 32)
JOB = bytes([3]) * 32
SECRECY = Secrecy(bytes(32), bytes(32), b"hidden")


class Mesh:
    """What a job needs of its client: blobs by digest, and somebody to tell."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.told: list[Any] = []
        self.reads = 0

    def revealed(self, spec: JobSpec) -> JobSpec:
        return spec

    def feed(self, event: Any) -> None:
        self.told.append(event)

    async def read_blob(self, digest: bytes, _sources: Sequence[bytes]) -> bytes:
        self.reads += 1
        await trio.lowlevel.checkpoint()
        return self.blobs[digest]


def spec(verification: str) -> JobSpec:
    return JobSpec(
        version=1,
        mesh_id=bytes(32),
        nonce=b"",
        name="job",
        runtime="wasm",
        abi="function",
        program=bytes(32),
        program_bytes=1,
        command="",
        entry="hearth_task",
        arguments=(),
        tasks=4,
        verification=verification,
        secrecy=SECRECY,
    )


def results_of(mesh: Mesh, outputs: dict[int, bytes], bad: Sequence[int] = ()) -> Notify:
    """A worker's batch of large outputs. bad: tasks whose blob holds something else than it says."""
    first = min(outputs)
    sealer = BatchSealer(JOB, SUBMITTER.node_id, WORKER.node_id, bytes([4]) * 32)
    externals = {}
    for index, output in outputs.items():
        blob = sealer.output(index, b"another" if index in bad else output)
        mesh.blobs[sha256(blob).digest()] = blob
        externals[index - first] = (sha256(blob).digest(), len(blob))
    zeros = (0,) * len(outputs)
    marks = tuple(sealer.mark(index, output) for index, output in outputs.items())
    batch = Batch(first, 1, zeros, marks, zeros, zeros, externals, {})
    body = BatchHeader(JOB, first, len(outputs), 1, batch.root(), 0, 0, 0, 0, 0, False, b"", box=sealer.box)
    header: Record = sign_record(WORKER, RecordKind.BATCH, body)
    opened = open_batch(header, batch, batch_key(SUBMITTER, header))
    parts = ((first, first + len(outputs)),)
    fields = dict(header=header, batch=batch, columns=b"", parts=parts, source=b"", evidence=(), opened=opened, keys={})
    return Notify("job.results", fields)


async def given(mesh: Mesh, verification: str, *notes: Notify) -> list[tuple[int, bytes, bool]]:
    """(task, output, spoiled) of all that a consumer gets."""
    job = Job(mesh, JOB, spec(verification))  # type: ignore[arg-type]
    send, receive = open_notes()
    for note in notes:
        send.send_nowait(note)
    batches, found = Batches(mesh, job, (), (), opened=(receive, lambda: None)), []  # type: ignore[arg-type]
    async for item in batches:
        assert isinstance(item, VerifiedBatch)
        found += [(each.index, each.output, each.spoiled) for each in await job.unpack(item)]
    return found


@pytest.mark.parametrize("verification", ["adaptive", "spot(0.1)", "quorum(2)"])
async def test_what_cannot_be_opened_is_not_given_and_not_accepted_but_judged_anew(verification: str) -> None:
    mesh = Mesh()
    first = results_of(mesh, {index: b"%d" % index for index in range(4)}, bad=(1, 3))
    again = results_of(mesh, {1: b"1"})
    last = results_of(mesh, {3: b"3"})
    found = await given(mesh, verification, first, again, last)
    assert found == [(index, b"%d" % index, False) for index in (0, 2, 1, 3)]
    first_id, again_id, last_id = (note.fields["header"].id for note in (first, again, last))
    assert mesh.told[:2] == [ResultsSpoiled(JOB, first_id, (1, 3)), ResultsTaken(JOB, first_id)]
    assert mesh.told[2:4] == [ResultsTaken(JOB, again_id), ResultsTaken(JOB, last_id)]
    assert mesh.reads == 6, "each blob is read once"


async def test_a_batch_of_which_nothing_can_be_opened_is_passed_over() -> None:
    mesh = Mesh()
    bad = results_of(mesh, {0: b"0", 1: b"1"}, bad=(0, 1))
    good = results_of(mesh, {index: b"%d" % index for index in range(4)})
    assert [index for index, _, _ in await given(mesh, "adaptive", bad, good)] == [0, 1, 2, 3]
    assert ResultsTaken(JOB, bad.fields["header"].id) in mesh.told


async def test_where_nothing_is_checked_it_is_a_failed_task() -> None:
    mesh = Mesh()
    found = await given(mesh, "none", results_of(mesh, {index: b"%d" % index for index in range(4)}, bad=(2,)))
    assert found == [(0, b"0", False), (1, b"1", False), (2, b"", True), (3, b"3", False)]
    assert not [event for event in mesh.told if isinstance(event, ResultsSpoiled)]
