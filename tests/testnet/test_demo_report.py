"""The verdict is good only if all of it holds, and says what does not."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.messages import JobStatus
from hearthmesh.testnet.demo_report import TEXT_COLUMNS, Outcome
from hearthmesh.testnet.demo_results import Audit
from hearthmesh.testnet.demo_rooms import HOUSE
from hearthmesh.testnet.demo_scene import Scene
from hearthmesh.testnet.demo_story import Course

WORKERS = {name: Identity.generate() for name in HOUSE}
LEVEL = {"var": 3.0, "var_low": 2.0, "var_high": 4.0, "var_se": 0.5, "es": 5.0, "es_se": 0.25}


def status(accepted: int) -> JobStatus:
    return JobStatus(b"j" * 32, "accepted", 4, 4, 0, accepted, 0, 0, 1, 1, ())


def outcome(**changed: Any) -> Outcome:
    scene = Scene(HOUSE, {name: worker.peer_id for name, worker in WORKERS.items()})
    scene.tasks = 4
    found = Audit(4, batches=2, signatures=2, proofs=4, outputs=dict.fromkeys(range(4), b"x"))
    found.tasks_by_worker = {WORKERS["attic"].node_id: 3, WORKERS["bath"].node_id: 1}
    found.energy_mj, found.useful_mj, found.cpu_us = 3_600_000, 1_800_000, 2_000_000
    course = Course(
        killed=["attic", "bath"],
        restarted=["attic"],
        frozen=["hall"],
        keepers_at_first=["attic", "hall", "boiler"],
        visits=[1, 3],
        job_id=b"j" * 32,
        submitted_s=10.0,
        finished_s=30.0,
        status=status(4),
    )
    usual: dict[str, Any] = {
        "scene": scene,
        "course": course,
        "audit": found,
        "answer": {"paths": 1000, "levels": {"0.95": LEVEL}, "digest": "ab" * 32},
        "answer_fault": "",
        "expected_digest": "ab" * 32,
        "left_behind": [],
        "started_s": 9.0,
        "seconds": 40.0,
    }
    return Outcome(**(usual | changed))


def test_a_run_of_which_all_holds_is_verified_in_one_line() -> None:
    report = outcome()
    assert report.verified
    last = report.text().splitlines()[-1]
    assert last == (
        "VERIFIED: 4 of 4 tasks accepted, each once and with its proof; "
        "digest abababababababab… is that of a single node."
    )


def test_the_report_names_workers_energy_and_time_within_its_width() -> None:
    text = outcome().text()
    assert "attic 3" in text
    assert "0.00100 kWh for the accepted tasks; 0.00050 kWh (50 %) met a demand for heat" in text
    assert "2.0 s of CPU, 1000 W a busy core, 2000 W in the boiler" in text
    assert max(len(line) for line in text.splitlines()[:-1]) <= TEXT_COLUMNS


def test_json_has_all_numbers_and_can_be_printed() -> None:
    value = json.loads(json.dumps(outcome().to_value(), allow_nan=False))
    assert value["verified"] is True
    assert all(check["holds"] for check in value["checks"].values())
    assert (value["proofs_checked"], value["accepted"], value["duplicates"]) == (4, 4, 0)
    assert value["rooms"]["attic"]["accepted_tasks"] == 3


def other_digest(report: Outcome) -> Outcome:
    return outcome(expected_digest="cd" * 32)


def no_answer(report: Outcome) -> Outcome:
    return outcome(answer=None, answer_fault="task 3 is missing")


def bad_proof(report: Outcome) -> Outcome:
    report.audit.faults.append("a batch of tasks 0 to 1: bad-signature")
    return report


def not_all_accepted(report: Outcome) -> Outcome:
    report.course.status = status(3)
    return report


def nobody_froze(report: Outcome) -> Outcome:
    report.course.frozen.clear()
    return report


def frozen_was_killed_before(report: Outcome) -> Outcome:
    report.course.frozen[:] = ["attic"]
    return report


def never_came_back(report: Outcome) -> Outcome:
    report.course.visits[:] = [4]
    return report


def worked_while_warm(report: Outcome) -> Outcome:
    report.scene.rooms["parlour"].tasks_while_warm = 2
    return report


def left_a_process(report: Outcome) -> Outcome:
    return outcome(left_behind=[4711])


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (other_digest, "answer"),
        (no_answer, "answer"),
        (bad_proof, "proofs"),
        (not_all_accepted, "accepted"),
        (nobody_froze, "hurt"),
        (frozen_was_killed_before, "hurt"),
        (never_came_back, "return"),
        (worked_while_warm, "heat"),
        (left_a_process, "end"),
    ],
)
def test_whatever_does_not_hold_spoils_the_verdict(spoil: Callable[[Outcome], Outcome], check: str) -> None:
    report = spoil(outcome())
    assert not report.verified
    assert check in [each.name for each in report.checks() if not each.holds]
    last = report.text().splitlines()[-1]
    assert last.startswith("NOT VERIFIED: ")
    assert f"{check}: " in last
