"""`hearth verify`: what a third party's check of a results folder found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ...protocol.words import counted
from .errors import JOB_FAILED, SUCCESS
from .output import energy, note, print_json, print_table, say
from .tables import ID_CHARS, Column, Columns
from .verify_folder import verify_folder

FAULTS_SHOWN_MAX = 20
RECEIPT_COLUMNS: Columns = (
    *(Column("worker", tail=ID_CHARS), ">tasks"),
    *(Column(">CPU s", drop=1), Column(">energy", drop=3), Column(">wanted heat", drop=2)),
)


def verify(folder: Path, as_json: bool) -> int:
    """Exit code 0 if all is good, 1 if anything is forged, edited, missing or not accepted. Of a cancelled job what
    was not accepted is told apart, and is no fault. Raises UserError."""
    report = verify_folder(folder)
    code = SUCCESS if report.ok else JOB_FAILED
    if as_json:
        print_json({"ok": report.ok, "incomplete": report.is_incomplete, **asdict(report)})
        return code
    # What another run of hearth results mends is said once, below.
    forged = report.forged
    for fault in forged[:FAULTS_SHOWN_MAX]:
        say(f"{fault.file}: {fault.reason}")
    if len(forged) > FAULTS_SHOWN_MAX:
        say(f"and {len(forged) - FAULTS_SHOWN_MAX} more; --json lists all")
    say(f"{report.name}  {report.job}{'  confidential' if report.confidential else ''}")
    say(f"mesh {report.mesh or 'unknown'}, submitted by {report.submitter or 'nobody'}, policy {report.policy or '-'}")
    say(
        f"{report.results} of {counted(report.tasks, 'result')}, {report.accepted} accepted, {report.failed} failed, "
        f"{report.compared} found by more than one worker"
    )
    rows = [
        (worker, each.tasks, f"{each.cpu_us / 1e6:.3f}", energy(each.energy_mj / 1000), energy(each.useful_mj / 1000))
        for worker, each in sorted(report.receipts.items())
    ]
    empty = "no result was good" if forged and not report.unaccepted else "no result is accepted yet"
    if report.cancelled and report.ok:
        empty = "no result was accepted"
    print_table(RECEIPT_COLUMNS, rows, empty=empty)
    cost = sum(each.cost_micro for each in report.receipts.values())
    if cost:
        say(f"to pay for heat that nobody wanted: {cost / 1e6:.6g}")
    if report.cancelled:
        left = f", {report.unaccepted} fetched but not accepted, which count for nothing" if report.unaccepted else ""
        say(f"the job was cancelled: {report.accepted} accepted{left}")
    if forged:
        note(f"{counted(len(forged), 'fault')}: these results do not prove themselves")
    if len(forged) < len(report.faults):
        accepted = f", {report.unaccepted} of them not accepted yet" if report.unaccepted else ""
        note(f"incomplete: {report.results} of {report.tasks} results are here{accepted}; run hearth results again")
    return code
