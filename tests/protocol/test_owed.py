"""What a worker owes: sent soon, kept when slow, let go at two of three."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import CancelTimer, Notify, Persist, Send, SetTimer, Unpersist, UnpinBlobs
from hearthmesh.protocol.liveness import Status
from hearthmesh.protocol.messages import Delivery, FindJob
from hearthmesh.protocol.outbox import BACKOFF_MAX, OWED_COLUMNS_ROW, OWED_HEADER_ROW, Outbox, output_pin
from tests.protocol.machines import JOB, PEERS, A, B, Bench, C, D, batch_header

TIMER = ("outbox", b"")
PIN = output_pin(1)
RETRY_US = LOCAL.outbox_retry_us


def filled(bench: Bench) -> tuple[Outbox, bytes, Delivery]:
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    outbox.send_copies()
    bench.effects()
    return outbox, header.id, Delivery(header.raw, b"columns")


def test_batch_goes_to_the_first_replica_at_once_and_to_the_others_soon() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    delivery = Delivery(header.raw, b"columns")
    later = SetTimer(("copies", b""), LOCAL.copy_delay_us)
    assert bench.effects() == [SetTimer(TIMER, RETRY_US), Send(PEERS[0], delivery), later]
    outbox.send_copies()
    assert bench.effects() == [Send(peer, delivery) for peer in PEERS[1:]]
    outbox.send_copies()
    assert bench.effects() == []


def test_batches_of_one_moment_are_copied_together() -> None:
    bench = Bench()
    outbox, headers = Outbox(bench.ctx, bench.members), [batch_header(0), batch_header(1)]
    for header in headers:
        outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    armed = [effect.key for effect in bench.effects() if isinstance(effect, SetTimer)]
    assert armed == [TIMER, ("copies", b"")]
    outbox.send_copies()
    assert [peer for peer, _ in bench.sent()] == [*PEERS[1:], *PEERS[1:]]


def test_where_the_first_replica_is_dead_the_next_is_the_first() -> None:
    bench = Bench(peers=PEERS[1:])
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    assert [peer for peer, _ in bench.sent()] == [PEERS[1]]
    outbox.send_copies()
    assert [peer for peer, _ in bench.sent()] == [PEERS[0], PEERS[2]]


def test_node_that_leaves_sends_what_was_not_copied_once() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"columns", PEERS, 0, pin=PIN)
    bench.effects()
    outbox.flush(0)
    assert [peer for peer, _ in bench.sent()] == list(PEERS)
    outbox.send_copies()
    assert bench.sent() == []


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
    assert Outbox.split_row(header_row.body) == (0, PEERS, delivery.header) and columns_row.body == b"columns"
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
    outbox, _, delivery = filled(bench)
    outbox.retry(RETRY_US)
    row = next(effect for effect in bench.effects() if isinstance(effect, Persist))
    reborn = Outbox(bench.ctx, bench.members)
    reborn.restore(row.body, b"columns", 2 * RETRY_US)
    assert bench.effects() == [SetTimer(TIMER, 3 * RETRY_US)]
    reborn.retry(3 * RETRY_US)
    assert bench.sent() == [(peer, delivery) for peer in PEERS]


def test_batch_of_a_job_that_enough_replicas_call_accepted_is_given_up() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_declined(A.node_id, batch_id, "accepted")
    assert len(outbox) == 1
    outbox.on_declined(B.node_id, batch_id, "accepted")
    assert len(outbox) == 0


def test_batch_of_which_one_replica_has_it_and_another_calls_the_job_accepted_is_settled() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_declined(A.node_id, batch_id, "accepted")
    outbox.on_stored(B.node_id, (batch_id,))
    assert len(outbox) == 0


def test_batch_of_tasks_of_which_replicas_have_enough_by_this_worker_is_settled() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.on_declined(A.node_id, batch_id, "repeated")
    assert len(outbox) == 1
    outbox.on_declined(B.node_id, batch_id, "repeated")
    assert len(outbox) == 0


@pytest.mark.parametrize("reason", ["bad-proof", "not-admitted"])
def test_batch_that_no_replica_will_ever_take_is_given_up(reason: str) -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    for peer in PEERS[:2]:
        outbox.on_declined(peer, batch_id, reason)
    assert bench.effects() == [] and len(outbox) == 1
    outbox.on_declined(PEERS[2], batch_id, reason)
    note, *rest = bench.effects()
    assert note == Notify("outbox.given-up", {"job_id": JOB, "reason": reason})
    assert rest == [UnpinBlobs(PIN), CancelTimer(TIMER)] and len(outbox) == 0


@pytest.mark.parametrize("reason", ["unknown-job", "too-many", "disk-full", "no source has the blob"])
@pytest.mark.parametrize("alive", [1, 2, 3])
def test_batch_that_nobody_takes_now_is_kept(reason: str, alive: int) -> None:
    bench = Bench(peers=PEERS[:alive])
    outbox, batch_id, _ = filled(bench)
    for peer in PEERS[:alive]:
        outbox.on_declined(peer, batch_id, reason)
    assert bench.notes() == [] and len(outbox) == 1


def test_batch_that_nobody_took_in_a_week_is_given_up() -> None:
    bench = Bench()
    outbox, _, _ = filled(bench)
    outbox.retry(LOCAL.owed_ttl_us)
    assert len(outbox) == 1
    bench.effects()
    outbox.retry(LOCAL.owed_ttl_us + BACKOFF_MAX * RETRY_US)
    assert bench.notes() == [("outbox.given-up", {"job_id": JOB, "reason": "too-old"})] and len(outbox) == 0


def test_job_whose_replicas_do_not_know_it_is_asked_for_among_the_living() -> None:
    bench = Bench(peers=(A.node_id, D.node_id))
    outbox, batch_id, delivery = filled(bench)
    for tick in range(1, 5):
        outbox.retry(tick * RETRY_US)
    assert [peer for peer, message in bench.sent() if isinstance(message, FindJob)] == []
    outbox.on_declined(A.node_id, batch_id, "unknown-job")
    outbox.retry(8 * RETRY_US)
    sent = bench.sent()
    assert (A.node_id, delivery) in sent
    assert {peer for peer, message in sent if isinstance(message, FindJob)} == {A.node_id, D.node_id}
    assert all(message.job_id == JOB for _, message in sent if isinstance(message, FindJob))


def test_what_is_sent_in_vain_is_sent_ever_more_seldom_until_a_replica_comes_back() -> None:
    bench = Bench()
    outbox, _, _ = filled(bench)
    sent_at = []
    for tick in range(1, 65):
        outbox.retry(tick * RETRY_US)
        if bench.sent():
            sent_at.append(tick)
    assert sent_at == [1, 2, 4, 8, 16, 32, 48, 64]
    outbox.on_alive(D.node_id, 65 * RETRY_US)
    outbox.retry(65 * RETRY_US)
    assert bench.sent() == []
    outbox.on_alive(A.node_id, 65 * RETRY_US)
    outbox.retry(66 * RETRY_US)
    assert [peer for peer, _ in bench.sent()] == list(PEERS)


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


def test_word_of_who_lost_its_seat_counts_no_more() -> None:
    bench = Bench()
    outbox, batch_id, delivery = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.change_replicas(JOB, (B.node_id, C.node_id, D.node_id), RETRY_US)
    outbox.on_stored(B.node_id, (batch_id,))
    assert len(outbox) == 1
    bench.effects()
    outbox.change_replicas(JOB, (A.node_id, B.node_id, D.node_id), 2 * RETRY_US)
    assert bench.effects() == [Send(A.node_id, delivery)] and len(outbox) == 1
    outbox.on_stored(A.node_id, (batch_id,))
    assert len(outbox) == 0


def test_what_is_enough_for_a_smaller_set_is_settled() -> None:
    bench = Bench()
    outbox, batch_id, _ = filled(bench)
    outbox.on_stored(A.node_id, (batch_id,))
    outbox.change_replicas(JOB, (A.node_id,), RETRY_US)
    assert len(outbox) == 0


def test_outbox_is_full_at_its_bound() -> None:
    bench = Bench(replace(LOCAL, outbox_max=3))
    outbox = Outbox(bench.ctx, bench.members)
    for first in range(3):
        assert not outbox.full
        outbox.add(batch_header(first), b"", PEERS, 0, pin=PIN)
    assert outbox.full


def test_stranded_batches_leave_room_for_others_up_to_a_bound_of_their_own() -> None:
    bench = Bench(replace(LOCAL, outbox_max=3, owed_max=5))
    outbox = Outbox(bench.ctx, bench.members)
    for first in range(3):
        outbox.add(batch_header(first), b"", PEERS, 0, pin=PIN)
    for tick in (1, 2, 4):
        assert outbox.full
        outbox.retry(tick * RETRY_US)
    assert not outbox.full and outbox.on_the_way == 0
    for first in range(3, 5):
        assert not outbox.full
        outbox.add(batch_header(first), b"", PEERS, 0, pin=PIN)
    assert outbox.full and outbox.on_the_way == 2


def test_outbox_is_full_when_its_bytes_are_too_many() -> None:
    bench = Bench(replace(LOCAL, owed_bytes_max=10))
    outbox = Outbox(bench.ctx, bench.members)
    outbox.add(batch_header(0), b"12345", PEERS, 0, pin=PIN)
    assert not outbox.full
    outbox.add(batch_header(1), b"67890", PEERS, 0, pin=PIN)
    assert outbox.full
    outbox.on_stored(A.node_id, (batch_header(1).id,))
    outbox.on_stored(B.node_id, (batch_header(1).id,))
    assert not outbox.full


def test_single_replica_is_enough_where_there_is_one() -> None:
    bench = Bench()
    outbox, header = Outbox(bench.ctx, bench.members), batch_header(0)
    outbox.add(header, b"", (A.node_id,), 0, pin=PIN)
    outbox.on_stored(A.node_id, (header.id,))
    assert len(outbox) == 0


@pytest.mark.parametrize("watched", [True, False])
def test_keepers_of_another_cell_are_given_some_tries_before_others_are_asked_for_the_job(watched: bool) -> None:
    bench = Bench(peers=(D.node_id,))
    if watched:
        bench.members.watch(list(PEERS), 0)
        assert {bench.members.status(peer) for peer in PEERS} == {Status.UNKNOWN}
    outbox, _, delivery = filled(bench)
    asked = []
    now_us = 0
    for _ in range(4):
        now_us += BACKOFF_MAX * RETRY_US
        outbox.retry(now_us)
        sent = bench.sent()
        assert [peer for peer, message in sent if message == delivery] == list(PEERS)
        asked.append(any(isinstance(message, FindJob) for _, message in sent))
    assert asked == [False, False, True, True]
