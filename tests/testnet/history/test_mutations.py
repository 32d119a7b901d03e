"""The checker of histories can fail: each alteration of a good one is caught, by the check that it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.testnet.history.check import CHECKS
from hearthmesh.testnet.history.lines import HARMLESS

from .street import (
    BATCH,
    CLIENT,
    GRANT,
    HEIR,
    HEIRS_BATCH,
    JOB,
    LATER,
    ONLOOKER,
    OTHER_JOB,
    REPLICA,
    SECOND,
    SPARE,
    SPARE_BATCH,
    TASKS,
    WORKER,
    Files,
    accept,
    begin,
    good,
    grant,
    judged,
    keep,
    lease,
    result,
    start,
    tasks,
    violated,
    written,
)

Alter = Callable[[Files], Any]


def of(files: Files, name: str, event: str, at: int = 0) -> dict[str, Any]:
    """The at-th line of an event in a file."""
    return [line for line in files[name] if line["event"] == event][at]


def without(name: str, event: str, at: int = 0) -> Alter:
    """The line was never written."""
    return lambda files: files[name].remove(of(files, name, event, at))


def with_field(name: str, event: str, key: str, value: Any, at: int = 0) -> Alter:
    return lambda files: of(files, name, event, at).update({key: value})


def added(name: str, position: int, *lines: dict[str, Any]) -> Alter:
    def alter(files: Files) -> None:
        files[name][position:position] = list(lines)

    return alter


def together(*alterations: Alter) -> Alter:
    def alter(files: Files) -> None:
        for each in alterations:
            each(files)

    return alter


NO_FAULT = without("onlooker", "fault")


def run_again(granter: str) -> Alter:
    """The heir runs what the worker ran, under a lease of its own."""
    return added("heir", 4, lease(SPARE, granter, 0, 3, 2), start(2, 0, 3, 2), result(2, SPARE_BATCH, 0, 3, 2))


SECOND_SAYS_NOTHING = together(without("second", "expire"), without("second", "peer"))
# By a granter of which nobody was cut off.
GIVEN_TWICE = together(added("first", 2, grant(SPARE, 0, 3, 2, HEIR)), run_again(REPLICA))

# Each of these is caught by that check, and by no other.
ALONE: dict[str, tuple[Alter, str]] = {
    "a task is given to another while it runs": (GIVEN_TWICE, "granted-while-leased"),
    "a task is given to another after the lease of a third had ended": (
        together(added("first", 2, {"event": "expire", "job": JOB, "lo": 0, "hi": 3, "holder": ONLOOKER}), GIVEN_TWICE),
        "granted-while-leased",
    ),
    "a task is given to another after another task's lease had ended": (
        together(added("first", 2, {"event": "expire", "job": JOB, "lo": 3, "hi": 6, "holder": WORKER}), GIVEN_TWICE),
        "granted-while-leased",
    ),
    "a task is given to another before its lease has ended": (
        together(GIVEN_TWICE, added("first", 3, {"event": "expire", "job": JOB, "lo": 0, "hi": 3, "holder": WORKER})),
        "granted-while-leased",
    ),
    "a task is handed on to two under one lease": (
        added("worker", 4, grant(SPARE, 3, 6, 3, ONLOOKER, parent=GRANT)),
        "granted-while-leased",
    ),
    "two granters give one task, and both run it": (
        together(NO_FAULT, SECOND_SAYS_NOTHING, added("second", 1, grant(SPARE, 0, 3, 2, HEIR)), run_again(SECOND)),
        "ran-twice",
    ),
    "a task runs twice where strangers knocked": (
        together(
            with_field("onlooker", "fault", "kind", "flood"),
            SECOND_SAYS_NOTHING,
            added("second", 1, grant(SPARE, 0, 3, 2, HEIR)),
            run_again(SECOND),
        ),
        "ran-twice",
    ),
    "one replica alone had kept what was accepted": (without("second", "keep", 1), "accepted-before-kept"),
    "one replica alone had kept what was accepted, and workers were called dead": (
        together(
            without("second", "keep", 1),
            added("client", 4, *({"event": "peer", "peer": node, "status": "dead"} for node in (WORKER, HEIR))),
        ),
        "accepted-before-kept",
    ),
    "one replica alone had kept what was accepted, and the other was back": (
        together(
            without("second", "keep", 1),
            added("client", 4, *({"event": "peer", "peer": SECOND, "status": status} for status in ("dead", "alive"))),
        ),
        "accepted-before-kept",
    ),
    "nobody had kept what was accepted": (
        together(without("first", "keep"), without("second", "keep", 1)),
        "accepted-before-kept",
    ),
    "a replica kept what was accepted, and later": (
        with_field("second", "keep", "at_us", 8, 1),
        "accepted-before-kept",
    ),
}

MUTATIONS: dict[str, tuple[Alter, str]] = {
    "a job was never submitted": (without("client", "submit"), "unknown-job"),
    "one job is submitted by two": (
        lambda files: files.update(thief=[begin(ONLOOKER, "thief"), {"event": "submit", "job": JOB, "tasks": TASKS}]),
        "submitted-twice",
    ),
    "a grant beyond the last copy of the last task": (
        added("second", 3, grant(SPARE, 16 * TASKS, 16 * TASKS + 1, 1, HEIR)),
        "unknown-job",
    ),
    "a copy that the submitter did not ask for": (
        together(
            added("second", 3, grant(SPARE, TASKS + 1, TASKS + 4, 1, HEIR)),
            added("client", 6, {"event": "recheck", "job": JOB, "lo": 1, "hi": 3, "copy": 1}),
        ),
        "copy-unasked",
    ),
    "a copy's result is of another copy": (with_field("heir", "result", "copy", 1), "result-without-start"),
    "a copy starts under the first run's lease": (with_field("heir", "start", "copy", 1), "start-without-lease"),
    "a lease that nobody gave": (without("first", "grant"), "lease-without-grant"),
    "a lease of somebody else's grant": (with_field("first", "grant", "holder", HEIR), "grant-differs"),
    "a lease of more tasks than were given": (with_field("worker", "lease", "hi", 7), "grant-differs"),
    "a lease under another epoch": (with_field("worker", "lease", "epoch", 2), "grant-differs"),
    "a lease of another granter": (with_field("worker", "lease", "granter", SECOND), "grant-differs"),
    "a grant is told in two ways": (added("first", 2, grant(GRANT, 0, 5, 1, WORKER)), "grant-differs"),
    "a lease is taken twice": (added("worker", 3, lease(GRANT, REPLICA, 0, 6, 1)), "lease-twice"),
    "a lease is given back that was not held": (
        added("heir", 1, {"event": "release", "grant": LATER, **tasks(6, 8, 1)}),
        "lease-without-grant",
    ),
    "one granter gives two nodes one task under one epoch": (
        added("first", 2, grant(SPARE, 2, 4, 1, HEIR)),
        "two-leases",
    ),
    "two granters give two nodes one task under one epoch, without a fault": (
        together(NO_FAULT, added("second", 2, grant(SPARE, 2, 4, 1, HEIR))),
        "two-leases",
    ),
    **{
        f"two granters give two nodes one task under one epoch, after a fault that hurts none ({kind})": (
            together(with_field("onlooker", "fault", "kind", kind), added("second", 2, grant(SPARE, 2, 4, 1, HEIR))),
            "two-leases",
        )
        for kind in HARMLESS
    },
    "an epoch goes backwards": (added("first", 2, grant(SPARE, 2, 4, 0, WORKER)), "epoch-back"),
    "an epoch goes backwards over lives": (
        added("first", 4, begin(REPLICA, "first"), grant(SPARE, 2, 4, 1, WORKER)),
        "epoch-back",
    ),
    "tasks are handed on under the epoch that they are held under": (
        together(with_field("worker", "grant", "epoch", 1), with_field("heir", "lease", "epoch", 1)),
        "epoch-back",
    ),
    "tasks are handed on that are another's": (
        together(with_field("worker", "grant", "parent", LATER)),
        "grant-without-right",
    ),
    "more is handed on than is held": (with_field("worker", "grant", "hi", 8), "grant-without-right"),
    "a start under no lease": (without("worker", "lease"), "start-without-lease"),
    "a start under another epoch": (with_field("heir", "start", "epoch", 1), "start-without-lease"),
    "a start in a life that did not take the lease": (
        added("worker", 2, begin(WORKER, "worker")),
        "start-without-lease",
    ),
    "a start of what was handed on": (added("worker", 5, start(2, 3, 6, 1)), "start-after-giving"),
    "a start of what was given back": (
        added("worker", 2, {"event": "release", "grant": GRANT, **tasks(0, 6, 1)}),
        "start-after-giving",
    ),
    "a task starts twice under one lease": (added("heir", 3, start(2, 3, 4, 2)), "started-twice"),
    "an execution starts twice": (added("heir", 3, start(1, 3, 6, 2)), "started-twice"),
    "a result of nothing that started": (without("heir", "start"), "result-without-start"),
    "a result of a start in an earlier life": (added("worker", 4, begin(WORKER, "worker")), "result-without-start"),
    "a result of other tasks": (with_field("heir", "result", "lo", 4), "result-without-start"),
    "a result under another epoch": (with_field("heir", "result", "epoch", 3), "result-without-start"),
    "an execution has two results": (added("heir", 4, result(1, SPARE_BATCH, 3, 6, 2)), "result-twice"),
    "two executions have one batch": (
        added("heir", 4, lease(SPARE, SECOND, 6, 7, 2), start(2, 6, 7, 2), result(2, HEIRS_BATCH, 6, 7, 2)),
        "result-twice",
    ),
    "a stopped execution has a result": (
        added("heir", 3, {"event": "stop", "execution": 1, "reason": "cancelled"}),
        "result-twice",
    ),
    "a batch is kept that nobody made": (added("first", 2, keep(SPARE_BATCH, WORKER)), "result-without-start"),
    "a batch is kept as another's": (with_field("first", "keep", "worker", HEIR), "result-differs"),
    "an acceptance of a batch that nobody made": (
        with_field("client", "accept", "parts", [[SPARE_BATCH, 0, 3]]),
        "accepted-without-result",
    ),
    "an acceptance of tasks that are not in the batch": (
        with_field("client", "accept", "parts", [[BATCH, 0, 4]]),
        "accepted-without-result",
    ),
    "an acceptance of another job's batch": (
        together(
            added("client", 2, {"event": "submit", "job": OTHER_JOB, "tasks": TASKS}),
            with_field("client", "accept", "job", OTHER_JOB),
        ),
        "accepted-without-result",
    ),
    "an acceptance of an unknown job": (with_field("client", "accept", "job", OTHER_JOB), "unknown-job"),
    "a task is accepted from two batches": (
        together(
            added("heir", 1, lease(SPARE, SECOND, 2, 3, 2), start(7, 2, 3, 2), result(7, SPARE_BATCH, 2, 3, 2)),
            added("second", 2, grant(SPARE, 2, 3, 2, HEIR)),
            added("client", 6, accept("e3" * 32, (SPARE_BATCH, 2, 3))),
        ),
        "accepted-twice",
    ),
    "somebody else accepts": (
        lambda files: files.update(thief=[begin(ONLOOKER, "thief"), accept("e3" * 32, (BATCH, 0, 3))]),
        "accepted-by-another",
    ),
    "an acceptance after the cancellation": (
        added("client", 5, {"event": "cancel", "job": JOB}),
        "accepted-after-cancel",
    ),
    "a finished job has a task that nobody accepted": (
        with_field("client", "accept", "parts", [[BATCH, 0, 2]]),
        "not-accepted",
    ),
    "a job that was to be accepted whole is not": (
        together(without("client", "finish"), without("client", "accept", 1)),
        "not-accepted",
    ),
    "an acceptance before the result": (
        together(
            added("worker", 4, lease(SPARE, CLIENT, 0, 1, 9)),
            added("client", 7, grant(SPARE, 0, 1, 9, WORKER)),
        ),
        "causality",
    ),
    "a lease before its grant": (
        together(
            added("worker", 1, lease(SPARE, REPLICA, 0, 1, 9)),
            added("first", 3, grant(SPARE, 0, 1, 9, WORKER)),
        ),
        "causality",
    ),
    "receipts of more than the meter counted": (
        with_field("worker", "result", "energy_mj", 10_000_000),
        "books",
    ),
    "more heat of use than heat": (with_field("heir", "result", "useful_mj", 101), "books"),
    "a meter runs backwards": (
        added("worker", 6, {"event": "meter", "work_uj": 99_000, "useful_uj": 99_000}),
        "books",
    ),
    "the replica counts another's task": (
        with_field("onlooker", "books", "workers", {WORKER: [6, 400, 200, 200], HEIR: [2, 200, 100, 100]}),
        "books",
    ),
    "the replica counts other joules": (
        with_field("onlooker", "books", "workers", {WORKER: [5, 400, 230, 200], HEIR: [3, 200, 100, 100]}),
        "books",
    ),
    "another replica counts other joules": (
        with_field("onlooker", "books", "workers", {WORKER: [5, 400, 230, 200], HEIR: [3, 200, 100, 100]}, 1),
        "books",
    ),
    "a replica lacks results that were accepted": (
        with_field("onlooker", "books", "workers", {WORKER: [5, 400, 200, 200]}, 1),
        "books",
    ),
    "a replica has other records": (with_field("onlooker", "books", "fingerprint", "cd" * 32, 1), "replicas-differ"),
    "a line of no known event": (with_field("heir", "start", "event", "begun"), "unreadable"),
    "a line without a field": (lambda files: of(files, "heir", "start").pop("epoch"), "unreadable"),
    "a line with no range": (with_field("heir", "start", "hi", 3), "unreadable"),
    "another version": (with_field("heir", "begin", "version", 2), "unreadable"),
    "two nodes in one file": (added("heir", 4, begin(SECOND, "second")), "sequence"),
    "a file that begins in the middle": (lambda files: files["heir"].pop(0), "sequence"),
}


def test_a_good_history_holds() -> None:
    verdict = judged(written(good()))
    assert verdict.violations == []
    found = verdict.to_value()
    assert (found["tasks_accepted"], found["tasks_submitted"], found["duplicates"]) == (TASKS, TASKS, 0)
    assert (found["lives"], found["results"], found["collisions"]) == (7, 3, 0)


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_altered_history_is_caught_by_the_right_check(name: str) -> None:
    alter, check = MUTATIONS[name]
    files = good()
    alter(files)
    assert check in violated(files), judged(written(files)).violations


def test_a_copy_that_was_asked_for_is_no_duplicate() -> None:
    files = good()
    added("client", 6, {"event": "recheck", "job": JOB, "lo": 0, "hi": 3, "copy": 1})(files)
    added("second", 3, grant(SPARE, TASKS + 1, TASKS + 3, 1, HEIR))(files)
    added(
        "heir",
        4,
        lease(SPARE, SECOND, TASKS + 1, TASKS + 3, 1),
        {**start(2, 1, 3, 1), "copy": 1},
        {**result(2, SPARE_BATCH, 1, 3, 1), "copy": 1},
    )(files)
    verdict = judged(written(files))
    assert verdict.violations == []
    assert (verdict.to_value()["copies"], verdict.to_value()["duplicates"]) == (2, 0)


@pytest.mark.parametrize("name", ALONE)
def test_an_altered_history_is_caught_by_one_check_alone(name: str) -> None:
    alter, check = ALONE[name]
    files = good()
    alter(files)
    assert violated(files) == [check], judged(written(files)).violations


ENDS: dict[str, Alter] = {
    "ran out": added("first", 2, {"event": "expire", "job": JOB, "lo": 0, "hi": 4, "holder": WORKER}),
    "was held too long": added("first", 2, {"event": "overrun", "job": JOB, "holder": WORKER}),
    "fell silent with its holder": added("first", 2, {"event": "peer", "peer": WORKER, "status": "dead"}),
    "was given back": added("worker", 5, {"event": "release", "grant": GRANT, **tasks(0, 3, 1)}),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_task_is_given_again_after_its_lease(end: str) -> None:
    files = good()
    together(GIVEN_TWICE, ENDS[end])(files)
    assert violated(files) == []
    assert judged(written(files)).to_value()["duplicates"] == 3


def test_what_its_submitter_cannot_have_on_two_disks_may_be_accepted_from_one() -> None:
    files = good()
    added("client", 4, {"event": "peer", "peer": SECOND, "status": "dead"})(files)
    without("second", "keep", 1)(files)
    assert violated(files) == []


def test_every_check_is_shown_to_fail() -> None:
    assert {check for _, check in (*MUTATIONS.values(), *ALONE.values())} == set(CHECKS)


def test_a_violation_shows_the_lines_that_prove_it() -> None:
    files = good()
    MUTATIONS["one granter gives two nodes one task under one epoch"][0](files)
    violation = next(each for each in judged(written(files)).violations if each.check == "two-leases")
    assert [(line["file"], line["line"]) for line in violation.lines] == [("first.jsonl", 2), ("first.jsonl", 3)]
    assert all(f'"epoch": {1}' in line["text"] for line in violation.lines)


@pytest.mark.parametrize("taken", [False, True])
def test_a_grant_counts_over_lives_where_it_left(taken: bool) -> None:
    """Its line is written before it is on disk, and it leaves when it is: whoever is killed in between gave nothing."""
    files = good()
    for event in ("start", "result", "lease") if not taken else ():
        for file in ("worker", "heir"):
            for line in [line for line in files[file] if line["event"] == event]:
                files[file].remove(line)
    again = grant(SPARE, 2, 4, 1, HEIR)
    added("first", 4, begin(REPLICA, "first"), again)(files)
    found = {check for check in violated(files) if check in ("epoch-back", "two-leases")}
    assert found == ({"epoch-back", "two-leases"} if taken else set())


def test_granters_that_could_not_talk_may_collide_after_a_fault() -> None:
    """A replica that was cut off cannot know which epochs others gave; the results are candidates of one task."""
    files = good()
    added("second", 2, grant(SPARE, 2, 4, 1, HEIR))(files)
    for lines in files.values():
        for line in lines:
            line["at_us"] = 9 if line["event"] == "grant" else 7
    verdict = judged(written(files))
    assert verdict.violations == [] and verdict.leases.collisions == 1


def test_a_granter_that_lost_its_disk_may_grant_again() -> None:
    files = good()
    files["first"] += [begin(REPLICA, "first"), grant(SPARE, 2, 4, 1, WORKER)]
    files["onlooker"].insert(2, {"event": "fault", "kind": "disk-lost", "node": REPLICA})
    for name, lines in files.items():
        for at, line in enumerate(lines):
            line["at_us"] = 50 if name == "onlooker" else (100 if name == "first" and at >= 5 else 7)
    assert violated(files) == []


@given(st.data())
def test_a_line_that_is_lost_or_there_twice_is_noticed(data: st.DataObject) -> None:
    texts = written(good())
    name = data.draw(st.sampled_from(sorted(texts)))
    at = data.draw(st.integers(1, len(texts[name]) - 1))
    twice = data.draw(st.booleans())
    last_of_its_life = at + 1 == len(texts[name]) or b'"begin"' in texts[name][at + 1]
    is_begin = b'"begin"' in texts[name][at]
    if twice:
        texts[name].insert(at, texts[name][at])
    else:
        del texts[name][at]
    found = {violation.check for violation in judged(texts).violations}
    # A life that begins twice with nothing between says nothing wrong; the last line of one may be lost with the power.
    assert found or last_of_its_life or is_begin
    if not (last_of_its_life or is_begin):
        assert "sequence" in found


@given(st.data())
def test_no_text_makes_the_checker_fail(data: st.DataObject) -> None:
    texts = written(good())
    name = data.draw(st.sampled_from(sorted(texts)))
    at = data.draw(st.integers(0, len(texts[name]) - 1))
    line = bytearray(texts[name][at])
    for _ in range(data.draw(st.integers(1, 4))):
        line[data.draw(st.integers(0, len(line) - 2))] = data.draw(st.integers(0, 255))
    texts[name][at] = bytes(line)
    judged(texts).to_value()


def test_a_life_may_end_in_the_middle_of_a_line() -> None:
    texts = written(good())
    texts["heir"].append(b'{"n":5,"at_us":7,"eve\n')
    texts["worker"].insert(6, b'{"n":7,"at_us":7,"event":"met\n')
    verdict = judged(texts)
    assert verdict.violations == [] and verdict.history.torn == 2


def test_half_a_line_in_the_middle_of_a_life_is_damage() -> None:
    texts = written(good())
    texts["heir"][2] = texts["heir"][2][:30] + b"\n"
    assert "unreadable" in {violation.check for violation in judged(texts).violations}
