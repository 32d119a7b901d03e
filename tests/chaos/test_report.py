"""What a command says of all its runs, in words, as JSON and on a page."""

from __future__ import annotations

from hearthmesh.testnet.chaos.report import Summary, page
from hearthmesh.testnet.chaos.run import Outcome
from hearthmesh.testnet.history.measure import Kill
from tests.testnet.history.street import TASKS, good, judged, written


def outcome(*kills: Kill, begun: int = 1) -> Outcome:
    verdict = judged(written(good()))
    verdict.times.kills[:] = kills
    return Outcome(
        name="kill-worker",
        seed=1,
        seconds=9.0,
        fault="",
        verdict=verdict,
        tasks=TASKS,
        accepted=TASKS,
        disagreement="",
        converged_s=0.0,
        proofs=TASKS,
        proof_faults=[],
        client_tries=1,
        notes=[],
        begun=begun,
        mended=TASKS,
    )


SOON = Kill("h1", True, 1.5, 9.0, 2, (2.0, 4.25))
LATE = Kill("h2", True, 3.5, 9.0, 1, (12.0,))
WITH_OTHERS = Kill("h3", False, 3.5, 9.0, 1, (12.0,))


def test_what_is_promised_of_kills_is_told_beside_what_was_seen() -> None:
    summary = Summary(1, [outcome(SOON), outcome(WITH_OTHERS)])
    assert summary.holds
    promises = summary.to_value()["promises"]
    assert (promises["kills"], promises["noticed_within_s"], promises["elsewhere_within_s"]) == (1, 3.0, 10.0)
    assert (promises["noticed_s"]["max"], promises["elsewhere_s"]["max"], promises["late"]) == (1.5, 4.25, [])
    said = (
        "nodes killed alone: 1; noticed after at most 1.50 s, 3 s are promised; "
        "their tasks ran again after at most 4.25 s, 10 s are promised"
    )
    assert said in summary.text() and said in page(summary)


def test_a_kill_that_is_noticed_or_made_good_too_late_fails_the_command_and_no_task() -> None:
    summary = Summary(1, [outcome(SOON), outcome(LATE)])
    assert all(each.holds for each in summary.outcomes) and not summary.holds
    late = [
        "kill-worker: h2 was killed, and called dead after 3.50 s",
        "kill-worker: h2 was killed, and a task that it held started again after 12.00 s",
    ]
    found = summary.to_value()
    assert found["promises"]["late"] == late and not found["holds"]
    assert found["outcomes"][1]["late"] == [text.removeprefix("kill-worker: ") for text in late]
    assert all(f"LATE {text}" in summary.text() and text in page(summary) for text in late)
    assert summary.text().endswith("every check holds, but a kill was noticed, or made good, too late (seed 1)")


def test_a_disturbance_that_met_no_work_has_shown_nothing() -> None:
    in_time, too_late = outcome(begun=TASKS - 1), outcome(begun=TASKS)
    assert in_time.holds and not in_time.to_value()["vacuous"]
    assert not too_late.holds and too_late.to_value()["vacuous"]
    assert f"vacuous: all {TASKS} results were there when the disturbance began" in too_late.problems()
    assert "VIOLATED by kill-worker" in Summary(1, [in_time, too_late]).text()


def test_how_much_work_a_disturbance_met_is_told() -> None:
    summary = Summary(1, [outcome(begun=3)])
    (told,) = summary.to_value()["outcomes"]
    assert (told["results_begun"], told["results_mended"]) == (3, TASKS)
    assert f"3 of {TASKS} results were there when it began, {TASKS} when all was mended" in page(summary)
