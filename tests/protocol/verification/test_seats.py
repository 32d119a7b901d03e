"""However often a copy was run it brings one vote, and no copy is lost as long as somebody who ran it has no other."""

from __future__ import annotations

import random
import sys
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.messages import Steal
from hearthmesh.protocol.pace import Pace
from hearthmesh.protocol.records import BatchHeader, Grant, Recheck, RecordKind, ReplicaSet, sign_record
from hearthmesh.protocol.subscriptions import Subscriptions
from hearthmesh.protocol.tables import Tables
from hearthmesh.protocol.verification.comparators import EXACT
from hearthmesh.protocol.verification.copies import CopyDesk, _without_own
from hearthmesh.protocol.verification.exhibits import Exhibit
from hearthmesh.protocol.verification.lanes import numbers_of
from hearthmesh.protocol.verification.policy import parse_policy
from hearthmesh.protocol.verification.referee import UNASKED_A_WORKER, VOTES_A_COPY_MAX, Referee
from hearthmesh.protocol.verification.seats import seated
from hearthmesh.protocol.verification.trust import TrustBook
from tests.protocol.arena import context, identity
from tests.protocol.machines import JOB, REPLICA_SET, SPEC, SUBMITTER, A, B, C

SECOND = 1_000_000
PATIENCE_US = 30 * SECOND
RIGHT, LIE = b"right", b"lie"
HONEST = [identity(number) for number in range(20, 28)]
LIAR, OTHER_LIAR = identity(30), identity(31)

runs_of = st.lists(st.tuples(st.integers(1, 5), st.sampled_from([b"a", b"b", b"c", b"d", b"e"])), max_size=10)


@given(runs_of)
def test_each_node_has_one_seat_and_each_copy_one_vote_and_as_many_as_can_be_are_seated(
    runs: list[tuple[int, bytes]],
) -> None:
    seats = seated(runs)
    assert len(set(seats.values())) == len(seats)
    assert all((copy, node) in runs for node, copy in seats.items())
    nodes, copies = sorted({node for _, node in runs}), sorted({copy for copy, _ in runs})
    padded = copies + [0] * len(nodes)
    most = max(
        sum((copy, node) in runs for node, copy in zip(nodes, order, strict=False))
        for order in permutations(padded[: max(len(nodes), len(copies))], len(nodes))
    )
    assert len(seats) == most


@given(runs_of, runs_of)
def test_who_has_a_seat_keeps_one_as_more_results_come(
    runs: list[tuple[int, bytes]], more: list[tuple[int, bytes]]
) -> None:
    assert seated(runs).keys() <= seated([*runs, *more]).keys()


class Bench:
    """A referee of a job of a hundred tasks, and what nodes deliver to it."""

    def __init__(self, policy: str, panel: list[Identity]) -> None:
        self.state = JobState(SPEC)
        self.state.merge(REPLICA_SET)
        self.book, self.panel, self.now_us = TrustBook(), panel, 0
        self.referee = Referee(
            self.state,
            parse_policy(policy),
            EXACT,
            self.book,
            random.Random(1),
            lambda _kind: [node.node_id for node in self.panel],
            lambda _node: "",
        )

    def deliver(
        self,
        by: Identity,
        copy: int,
        answer: bytes,
        *,
        first: int = 1,
        count: int = 1,
        epoch: int = 1,
        asked: bool = True,
    ) -> None:
        outputs = (answer,) * count
        batch = Batch(first, epoch, (0,) * count, outputs, (1,) * count, (1,) * count, {}, {})
        lo, hi = numbers_of(first, first + count, copy, SPEC.body.tasks)
        grant = sign_record(A, RecordKind.GRANT, Grant(JOB, lo, hi, epoch, by.node_id, SECOND)).raw if copy else b""
        body = BatchHeader(JOB, first, count, epoch, batch.root(), 0, 10, 0, 5, 5, False, b"", copy, grant)
        exhibit = Exhibit(sign_record(by, RecordKind.BATCH, body), batch, encode_columns(batch), A.node_id)
        if copy:
            if asked:
                self.ask(copy, first, first + count)
            self.referee.hear_copy(exhibit, self.now_us, 0)
        else:
            self.referee.take(exhibit, ((first, first + count),), self.now_us, 0)

    def ask(self, copy: int, lo: int, hi: int) -> None:
        """As the submitter does, whatever the referee wants."""
        body = Recheck(JOB, lo, hi, copy, bytes(16), ())
        self.state.merge(sign_record(SUBMITTER, RecordKind.RECHECK, body))
        self.referee.has_asked(body, self.now_us, 0)

    def ask_as_wanted(self) -> None:
        """All that it wants, and wants because of that."""
        while self.referee.requests:
            requests, self.referee.requests = self.referee.requests, []
            for body in requests:
                self.ask(body.copy, body.lo, body.hi)

    def wait(self) -> None:
        self.now_us += PATIENCE_US
        self.referee.on_time(self.now_us, 0, PATIENCE_US)

    def passed(self) -> dict[int, bytes]:
        """By task, whose result."""
        return {
            index: ruling.exhibit.header.author
            for ruling in self.referee.rulings
            for lo, hi in ruling.parts
            for index in range(lo, hi)
        }


