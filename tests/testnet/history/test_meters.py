"""What a meter counted is on receipts, of use or not: all but what processes take to start."""

from __future__ import annotations

from typing import Any

import pytest

from .street import HEIR, WORKER, Files, good, judged, start, violated, written

PAID_MJ = 2_000_000
# 4 s of CPU are 2 kJ, or 2,150 J with the clock's ticks; a process takes 0.75 s at most to start, so 4 s are on the
# receipt of 4.75 s on the meter.
MOST_MJ = 2_150_000 * 475 // 400


def heated(metered_mj: int, paid_mj: int = PAID_MJ, useful_mj: int = PAID_MJ) -> Files:
    """The heir's meter, and what its one receipt says; with books that agree."""
    files = good()
    result = next(line for line in files["heir"] if line["event"] == "result")
    result.update(cpu_us=4_000_000, energy_mj=paid_mj, useful_mj=useful_mj)
    files["heir"].append({"event": "meter", "work_uj": metered_mj * 1000, "useful_uj": metered_mj * 1000})
    rows = {WORKER: [5, 400, 200, 200], HEIR: [3, 4_000_000, paid_mj, useful_mj]}
    for line in files["onlooker"]:
        if line["event"] == "books":
            line["workers"] = rows
    return files


def test_what_processes_take_to_start_is_on_no_receipt() -> None:
    assert violated(heated(MOST_MJ)) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (heated(MOST_MJ + 1), "2553.1 J on the meter, and receipts of 2000.0 J alone"),
        (heated(PAID_MJ, PAID_MJ // 2, 0), "2000.0 J on the meter, and receipts of 1000.0 J alone"),
        (heated(PAID_MJ, 0, 0), "2000.0 J on the meter, and receipts of 0.0 J alone"),
        (heated(PAID_MJ, useful_mj=0), "2000.0 J of use on the meter, and receipts of 0.0 J of use alone"),
    ],
    ids=["more than a start takes", "half of it", "none of it", "all of it, of no use"],
)
def test_receipts_of_less_than_the_meter_counted_are_noticed(files: Files, said: str) -> None:
    violations = judged(written(files)).violations
    assert {violation.check for violation in violations} == {"books"}
    assert violations[0].text == said


def fault(kind: str) -> dict[str, Any]:
    return {"event": "fault", "kind": kind, "node": HEIR}


def test_a_life_that_was_cut_short_owes_no_receipts() -> None:
    """Killed, or stopped in a task, or not at its end: what ran then is on the meter alone."""
    files = heated(MOST_MJ + 1)
    files["onlooker"].insert(1, fault("kill"))
    assert violated(files) == []
    files = heated(MOST_MJ + 1)
    files["onlooker"].insert(1, fault("freeze"))
    assert violated(files) == ["books"]
    for more in ([start(2, 3, 6, 2)], [start(2, 3, 6, 2), {"event": "stop", "execution": 2, "reason": "saved"}]):
        files = heated(MOST_MJ + 1)
        files["heir"].extend(more)
        assert "books" not in violated(files)


def test_a_process_that_was_idle_for_a_minute_starts_again() -> None:
    files = heated(MOST_MJ + 1)
    for line in files["heir"][3:]:
        line["at_us"] = 7 + 60_000_000
    for name in ("first", "second", "client", "onlooker"):
        for line in files[name][1:]:
            line["at_us"] = 8 + 60_000_000
    assert violated(files) == []


def test_where_nobody_says_what_is_expected_a_program_may_take_any_time_to_compile() -> None:
    files = heated(10 * MOST_MJ)
    files["onlooker"] = [line for line in files["onlooker"] if line["event"] != "expect"]
    assert violated(files) == []
