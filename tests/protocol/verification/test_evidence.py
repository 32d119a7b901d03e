"""Nobody is convicted of what its machine, and not it, may have done."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.events import Received, TaskFinished
from hearthmesh.protocol.messages import Accused
from hearthmesh.protocol.verification import fraud
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


@pytest.mark.parametrize("at", [0, 1])
def test_a_judge_whose_own_run_hangs_on_its_machine_says_nothing(at: int) -> None:
    """at: which of its two runs is out of time."""
    cluster, workers, _ = village()
    judge, accuser, liar, honest = workers[:4]
    cluster.task_us = 1_000 * SECOND  # its runs end as is said here
    cluster.feed(judge, Received(accuser.id, Accused(accusation(cluster, accuser, liar, honest, lie_of=liar))))
    runs: list[Execute] = []
    for number in range(at + 1):
        cluster.run(SECOND)
        (run,) = judge.executions.values()
        judge.executions.clear()
        runs.append(run)
        ended = (-3, b"") if number == at else (0, output_of(1))
        cluster.feed(judge, TaskFinished(run.execution_id, (ended[0],), (ended[1],), {}, {}, (1,), (1,), 0, 0, False))
    assert [run.canonical_nans for run in runs] == [False, True][: at + 1]
    assert not judge.mesh.ctx.convicted and judge.noted("fraud.undecided")
