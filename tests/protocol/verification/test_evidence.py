"""Nobody is convicted of what its machine, and not it, may have done."""

from __future__ import annotations

from itertools import permutations

import pytest

from hearthmesh.protocol.effects import CancelExecution, Execute
from hearthmesh.protocol.events import Drain, Event, Received, StorageFailed, StorageRecovered, SubmitJob, TaskFinished
from hearthmesh.protocol.messages import Accused
from hearthmesh.protocol.verification import court, fraud
from hearthmesh.protocol.verification.court import FRUITLESS_MAX
from tests.protocol.cluster import SECOND, output_of
from tests.protocol.test_verification import accusation, village

# Trap (its stack may have been too deep), out of time, told to stop, killed, not there: see docs/abi.md.
HANGS_ON_THE_MACHINE = (-1, -3, -6, -7, -8)
MEMORY, OUTPUT, FUEL = -2, -4, -5


@pytest.mark.parametrize("exit_code", HANGS_ON_THE_MACHINE)
def test_an_end_that_hangs_on_the_machine_accuses_nobody(exit_code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, workers, _ = village()
    judge, accuser, slow, quick = workers[:4]
    assert not accusation(cluster, accuser, slow, quick, lie_of=slow, lie_exit=exit_code)
    with monkeypatch.context() as malice:
        malice.setattr(fraud, "is_evident", lambda code: True)
        raw = accusation(cluster, accuser, slow, quick, lie_of=slow, lie_exit=exit_code)
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run(5 * SECOND)
    assert not judge.mesh.ctx.convicted
    (note,) = judge.noted("fraud.unproven")
    assert note["reason"] == "a result that may be another one on another machine"


@pytest.mark.parametrize("exit_code", [MEMORY, OUTPUT, FUEL, 7])
def test_an_end_that_hangs_on_the_task_alone_convicts_who_lied_of_it(exit_code: int) -> None:
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    raw = accusation(cluster, accuser, liar, honest, lie_of=liar, lie_exit=exit_code)
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run_until(lambda: set(judge.mesh.ctx.convicted) == {liar.id})


def test_what_hangs_on_a_nan_convicts_nobody_and_costs_nobody() -> None:
    """The two differ as their processors do; the judge has the same kind as one of them."""
    cluster, workers, _ = village()
    judge, accuser, one, other = workers[:4]
    judge.has_nans = True
    raw = accusation(cluster, accuser, one, other, lie_of=one)
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run_until(lambda: bool(judge.noted("fraud.undecided")))
    assert not judge.mesh.ctx.convicted and not judge.penalties and not judge.mesh.court._trials


def test_what_hangs_on_the_tasks_before_it_convicts_nobody() -> None:
    """One instance serves a batch: a module that counts its calls makes two honest workers differ."""
    cluster, workers, _ = village()
    judge, accuser, one, other = workers[:4]
    judge.counts = True
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, one, other, lie_of=one))))
    cluster.run_until(lambda: bool(judge.noted("fraud.undecided")))
    assert judge.executed[-3:] == [1, 0, 1], "alone, and after those before it in the batch"
    assert not judge.mesh.ctx.convicted and not judge.penalties


def test_commands_have_an_instance_each_and_are_tried_alone() -> None:
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    raw = accusation(cluster, accuser, liar, honest, lie_of=liar, abi="command")
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run_until(lambda: set(judge.mesh.ctx.convicted) == {liar.id})
    assert judge.executed == [1, 1]


def test_a_judge_that_cannot_see_what_hangs_on_a_nan_convicts_nobody() -> None:
    """On ARM a NaN has the canonical bits, so that both runs agree."""
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    judge.mesh.court._can_judge = False
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, liar, honest, lie_of=liar))))
    cluster.run(20 * SECOND)
    assert not judge.mesh.ctx.convicted and not judge.executed


def test_who_brings_what_nobody_can_decide_is_soon_not_heard() -> None:
    cluster, workers, _ = village()
    judge, accuser, *parties = workers
    judge.has_nans = True
    for one in parties:
        for other in parties:
            if one is not other:
                raw = accusation(cluster, accuser, one, other, lie_of=one)
                cluster.feed(judge, Received(accuser.id, Accused(raw)))
                cluster.run(60 * SECOND)
    assert len(judge.noted("fraud.undecided")) == FRUITLESS_MAX and not judge.mesh.ctx.convicted


