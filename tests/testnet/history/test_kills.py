"""What is promised of a node that is killed while nobody else is hurt, judged by the times of the lines."""

from __future__ import annotations

from typing import Any

import pytest

from hearthmesh.testnet.history.measure import Kill, measure

from .street import (
    ACCEPTANCE,
    BATCH,
    GRANT,
    HEIR,
    JOB,
    ONLOOKER,
    OTHER_JOB,
    REPLICA,
    WORKER,
    Files,
    accept,
    begin,
    grant,
    judged,
    lease,
    result,
    start,
    written,
)

S = 1_000_000


def at(seconds: float, line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "at_us": round(seconds * S)}


def fault(node: str = WORKER, event: str = "fault", kind: str = "kill") -> dict[str, Any]:
    return {"event": event, "kind": kind, "node": node}


def dead(node: str = WORKER) -> dict[str, Any]:
    return {"event": "peer", "peer": node, "status": "dead"}


def killed(
    noticed_s: float | None = 1.5, again_s: float | None = 4.0, *said: dict[str, Any], back_s: float = 40
) -> list[Kill]:
    """A worker that holds two tasks is killed at 10 s, and back at 40 s. said: more, of who does it."""
    files: Files = {
        "client": [at(1, begin("c0" * 32, "client")), at(1, {"event": "submit", "job": "a1" * 32, "tasks": 2})],
        "first": [at(1, begin(REPLICA, "first")), at(2, grant(GRANT, 0, 2, 1, WORKER))],
        "worker": [
            at(1, begin(WORKER, "worker")),
            at(2, lease(GRANT, REPLICA, 0, 2, 1)),
            at(back_s, begin(WORKER, "w")),
        ],
        "heir": [at(1, begin(HEIR, "heir"))],
        "chaos": [at(1, begin(ONLOOKER, "chaos")), at(10, fault()), at(back_s - 1, fault(event="mend"))],
    }
    if noticed_s is not None:
        files["first"].append(at(10 + noticed_s, dead()))
        files["heir"].append(at(10.5 + noticed_s, dead()))
    if again_s is not None:
        files["heir"] += [at(12, start(1, 0, 1, 2)), at(10 + again_s, start(2, 1, 2, 2))]
    files["chaos"] = sorted([*files["chaos"], *said], key=lambda line: int(line["at_us"]))
    return measure(judged(written(files)).history.lines).kills


def test_a_kill_is_noticed_by_the_first_who_says_so_and_made_good_by_the_last_start() -> None:
    (kill,) = killed()
    assert kill == Kill("worker", True, 1.5, 30.0, 2, (2.0, 4.0))
    assert kill.late == []
    value = kill.to_value()
    assert (value["noticed_s"], value["tasks_run_again_s"]["max"], value["late"]) == (1.5, 4.0, [])


@pytest.mark.parametrize(
    ("noticed_s", "again_s", "late"),
    [
        (2.99, 9.99, []),
        (3.0, 4.0, ["worker was killed, and called dead after 3.00 s"]),
        (None, 4.0, ["worker was killed, and nobody called it dead"]),
        (1.5, 10.0, ["worker was killed, and a task that it held started again after 10.00 s"]),
        (1.5, None, ["worker was killed, and of the tasks that it held 2 never started again"]),
    ],
)
def test_what_is_late_is_said(noticed_s: float | None, again_s: float | None, late: list[str]) -> None:
    (kill,) = killed(noticed_s, again_s)
    assert kill.late == late


@pytest.mark.parametrize(
    ("said", "missed"),
    [
        ({"event": "cancel", "job": JOB}, 0),
        ({"event": "cancel", "job": OTHER_JOB}, 2),
        (accept(ACCEPTANCE, (BATCH, 0, 2)), 0),
        (accept(ACCEPTANCE, (BATCH, 1, 2)), 1),
        (result(1, BATCH, 0, 1, 1), 1),
        ({**result(1, BATCH, 0, 2, 1), "copy": 1}, 2),
    ],
)
def test_a_task_that_nobody_starts_any_more_is_missed_if_it_was_needed(said: dict[str, Any], missed: int) -> None:
    (kill,) = killed(1.5, None, at(9, said))
    assert (kill.missed, kill.to_value()["tasks_missed"]) == (missed, missed)


def test_who_is_killed_as_the_run_ends_leaves_no_time_to_start_its_tasks_again() -> None:
    (kill,) = killed(1.5, None, back_s=19)
    assert kill.late == []


def test_a_task_that_its_own_node_starts_again_counts_when_it_does() -> None:
    files_late = killed(1.5, 31.0)
    assert files_late[0].late == ["worker was killed, and a task that it held started again after 31.00 s"]


@pytest.mark.parametrize(
    ("said", "is_alone"),
    [
        ([at(8, fault(HEIR)), at(9.9, fault(HEIR, "mend"))], True),
        ([at(8, fault(HEIR)), at(10.1, fault(HEIR, "mend"))], False),
        ([at(20, fault(HEIR))], False),
        ([at(20.1, fault(HEIR))], True),
        ([at(9, fault("", kind="partition"))], True),
        ([at(9, fault("", kind="partition")), at(11, fault("", "mend", "partition"))], False),
        ([at(9, fault("", kind="flood")), at(11, fault("", "mend", "flood"))], True),
    ],
)
def test_nothing_is_promised_where_others_are_hurt_as_well(said: list[dict[str, Any]], is_alone: bool) -> None:
    kill = next(kill for kill in killed(5.0, 20.0, *said) if kill.name == "worker")
    assert kill.is_alone is is_alone
    assert len(kill.late) == (2 if is_alone else 0)
