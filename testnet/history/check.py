"""All checks over one history, and what they found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .again import Again
from .books import Books
from .leases import Leases
from .lines import History, Line, Violation, read_history
from .measure import Times, measure
from .order import linearise
from .results import Results

# A checker that is wrong about everything must not fill the screen.
VIOLATIONS_A_CHECK_MAX = 20

# What each check says, for people; docs/chaos.md has this table.
CHECKS = {
    "unreadable": "Each line is a whole event of a known kind, with its fields.",
    "sequence": "A life's lines are numbered without gap or repetition, and begin with its start.",
    "causality": "Nothing comes before what it rests on: each node's order and the records' agree.",
    "unknown-job": "Grants, results and acceptances are of jobs that were submitted, and of tasks that these have.",
    "submitted-twice": "A job is submitted by one client, with one number of tasks.",
    "grant-differs": "Giver and taker know a grant on the same terms.",
    "grant-without-right": "Who hands tasks on holds them.",
    "two-leases": "No two grants of one task and epoch go to different nodes: never by one granter, and by two only "
    "after a fault that hurt a node (those are counted as collisions).",
    "epoch-back": "A granter gives a task under a higher epoch each time, over all its lives.",
    "granted-while-leased": "A granter gives a task again only after its lease ended: it ran out, was held too long, "
    "was given back, or its holder was called dead. Nobody hands a task on twice under one lease.",
    "copy-unasked": "A task is run once more, to compare, only where its submitter asked for that copy.",
    "lease-without-grant": "Each lease taken, or given back, was given.",
    "lease-twice": "A grant is taken once a life.",
    "start-without-lease": "Each start is under a lease that this life of the node took.",
    "start-after-giving": "What was given away or back does not start any more.",
    "started-twice": "No process starts a task twice under one lease.",
    "result-without-start": "Each result is of an execution that started in this life, and of its tasks.",
    "result-twice": "An execution ends once, and a batch is made once.",
    "ran-twice": "Where no node was hurt a task has two results only if one of its leases had ended so.",
    "result-differs": "A replica keeps a batch as its worker's, of its job.",
    "accepted-by-another": "Only who submitted a job accepts its results.",
    "accepted-without-result": "Each acceptance names a batch that a node made, and tasks that are in it.",
    "accepted-before-kept": "What is accepted is on the disks of two of three replicas by then, or of all that its "
    "submitter did not call dead.",
    "accepted-twice": "No task is accepted from two batches, in whatever lives of the client.",
    "accepted-after-cancel": "Nothing is accepted after the cancellation.",
    "not-accepted": "Each task of a finished job is accepted.",
    "books": "Receipts are within what the worker's meter counted, and all of it but what processes take to start, "
    "where nothing was killed or stopped; each replica's sums are the receipts' sums.",
    "replicas-differ": "In the end all replicas of a job have the same records of it.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history holds. order: all lines, each after what it rests on."""

    history: History
    order: list[Line]
    results: Results
    leases: Leases
    books: Books
    times: Times

    @property
    def violations(self) -> list[Violation]:
        return self.history.violations

    def to_value(self) -> dict[str, Any]:
        jobs = self.results.jobs.values()
        return {
            "lines": len(self.history.lines),
            "nodes": len({line.node for line in self.history.lines}),
            "lives": len({line.who for line in self.history.lines}),
            "torn_lines": self.history.torn,
            "jobs": len(jobs),
            "tasks_submitted": sum(job.tasks for job in jobs),
            "tasks_accepted": sum(len(job.accepted) for job in jobs),
            "results": len(self.results.batches),
            "copies": sum(job.copies for job in jobs),
            "duplicates": sum(job.duplicates for job in jobs),
            "collisions": self.leases.collisions,
            "receipts_j": self.books.receipts_mj / 1000,
            "metered_j": self.books.metered_mj / 1000,
            "times": self.times.to_value(),
            "violations": [
                {"check": each.check, "text": each.text, "lines": list(each.lines)} for each in self.violations
            ],
        }


def check_folder(folder: Path) -> Verdict:
    """Raises HistoryError."""
    return check(read_history(folder))


def check(history: History) -> Verdict:
    """Adds to the history's violations."""
    counts: dict[str, int] = {}

    def report(name: str, text: str, *lines: Line) -> None:
        assert name in CHECKS, f"{name} is in no table"
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= VIOLATIONS_A_CHECK_MAX:
            history.violations.append(Violation(name, text, tuple(line.shown() for line in lines)))

    order = linearise(history)
    leases, again, results, books = Leases(report), Again(report), Results(report), Books(report)
    for line in order:
        leases.take(line)
        again.take(line)
        results.take(line)
        books.take(line)
    leases.end()
    again.end()
    results.end()
    books.end(results)
    return Verdict(history, order, results, leases, books, measure(history.lines))
