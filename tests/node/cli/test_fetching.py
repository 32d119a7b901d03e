"""How long `hearth results` waits for results of a job whose tasks are all done."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from hearthmesh.node.cli import jobs
from hearthmesh.node.cli.fetching import CHECKING_S, SILENCE_S, Patience
from hearthmesh.node.client import JobFailed
from hearthmesh.protocol.intervals import IntervalSet


def test_a_silent_job_is_given_up_soon() -> None:
    patience = Patience(100.0)
    assert not patience.is_over(100.0 + SILENCE_S, 0)
    assert patience.is_over(100.0 + SILENCE_S + 1, 0)


def test_results_give_new_patience() -> None:
    patience = Patience(100.0)
    patience.hear(110.0)
    assert not patience.is_over(100.0 + SILENCE_S + 1, 0)
    assert patience.silence_s(112.0) == 2.0


def test_who_is_checking_is_waited_for_while_their_number_changes() -> None:
    patience = Patience(0.0)
    now_s = 0.0
    for left in range(9, 0, -1):
        now_s += CHECKING_S
        assert not patience.is_over(now_s, left)
    assert not patience.is_over(now_s + CHECKING_S, 1)


def test_comparisons_that_never_come_are_given_up() -> None:
    patience = Patience(0.0)
    assert not patience.is_over(1.0, 433)
    assert not patience.is_over(1.0 + CHECKING_S, 433)
    assert patience.is_over(1.1 + CHECKING_S, 433)


def test_results_of_a_job_that_is_cancelled_meanwhile_are_proved_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else they never are: no run after it comes further."""
    proved: list[bool] = []
    fetched = False

    async def fetch(*_: Any, **__: Any) -> None:
        nonlocal fetched
        fetched = True
        raise JobFailed(bytes(32), "was cancelled")

    async def no_module() -> None:
        return None

    monkeypatch.setattr(jobs, "fetch_results", fetch)
    job: Any = SimpleNamespace(proofs=lambda signed: (b"mesh", [b"record"]), comparator_module=no_module)
    folder: Any = SimpleNamespace(
        done=IntervalSet(), signed=lambda: [], add_proofs=lambda mesh, records: proved.append(fetched)
    )
    with pytest.raises(JobFailed):
        trio.run(jobs._fetch, SimpleNamespace(), job, folder, True, True)
    assert proved == [False, True]