@pytest.mark.parametrize("policy", ["quorum(2)", "adaptive"])
def test_copies_that_several_ran_bring_as_many_votes_as_there_are_copies(policy: str) -> None:
    """Seed 1001: a replica's disk was lost, and one node had run both copies before others ran them again."""
    one, two, three = HONEST[:3]
    bench = Bench(policy, [one, two, three, LIAR])
    bench.deliver(LIAR, 0, LIE)
    bench.referee.caught[LIAR.node_id] = None
    bench.deliver(one, 1, RIGHT)
    bench.wait()
    bench.deliver(one, 2, RIGHT)
    assert not bench.passed()
    bench.deliver(two, 1, RIGHT, epoch=2)
    assert bench.passed() == {1: one.node_id}


def test_accomplices_who_hand_a_copy_round_have_one_vote_by_it() -> None:
    """Who asks quickest lets its lease run out, and the next accomplice takes it: the salt chose one of them."""
    accomplices = [identity(number) for number in range(40, 60)]
    honest = HONEST[:3]
    bench = Bench("quorum(2)", [*honest, *accomplices])
    bench.deliver(honest[0], 0, RIGHT)
    for epoch, accomplice in enumerate(accomplices, 1):
        bench.deliver(accomplice, 1, LIE, epoch=epoch)
    assert not bench.passed() and len(bench.referee.cases[1].votes) == 1 + VOTES_A_COPY_MAX
    bench.deliver(honest[1], 2, RIGHT)
    assert not bench.passed()
    bench.deliver(honest[2], 3, RIGHT)
    assert bench.passed() == {1: honest[0].node_id}
    # What they said is no vote, but a lie all the same.
    assert len(bench.referee.caught) == VOTES_A_COPY_MAX and len(bench.referee.disputes) == VOTES_A_COPY_MAX


@pytest.mark.parametrize("copy", [2, 15])
def test_copies_that_nobody_asked_for_are_no_votes_and_copies_that_were_are(copy: int) -> None:
    """A replica that lies gives its accomplices as many as there are, with no salt, and nobody to race with."""
    accomplices = [identity(number) for number in range(40, 44)]
    bench = Bench("quorum(2)", [*HONEST[:3], *accomplices])
    bench.deliver(HONEST[0], 0, RIGHT)
    bench.ask_as_wanted()
    for number, accomplice in enumerate(accomplices[: 15 - copy] or accomplices[:1]):
        bench.deliver(accomplice, copy + number, LIE, asked=False)
    assert len(bench.referee.cases[1].votes) == 1 and not bench.referee.caught
    bench.deliver(HONEST[1], 1, RIGHT)
    assert bench.passed() == {1: HONEST[0].node_id}


def test_a_copy_that_came_before_it_was_asked_for_is_a_vote_from_then_on() -> None:
    """A client that comes back asks as it did before, and replicas have no reason to run that once more."""
    bench = Bench("quorum(2)", HONEST[:3])
    bench.deliver(HONEST[1], 1, RIGHT, count=2, asked=False)
    assert not bench.referee.cases
    bench.deliver(HONEST[0], 0, RIGHT)
    assert not bench.passed()
    bench.ask_as_wanted()
    assert bench.passed() == {1: HONEST[0].node_id}
    bench.deliver(HONEST[2], 0, RIGHT, first=2)
    bench.ask_as_wanted()
    assert bench.passed() == {1: HONEST[0].node_id, 2: HONEST[2].node_id}


