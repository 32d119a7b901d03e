"""What a worker owes: sent at once, kept when slow, let go at two of three."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import CancelTimer, Notify, Persist, Send, SetTimer, Unpersist, UnpinBlobs
from hearthmesh.protocol.messages import Delivery
from hearthmesh.protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW, Outbox, output_pin
from tests.protocol.machines import JOB, PEERS, A, B, Bench, C, D, batch_header

TIMER = ("outbox", b"")
PIN = output_pin(1)
RETRY_US = LOCAL.outbox_retry_us


def filled(bench: Bench) -> tuple[Outbox, bytes, Delivery]:
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    bench.effects()
    return outbox, header.id, Delivery(header.raw, b"columns")


def test_batch_goes_to_all_replicas_at_once() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    delivery = Delivery(header.raw, b"columns")
    assert bench.effects() == [SetTimer(TIMER, RETRY_US), *(Send(peer, delivery) for peer in PEERS)]


def test_two_of_three_acknowledgments_settle_it() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.on_stored(A.node_id, (batch_id,))
    assert bench.effects() == [] and len(outbox) == 1
    outbox.on_stored(B.node_id, (batch_id,))
    assert bench.effects() == [UnpinBlobs(PIN), CancelTimer(TIMER)] and len(outbox) == 0


def test_acknowledgment_of_a_node_that_is_no_replica_counts_for_nothing() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    for node in (D.node_id, bytes(32)):
        outbox.on_stored(node, (batch_id, bytes(32)))
        outbox.on_declined(node, batch_id, "accepted")
    assert bench.effects() == [] and len(outbox) == 1


def test_slow_batch_is_kept_on_disk_and_sent_again_to_who_did_not_answer() -> None:
    bench = Bench()
    outbox, batch_id, delivery = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.retry(RETRY_US)
    header_row, columns_row, *rest = bench.effects()
    assert isinstance(header_row, Persist) and isinstance(columns_row, Persist)
    assert (header_row.kind, columns_row.kind) == (OWED_HEADER_ROW, OWED_COLUMNS_ROW)
    assert Outbox.split_row(header_row.body) == (PEERS, delivery.header) and columns_row.body == b"columns"
    assert rest == [Send(B.node_id, delivery), Send(C.node_id, delivery), SetTimer(TIMER, 2 * RETRY_US)]
    outbox.on_stored(C.node_id, (batch_id,))
    assert bench.effects() == [
        UnpinBlobs(PIN),
        Unpersist(JOB, OWED_HEADER_ROW, batch_id),
        Unpersist(JOB, OWED_COLUMNS_ROW, batch_id),
        CancelTimer(TIMER),
    ]


def test_second_retry_writes_nothing_to_disk() -> None:
    bench = Bench()
    outbox, _, _ = filled(bench)
    outbox.retry(RETRY_US)
    bench.effects()
    outbox.retry(2 * RETRY_US)
    assert not [effect for effect in bench.effects() if isinstance(effect, Persist)]


def test_batch_of_the_last_life_is_sent_again() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(3)
    outbox.restore(header.raw, b"columns", PEERS, 0)
    assert bench.effects() == [SetTimer(TIMER, RETRY_US)]
    outbox.retry(RETRY_US)
    assert [peer for peer, _ in bench.sent()] == list(PEERS)


def test_batch_of_a_job_that_was_accepted_is_given_up_at_once() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_declined(A.node_id, batch_id, "accepted")
    assert len(outbox) == 0


def test_batch_that_only_the_dead_have_not_declined_is_given_up() -> None:
    bench = Bench(peers=PEERS[:2])
    outbox, batch_id, _ = filled(bench)
    outbox.on_declined(A.node_id, batch_id, "unknown-job")
    assert len(outbox) == 1
    outbox.on_declined(B.node_id, batch_id, "unknown-job")
    assert len(outbox) == 0


@pytest.mark.parametrize("reason", ["unknown-job", "bad-proof", "not-admitted", "too-many"])
def test_batch_that_all_decline_for_good_is_given_up(reason: str) -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    for peer in PEERS[:2]:
        outbox.on_declined(peer, batch_id, reason)
    assert bench.effects() == [] and len(outbox) == 1
    outbox.on_declined(PEERS[2], batch_id, reason)
    note, *rest = bench.effects()
    assert note == Notify("outbox.given-up", {"job_id": JOB, "reason": reason})
    assert rest == [UnpinBlobs(PIN), CancelTimer(TIMER)] and len(outbox) == 0


def test_full_disks_at_all_replicas_are_waited_for() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    for peer in PEERS:
        outbox.on_declined(peer, batch_id, "disk-full")
    assert len(outbox) == 1
    outbox.retry(RETRY_US)
    assert [peer for peer, _ in bench.sent()] == list(PEERS)


def test_new_replicas_get_what_is_owed_and_their_word_counts() -> None:
    bench = Bench()
    outbox, batch_id, delivery = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.change_replicas(JOB, (A.node_id, B.node_id, D.node_id), RETRY_US)
    assert bench.effects() == [Send(D.node_id, delivery)]
    outbox.on_stored(D.node_id, (batch_id,))
    assert len(outbox) == 0


def test_outbox_is_full_at_its_bound() -> None:
    bench = Bench(replace(LOCAL, outbox_max=3))
    outbox = Outbox(bench.ctx, bench.members)
    for first in range(3):
        assert not outbox.full
        outbox.add(batch_header(first), b"", PEERS, 0, pin=PIN)
    assert outbox.full


def test_single_replica_is_enough_where_there_is_one() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"", (A.node_id,), 0, pin=PIN)
    outbox.on_stored(A.node_id, (header.id,))
    assert len(outbox) == 0
