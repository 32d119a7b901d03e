"""What a node appends to its history: whole lines, before anything that follows from them leaves, or nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.history import History
from hearthmesh.protocol.effects import CancelExecution, Execute, Notify, Persist, Send
from hearthmesh.protocol.events import ExecutionFailed, Received, TaskFinished, TimerFired
from hearthmesh.protocol.messages import Granted, Records
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    BatchHeader,
    Grant,
    Record,
    RecordBody,
    RecordKind,
    Release,
    sign_record,
)

NODE, OTHER = Identity.from_seed(b"n" * 32), Identity.from_seed(b"o" * 32)
JOB = b"j" * 32
TIMER = TimerFired(("sweep", b""))


def signed(author: Identity, kind: RecordKind, body: RecordBody) -> Record:
    return sign_record(author, kind, body)


def grant(author: Identity, holder: Identity, parent: bytes = b"") -> Record:
    return signed(author, RecordKind.GRANT, Grant(JOB, 0, 4, 1, holder.node_id, 1_000, parent))


def batch(author: Identity) -> Record:
    header = BatchHeader(JOB, 0, 4, 1, bytes(32), 0, 5, 0, 7, 6, False, b"")
    return signed(author, RecordKind.BATCH, header)


def finished(execution_id: int) -> TaskFinished:
    return TaskFinished(execution_id, (0,) * 4, (b"",) * 4, {}, {}, (0,) * 4, (1,) * 4, 7, 6, False)


@dataclass
class Worker:
    """One that took these grants, or all, and whose executions made these batches."""

    grants: tuple[bytes, ...] | None = None
    batches: dict[int, Record] = field(default_factory=dict)

    def took(self, grant_id: bytes) -> bool:
        return self.grants is None or grant_id in self.grants

    def made(self, execution_id: int) -> Record | None:
        return self.batches.get(execution_id)


IDLE = Worker()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.jsonl", NODE.node_id, "kitchen", 1)


def told(history: History) -> list[dict[str, Any]]:
    """All lines but the first, without number and time."""
    history.flush()
    found = lines(history._path)
    assert [line["n"] for line in found] == list(range(1, len(found) + 1))
    return [{key: value for key, value in line.items() if key not in ("n", "at_us")} for line in found[1:]]


def test_nothing_is_written_for_an_event_that_changes_nothing(history: History) -> None:
    history.note(TIMER, [], 2, IDLE)
    assert told(history) == []


def test_a_grant_is_told_once_and_only_by_who_gave_it(history: History) -> None:
    mine, foreign = grant(NODE, OTHER), grant(OTHER, NODE)
    effects = [Persist(JOB, int(RecordKind.GRANT), record.id, record.raw) for record in (mine, foreign)]
    history.note(TIMER, [*effects, Send(OTHER.node_id, Granted(1, (mine.raw,), (), 0))], 2, IDLE)
    (line,) = told(history)
    assert (line["event"], line["grant"], line["holder"]) == ("grant", mine.id.hex(), OTHER.node_id.hex())
    assert (line["job"], line["lo"], line["hi"], line["epoch"], line["parent"]) == (JOB.hex(), 0, 4, 1, "")


def test_a_lease_is_told_if_the_machine_took_it_and_before_what_starts_under_it(history: History) -> None:
    taken, refused = grant(OTHER, NODE), signed(OTHER, RecordKind.GRANT, Grant(JOB, 4, 8, 1, NODE.node_id, 1_000))
    received = Received(OTHER.node_id, Granted(1, (taken.raw, refused.raw), (), 0))
    history.note(received, [Execute(1, JOB, 0, 4, 1)], 2, Worker((taken.id,)))
    assert [(line["event"], line["lo"], line["hi"]) for line in told(history)] == [("lease", 0, 4), ("start", 0, 4)]


def test_a_grant_to_itself_is_given_and_taken(history: History) -> None:
    own = grant(NODE, NODE)
    history.note(TIMER, [Persist(JOB, int(RecordKind.GRANT), own.id, own.raw)], 2, IDLE)
    assert [line["event"] for line in told(history)] == ["grant", "lease"]


def test_a_result_is_told_when_its_execution_ends_and_before_what_starts_next(history: History) -> None:
    mine = batch(NODE)
    history.note(finished(9), [Execute(10, JOB, 4, 4, 1)], 3, Worker(batches={9: mine}))
    line, start = told(history)
    assert (line["event"], line["execution"], line["batch"], line["energy_mj"]) == ("result", 9, mine.id.hex(), 7)
    assert (start["event"], start["execution"]) == ("start", 10)


def test_an_execution_that_was_cancelled_while_it_ended_has_no_result(history: History) -> None:
    history.note(TIMER, [CancelExecution(9)], 2, IDLE)
    history.note(finished(9), [], 3, IDLE)
    history.note(ExecutionFailed(9, "killed", False, 0), [], 3, IDLE)
    assert [(line["event"], line.get("reason")) for line in told(history)] == [("stop", "cancelled")]


def test_an_execution_that_failed_stops_and_a_batch_of_others_is_kept(history: History) -> None:
    foreign = batch(OTHER)
    history.note(ExecutionFailed(3, "no memory", False, 0), [], 2, IDLE)
    history.note(TIMER, [Persist(JOB, int(RecordKind.BATCH), foreign.id, foreign.raw)], 3, IDLE)
    stop, keep = told(history)
    assert (stop["event"], stop["execution"], stop["reason"]) == ("stop", 3, "no memory")
    assert (keep["event"], keep["worker"]) == ("keep", OTHER.node_id.hex())


def test_a_lease_that_ran_out_and_one_that_was_held_too_long_are_told(history: History) -> None:
    ends = [
        Notify("lease.expired", {"job_id": JOB, "holder": OTHER.node_id, "lo": 1, "hi": 3}),
        Notify("lease.overrun", {"job_id": JOB, "holder": OTHER.node_id, "tasks": 2}),
    ]
    history.note(TIMER, ends, 2, IDLE)
    whose = {"job": JOB.hex(), "holder": OTHER.node_id.hex()}
    assert told(history) == [{"event": "expire", **whose, "lo": 1, "hi": 3}, {"event": "overrun", **whose}]


def test_an_acceptance_is_told_once_however_often_replicas_are(history: History) -> None:
    acceptance = signed(NODE, RecordKind.ACCEPTANCE, Acceptance(JOB, (AcceptedBatch(b"b" * 32, 0, 4),)))
    foreign = signed(OTHER, RecordKind.ACCEPTANCE, Acceptance(JOB, (AcceptedBatch(b"c" * 32, 0, 4),)))
    release = signed(NODE, RecordKind.RELEASE, Release(JOB, 0, 4, grant(OTHER, NODE).raw))
    words = Records(JOB, (acceptance.raw, foreign.raw, release.raw))
    history.note(TIMER, [Send(OTHER.node_id, words), Send(NODE.node_id, words)], 2, IDLE)
    accept, given_back = told(history)
    assert (accept["event"], accept["parts"]) == ("accept", [[(b"b" * 32).hex(), 0, 4]])
    assert (given_back["event"], given_back["grant"]) == ("release", grant(OTHER, NODE).id.hex())


def test_a_new_life_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(path, NODE.node_id, "kitchen", 1).close()
    with path.open("ab") as file:
        file.write(b'{"n":2,"at_us":5,"ev')
    History(path, NODE.node_id, "kitchen", 9).close()
    first, torn, second = path.read_text().splitlines()
    assert json.loads(first)["event"] == json.loads(second)["event"] == "begin"
    assert torn == '{"n":2,"at_us":5,"ev'


def test_a_disk_that_takes_nothing_ends_the_history_and_not_the_node(tmp_path: Path) -> None:
    history = History(Path("/dev/full"), NODE.node_id, "kitchen", 1)
    history.note(TIMER, [Execute(1, JOB, 0, 4, 1)], 2, IDLE)
    history.flush()
    history.close()
