"""Rows of a disk that are not what was written: the node starts with what is left."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.effects import Notify
from hearthmesh.protocol.events import Started, StoredRow
from hearthmesh.protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW, Outbox
from hearthmesh.protocol.records import RecordError, RecordKind
from tests.protocol.cluster import Cluster, SimNode
from tests.protocol.test_hostile import busy_mesh


def restarted(cluster: Cluster, node: SimNode, rows: list[StoredRow]) -> list[str]:
    """Reasons of what was left out."""
    cluster.restart(node)
    life = cluster._machine(node.name, node.identity, node.mesh.profile.roles)
    effects = life.handle(Started(tuple(rows)), cluster.now_us)
    node.mesh = life
    notes = [each for each in effects if isinstance(each, Notify)]
    return [note.fields["reason"] for note in notes if note.name.endswith("row-ignored")]


def rows_of(node: SimNode) -> list[StoredRow]:
    return [StoredRow(job_id, kind, key, body) for (job_id, kind, key), body in node.rows.items()]


@pytest.mark.parametrize("harm", ["cut", "empty", "swapped"])
def test_a_record_that_cannot_be_read_is_left_out_and_the_job_stays(harm: str) -> None:
    cluster, workers, _, _ = busy_mesh(1)
    keeper = next(worker for worker in workers if worker.mesh.replica.jobs)
    rows = rows_of(keeper)
    at = next(n for n, row in enumerate(rows) if row.kind == RecordKind.GRANT)
    other = next(row for row in rows if row.kind == RecordKind.REPLICA_SET)
    body = {"cut": rows[at].body[:-9], "empty": b"", "swapped": other.body}[harm]
    rows[at] = StoredRow(rows[at].job_id, rows[at].kind, rows[at].key, body)
    assert restarted(cluster, keeper, rows) == ["malformed"]
    assert len(keeper.mesh.replica.jobs) == 1


def test_a_spec_under_another_jobs_id_is_no_job() -> None:
    cluster, workers, _, _ = busy_mesh(1)
    keeper = next(worker for worker in workers if worker.mesh.replica.jobs)
    rows = [StoredRow(b"x" * 32, row.kind, row.key, row.body) for row in rows_of(keeper)]
    restarted(cluster, keeper, rows)
    assert not keeper.mesh.replica.jobs


@pytest.mark.parametrize("body", [b"", bytes(8), bytes(8) + b"\7", bytes(9) + b"junk"])
def test_an_owed_result_that_cannot_be_read_is_left_out(body: bytes) -> None:
    cluster, workers, _, _ = busy_mesh(1)
    rows = [StoredRow(b"", OWED_COLUMNS_ROW, b"k", b""), StoredRow(b"", OWED_HEADER_ROW, b"k", body)]
    assert restarted(cluster, workers[0], rows) == ["malformed"]
    assert len(workers[0].mesh.worker.outbox) == 0


def test_a_short_row_of_an_owed_result_is_an_error_of_the_row() -> None:
    with pytest.raises(RecordError):
        Outbox.split_row(bytes(8) + b"\1" + bytes(31))
