"""A follower gets each batch once, in its window, and progress when it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Send, SendBatch
from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.messages import Delivery, JobStatus, Rejected, Subscribe, TaskRange
from hearthmesh.protocol.records import Acceptance, AcceptedBatch, Record, RecordKind, sign_record
from hearthmesh.protocol.subscriptions import TOO_MANY_FOLLOWERS, Subscriptions
from tests.protocol.machines import JOB, REPLICA_SET, SPEC, SUBMITTER, A, B, Bench, C, batch_header

HEADERS = [batch_header(first) for first in range(6)]
IDS = [header.id for header in HEADERS]


class Follow:
    """A job with batches 0..5 as far as told, and its followers."""

    def __init__(self, *, known: int = 0, subscribers_max: int = 16) -> None:
        self.bench = Bench(replace(LOCAL, subscribers_max=subscribers_max))
        self.state = JobState(SPEC)
        self.state.merge(REPLICA_SET)
        self.ledger = Ledger(self.state, 250_000)
        self.ledger.rebuild(0, 1_000_000)
        self.subscriptions = Subscriptions(self.bench.ctx, self.state)
        for header in HEADERS[:known]:
            self.store(header)

    def store(self, header: Record) -> None:
        self.state.merge(header)
        self.ledger.apply(header, 0)
        self.subscriptions.stored(header.id, Delivery(header.raw, b""), is_copy=header.body.copy > 0)

    def subscribe(self, peer: bytes, *have: tuple[int, int], window: int = 2, results: bool = True) -> bool:
        ranges = tuple(TaskRange(lo, hi) for lo, hi in have)
        return self.subscriptions.subscribe(peer, Subscribe(JOB, ranges, results, window))

    def accept(self, first: int, count: int) -> None:
        parts = tuple(AcceptedBatch(IDS[index], index, index + 1) for index in range(first, first + count))
        self.state.merge(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(JOB, parts)))

    def batches(self) -> list[bytes]:
        """Ids of what was sent, from disk or from memory."""
        found = []
        for effect in self.bench.effects():
            if isinstance(effect, SendBatch):
                found.append(effect.batch_id)
            elif isinstance(effect, Send) and isinstance(effect.message, Delivery):
                found.append(next(header.id for header in HEADERS if header.raw == effect.message.header))
        return found


def test_follower_gets_old_batches_within_its_window_and_the_next_when_it_consumed() -> None:
    play = Follow(known=5)
    play.subscribe(A.node_id, window=2)
    assert play.bench.effects() == [SendBatch(A.node_id, JOB, IDS[0]), SendBatch(A.node_id, JOB, IDS[1])]
    play.subscriptions.consumed(A.node_id, (IDS[1],))
    assert play.batches() == [IDS[2]]
    play.subscriptions.consumed(A.node_id, (IDS[0], IDS[2]))
    assert play.batches() == [IDS[3], IDS[4]]


def test_consuming_what_was_not_sent_opens_no_window() -> None:
    play = Follow(known=5)
    play.subscribe(A.node_id, window=2)
    play.batches()
    play.subscriptions.consumed(A.node_id, (IDS[4], bytes(32)))
    play.subscriptions.consumed(B.node_id, (IDS[0],))
    assert play.batches() == []


def test_fresh_batch_goes_straight_from_memory_while_the_window_is_open() -> None:
    play = Follow()
    play.subscribe(A.node_id, window=1)
    play.store(HEADERS[0])
    assert play.bench.effects() == [Send(A.node_id, Delivery(HEADERS[0].raw, b""))]
    play.store(HEADERS[1])
    assert play.bench.effects() == []
    play.subscriptions.consumed(A.node_id, (IDS[0],))
    assert play.bench.effects() == [SendBatch(A.node_id, JOB, IDS[1])]


def test_every_follower_has_its_own_window() -> None:
    play = Follow(known=4)
    play.subscribe(A.node_id, window=1)
    play.subscribe(B.node_id, window=3)
    assert play.batches() == [IDS[0], IDS[0], IDS[1], IDS[2]]


def test_what_the_follower_has_and_accepted_is_not_sent() -> None:
    play = Follow(known=4)
    play.accept(0, 3)
    play.subscribe(A.node_id, (0, 3), window=16)
    assert play.batches() == [IDS[3]]


def test_what_the_follower_has_but_nobody_accepted_comes_again() -> None:
    play = Follow(known=4)
    play.accept(0, 1)
    play.subscribe(A.node_id, (0, 3), window=16)
    assert play.batches() == [IDS[1], IDS[2], IDS[3]]


@pytest.mark.parametrize("have", [(5, 5), (7, 3), (1 << 40, 1 << 40)])
def test_ranges_that_make_no_sense_are_nothing(have: tuple[int, int]) -> None:
    play = Follow(known=2)
    play.accept(0, 2)
    assert play.subscribe(A.node_id, have, window=16)
    assert play.batches() == IDS[:2]


def test_subscribing_again_starts_over() -> None:
    play = Follow(known=3)
    play.subscribe(A.node_id, window=1)
    play.subscribe(A.node_id, window=1)
    assert play.batches() == [IDS[0], IDS[0]]
    assert len(play.subscriptions) == 1


def test_followers_are_bounded_and_a_place_is_free_again_when_one_goes() -> None:
    play = Follow(subscribers_max=2)
    assert play.subscribe(A.node_id) and play.subscribe(B.node_id)
    assert not play.subscribe(C.node_id)
    play.subscriptions.remove(A.node_id)
    assert play.subscribe(C.node_id)


def test_the_submitter_has_a_place_and_who_came_last_is_told_that_it_has_none() -> None:
    play = Follow(subscribers_max=2)
    assert play.subscribe(A.node_id) and play.subscribe(B.node_id)
    play.bench.effects()
    assert play.subscribe(SUBMITTER.node_id)
    assert play.bench.sent() == [(B.node_id, Rejected(0, JOB, TOO_MANY_FOLLOWERS))]
    assert play.subscriptions.has(A.node_id) and play.subscriptions.has(SUBMITTER.node_id)
    assert len(play.subscriptions) == 2
    assert not play.subscribe(B.node_id)


def test_a_new_copy_goes_to_the_submitter_alone() -> None:
    play = Follow()
    play.subscribe(A.node_id)
    play.subscribe(SUBMITTER.node_id)
    play.bench.effects()
    copy = Delivery(HEADERS[0].raw, b"")
    play.subscriptions.stored(HEADERS[0].id, copy, is_copy=True)
    assert play.bench.effects() == [Send(SUBMITTER.node_id, copy)]


def test_who_wants_progress_only_gets_no_batches() -> None:
    play = Follow(known=2)
    play.subscribe(A.node_id, results=False)
    play.store(HEADERS[2])
    assert play.batches() == []


def test_progress_comes_when_it_changed_not_too_often_and_as_a_heartbeat() -> None:
    play = Follow()
    play.subscribe(A.node_id)
    play.subscriptions.report_to(A.node_id, play.ledger, 0, 0)
    play.bench.effects()
    told: list[tuple[int, int]] = []
    for tick in range(1, 60):
        now_us = tick * 100_000
        if tick == 12:
            play.store(HEADERS[0])
        play.subscriptions.report(play.ledger, 7, now_us)
        for _, message in play.bench.sent():
            if isinstance(message, JobStatus):
                told.append((now_us, message.done))
    gaps = [after - before for (before, _), (after, _) in zip(told, told[1:], strict=False)]
    assert all(gap >= LOCAL.progress_interval_us for gap in gaps)
    assert max(gaps) <= LOCAL.status_heartbeat_us + 100_000
    assert next(now_us for now_us, done in told if done == 1) <= 1_200_000 + LOCAL.progress_interval_us
