"""A task that was stopped at its checkpoint may go on under its lease; any other start of it is one too many."""

from __future__ import annotations

from typing import Any

import pytest

from hearthmesh.testnet.history.leases import Leases
from hearthmesh.testnet.history.lines import Line

from .street import CLIENT, GRANT, JOB, REPLICA, WORKER, grant, lease, start


def lines(*said: tuple[str, dict[str, Any]]) -> list[Line]:
    return [
        Line("f", at, node, "name", 1, at, at, fields["event"], fields, "") for at, (node, fields) in enumerate(said)
    ]


@pytest.mark.parametrize(("reason", "found"), [("saved", []), ("cancelled", ["started-twice"])])
def test_a_saved_task_goes_on_under_its_lease(reason: str, found: list[str]) -> None:
    reports: list[str] = []
    leases = Leases(lambda check, *_: reports.append(check))
    for line in lines(
        (CLIENT, {"event": "submit", "job": JOB, "tasks": 2}),
        (REPLICA, grant(GRANT, 0, 1, 1, WORKER)),
        (WORKER, lease(GRANT, REPLICA, 0, 1, 1)),
        (WORKER, start(1, 0, 1, 1)),
        (WORKER, {"event": "stop", "execution": 1, "reason": reason}),
        (WORKER, start(2, 0, 1, 1)),
    ):
        leases.take(line)
    assert reports == found