def test_a_pair_that_differs_over_what_nobody_can_decide_gets_one_trial_whoever_accuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(court, "UNDECIDED_US", 300 * SECOND)
    cluster, workers, _ = village()
    judge, accuser, one, other, *more = workers
    judge.has_nans = True
    for each in (accuser, *more):
        cluster.feed(judge, Received(each.id, Accused(accusation(cluster, each, one, other, lie_of=one))))
        cluster.run(60 * SECOND)
    assert len(judge.noted("fraud.undecided")) == 1
    judge.has_nans = False
    cluster.run(300 * SECOND)
    late = accusation(cluster, accuser, one, other, lie_of=one, nonce=b"another job")
    cluster.feed(judge, Received(accuser.id, Accused(late)))
    cluster.run_until(lambda: set(judge.mesh.ctx.convicted) == {one.id})


def test_a_slot_rests_from_trials_as_long_as_they_took() -> None:
    """The judge's one slot has work enough, and there is always a trial that waits."""
    cluster, workers, client = village()
    judge, accuser, *parties = workers
    judge.has_nans = True
    cluster.feed(client, SubmitJob(cluster.spec(6_000)))
    cluster.run_until(lambda: bool(judge.mesh.worker.tasks_done))
    begun_us, done, pairs = cluster.now_us, judge.mesh.worker.tasks_done, permutations(parties, 2)
    for one, other in pairs:
        # Each by an accuser of its own, whom nobody knows.
        raw = accusation(cluster, accuser, one, other, lie_of=one)
        judge.mesh.court._fruitless.clear()
        cluster.feed(judge, Received(accuser.id, Accused(raw)))
        cluster.run(2 * SECOND)
    could_us = cluster.now_us - begun_us
    assert (judge.mesh.worker.tasks_done - done) * cluster.task_us >= could_us // 2


def test_no_trial_begins_while_the_disk_takes_nothing() -> None:
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    cluster.feed(judge, StorageFailed("no space left on device"))
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, liar, honest, lie_of=liar))))
    cluster.run(20 * SECOND)
    assert judge.mesh.court._trials and not judge.executed
    cluster.feed(judge, StorageRecovered())
    cluster.run_until(lambda: set(judge.mesh.ctx.convicted) == {liar.id})


@pytest.mark.parametrize("event", [StorageFailed("no space left on device"), Drain()])
def test_a_trial_that_never_ends_is_stopped_also_where_none_may_begin(
    event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(court, "RUN_US_MAX", 100 * SECOND)
    cluster, workers, _ = village()
    judge, accuser, one, other = workers[:4]
    cluster.task_us = 10_000 * SECOND
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, one, other, lie_of=one))))
    cluster.run(SECOND)
    (execution_id,) = judge.executions
    trial = next(iter(judge.mesh.court._trials.values()))
    trial.since_us -= 100 * SECOND
    effects = judge.mesh.handle(event, cluster.now_us)
    assert CancelExecution(execution_id) in effects


def test_a_trial_that_never_ends_is_stopped_and_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(court, "RUN_US_MAX", 100 * SECOND)
    cluster, workers, _ = village()
    judge, accuser, one, other = workers[:4]
    cluster.task_us = 10_000 * SECOND
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, one, other, lie_of=one))))
    cluster.run(SECOND)
    assert judge.executions and judge.mesh.worker.set_aside == 1
    cluster.run_until(lambda: bool(judge.noted("fraud.undecided")))
    cluster.run(60 * SECOND)
    assert not judge.executions and judge.mesh.worker.set_aside == 0 and not judge.mesh.court._trials


@pytest.mark.parametrize("at", range(4))
def test_a_judge_whose_own_run_hangs_on_its_machine_says_nothing(at: int) -> None:
    """at: which of its runs is out of time. Two are of the task alone, two of its batch up to it."""
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    cluster.task_us = 1_000 * SECOND  # its runs end as is said here
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, liar, honest, lie_of=liar))))
    runs: list[Execute] = []
    for number in range(at + 1):
        cluster.run_until(lambda: bool(judge.executions))
        (run,) = judge.executions.values()
        judge.executions.clear()
        runs.append(run)
        ended = (-3, b"") if number == at else (0, output_of(1))
        before, n = (output_of(0),) * (run.count - 1), run.count
        exits = (0,) * (n - 1) + ended[:1]
        ones, outputs = (1,) * n, (*before, ended[1])
        cluster.feed(judge, TaskFinished(run.execution_id, exits, outputs, {}, {}, ones, ones, 0, 0, False))
    expected = [(1, 1, False), (0, 2, False), (1, 1, True), (0, 2, True)]
    assert [(run.first, run.count, run.canonical_nans) for run in runs] == expected[: at + 1]
    assert not judge.mesh.ctx.convicted and judge.noted("fraud.undecided")