def test_copies_that_nobody_asked_for_take_little_room() -> None:
    bench = Bench("quorum(2)", HONEST)
    for task in range(100):
        bench.deliver(LIAR, 1, LIE, first=task % 50, epoch=1 + task // 50, asked=False)
    bench.deliver(HONEST[0], 1, RIGHT, asked=False)
    authors = [exhibit.header.author for exhibit in bench.referee.unasked.values()]
    assert authors == [LIAR.node_id] * UNASKED_A_WORKER + [HONEST[0].node_id]


def test_those_who_were_caught_leave_room_for_who_ran_the_copy_after_them() -> None:
    accomplices = [identity(number) for number in range(40, 40 + VOTES_A_COPY_MAX)]
    bench = Bench("quorum(2)", [*HONEST[:2], *accomplices])
    bench.deliver(HONEST[0], 0, RIGHT)
    for epoch, accomplice in enumerate(accomplices, 1):
        bench.deliver(accomplice, 1, LIE, epoch=epoch)
    bench.referee.caught.update((accomplice.node_id, None) for accomplice in accomplices)
    bench.deliver(HONEST[1], 1, RIGHT, epoch=VOTES_A_COPY_MAX + 1)
    assert bench.passed() == {1: HONEST[0].node_id}


def test_a_node_that_ran_every_copy_has_one_vote() -> None:
    bench = Bench("quorum(3)", HONEST[:4])
    bench.deliver(HONEST[0], 0, RIGHT)
    for copy in (1, 2, 3, 4):
        bench.deliver(HONEST[1], copy, RIGHT)
        bench.wait()
    bench.deliver(HONEST[0], 1, RIGHT, epoch=2)
    assert not bench.passed()
    bench.deliver(HONEST[2], 2, RIGHT, epoch=2)
    assert bench.passed() == {1: HONEST[0].node_id}


def test_who_was_caught_and_never_voted_is_not_waited_for() -> None:
    bench = Bench("adaptive", [HONEST[0], LIAR, OTHER_LIAR])
    bench.referee.caught[LIAR.node_id] = None
    bench.book.found_wrong(OTHER_LIAR.node_id, "wasm", 0)
    bench.deliver(HONEST[0], 0, RIGHT)
    assert not bench.passed()
    bench.wait()
    assert bench.passed() == {1: HONEST[0].node_id}


def test_where_somebody_could_still_vote_nothing_passes_unchecked() -> None:
    bench = Bench("adaptive", [HONEST[0], HONEST[1], LIAR])
    bench.referee.caught[LIAR.node_id] = None
    bench.deliver(HONEST[0], 0, RIGHT)
    for _ in range(20):
        bench.wait()
    assert not bench.passed()


def test_who_voted_on_one_task_may_run_a_copy_of_its_neighbour() -> None:
    """Else a request for both leaves nobody, where each lacks the other's voters."""
    one, two, three, four = HONEST[:4]
    bench = Bench("quorum(3)", [one, two, three, four])
    bench.deliver(one, 0, RIGHT, first=1)
    bench.deliver(two, 0, RIGHT, first=2)
    bench.deliver(three, 1, RIGHT, first=1)
    bench.deliver(four, 1, RIGHT, first=2)
    bench.referee.requests.clear()
    bench.wait()
    asked = {(body.lo, body.hi): body.avoid for body in bench.referee.requests}
    assert asked == {(1, 2): (one.node_id, three.node_id), (2, 3): (two.node_id, four.node_id)}


def test_whose_copy_counts_for_another_is_asked_again() -> None:
    one, two, three = HONEST[:3]
    bench = Bench("quorum(3)", [one, two, three])
    bench.deliver(one, 0, RIGHT)
    bench.deliver(two, 1, RIGHT)
    bench.deliver(three, 1, RIGHT, epoch=2)
    bench.referee.requests.clear()
    bench.wait()
    assert [body.avoid for body in bench.referee.requests] == [(one.node_id, two.node_id)]
    bench.deliver(three, bench.referee.requests[0].copy, RIGHT)
    assert bench.passed() == {1: one.node_id}


# -- the replica's side --------------------------------------------------------------------------------------------


def kept_job(*runs: tuple[Identity, int]) -> KeptJob:
    """A job of which these nodes ran these copies of tasks 1 and 2."""
    ctx: Context = context(1, LOCAL)
    state = JobState(SPEC)
    state.merge(sign_record(identity(9), RecordKind.REPLICA_SET, ReplicaSet(JOB, 0, (A.node_id, B.node_id, C.node_id))))
    for number, (node, copy) in enumerate(runs):
        lo, hi = numbers_of(1, 3, copy, SPEC.body.tasks)
        grant = sign_record(A, RecordKind.GRANT, Grant(JOB, lo, hi, 1, node.node_id, SECOND)).raw
        body = BatchHeader(JOB, 1, 2, 1, bytes([number]) * 32, 0, 10, 0, 5, 5, False, b"", copy, grant)
        state.merge(sign_record(node, RecordKind.BATCH, body))
    ledger = Ledger(state, ctx.config.lease_sweep_us)
    return KeptJob(state, ledger, Subscriptions(ctx, state), since_us=0, adopted_us=0, pace=Pace(state, ctx.config))


@pytest.mark.parametrize(
    ("runs", "thief", "may"),
    [
        ([], 0, True),
        ([(0, 1)], 0, False),
        ([(0, 1)], 1, True),
        # Of the two that ran copy 1, each may be the one whose vote does not count.
        ([(0, 1), (1, 1)], 0, True),
        ([(0, 1), (1, 1)], 1, True),
        ([(0, 1), (0, 2), (1, 1)], 0, False),
        ([(0, 1), (0, 2), (1, 1)], 1, False),
        ([(0, 1), (0, 2), (1, 1), (2, 2)], 2, True),
    ],
)
def test_a_thief_gets_another_copy_only_if_it_would_have_no_vote_without(
    runs: list[tuple[int, int]], thief: int, may: bool
) -> None:
    kept = kept_job(*((HONEST[node], copy) for node, copy in runs))
    number = numbers_of(1, 3, 5, SPEC.body.tasks)
    assert _without_own(kept, *number, HONEST[thief].node_id) == ([number] if may else [])


def work_of_a_steal(tasks: int) -> int:
    """Calls that it takes to find out what a thief may have of a job of which two nodes ran each task's first copy."""
    one, two, thief = HONEST[:3]
    ctx: Context = context(1, LOCAL)
    spec = sign_record(SUBMITTER, RecordKind.SPEC, changed(SPEC.body, tasks=tasks))
    state = JobState(spec)
    state.merge(sign_record(SUBMITTER, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (A.node_id,))))
    for copy in (1, 2):
        body = Recheck(spec.id, 0, tasks, copy, bytes(16), ())
        state.merge(sign_record(SUBMITTER, RecordKind.RECHECK, body))
    for node in (one, two):
        lo, hi = numbers_of(0, tasks, 1, tasks)
        grant = sign_record(A, RecordKind.GRANT, Grant(spec.id, lo, hi, 1, node.node_id, SECOND)).raw
        for first in range(0, tasks, 50_000):
            count = min(50_000, tasks - first)
            header = BatchHeader(spec.id, first, count, 1, bytes(32), 0, 10, 0, 5, 5, False, b"", 1, grant)
            state.merge(sign_record(node, RecordKind.BATCH, header))
    ledger = Ledger(state, ctx.config.lease_sweep_us)
    ledger.rebuild(0, SECOND)
    kept = KeptJob(state, ledger, Subscriptions(ctx, state), since_us=0, adopted_us=0, pace=Pace(state, ctx.config))
    members = Membership(ctx, 1)
    desk = CopyDesk(ctx, members, Tables(ctx, lambda _record, _now_us: None))
    desk.restore(kept, 0)
    for check in kept.checks.values():
        check.seen, check.ranks = 0, {node.node_id: 0 for node in (one, two, thief)}
    calls = 0

    def count_call(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    for node in (one, two, thief):
        steal = Steal(1, 10 * SECOND, 2, 100, 1 << 30, (), False)
        sys.setprofile(count_call)
        picked = desk.pick(kept, [(0, tasks)], node.node_id, steal, 0)
        sys.setprofile(None)
        # Each of the two may be the one whose vote does not count.
        assert picked and picked[0][0] == 2 * tasks
    return calls


def test_a_steal_costs_no_more_with_a_million_tasks_copied_than_with_a_thousand() -> None:
    assert work_of_a_steal(1_000_000) < 1.1 * work_of_a_steal(1_000)
