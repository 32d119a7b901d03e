"""The end of the demo: the answer with its error, who computed it, what it cost, and whether all of it holds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..node.cli.output import printable
from .demo_results import Audit
from .demo_scene import Scene

if TYPE_CHECKING:
    from .demo_story import Course

_JOULES_PER_KWH = 3_600_000
TEXT_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold. detail: what was found, for people."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the report says. answer: as aggregate.py prints it, None if the results do not add up.

    left_behind: process ids.  started_s: until the nodes were linked.  seconds: all of it.
    """

    scene: Scene
    course: Course
    audit: Audit
    answer: Mapping[str, Any] | None
    answer_fault: str
    expected_digest: str
    left_behind: list[int]
    started_s: float
    seconds: float

    def checks(self) -> list[Check]:
        return [
            self._answer(),
            self._proofs(),
            self._once(),
            self._hurt(),
            self._return(),
            self._heat(),
            self._leftovers(),
        ]

    @property
    def verified(self) -> bool:
        return all(check.holds for check in self.checks())

    def _answer(self) -> Check:
        digest = str(self.answer["digest"]) if self.answer else ""
        holds = bool(digest) and digest == self.expected_digest
        if holds:
            return Check("answer", True, f"digest {digest[:16]}… is that of a single node")
        return Check("answer", False, self.answer_fault or f"digest {digest[:16]}…, not {self.expected_digest[:16]}…")

    def _proofs(self) -> Check:
        audit = self.audit
        detail = f"{audit.proofs:,} inclusion proofs under {audit.signatures:,} signed roots"
        return Check("proofs", not audit.faults and audit.proofs == audit.tasks, "; ".join([detail, *audit.faults[:3]]))

    def _once(self) -> Check:
        status = self.course.status
        accepted = status.accepted if status else 0
        holds = self.audit.complete and accepted == self.audit.tasks and not self.audit.faults
        return Check("accepted", holds, f"{accepted:,} of {self.audit.tasks:,} tasks, each once")

    def _hurt(self) -> Check:
        course = self.course
        hurt = dict.fromkeys((*course.killed, *course.frozen))
        holds = len(course.killed) == 2 and len(course.restarted) == 1 and len(course.frozen) == 1 and len(hurt) == 3
        detail = f"killed {_names(course.killed)}; restarted {_names(course.restarted)}; frozen {_names(course.frozen)}"
        return Check("hurt", holds, detail)

    def _return(self) -> Check:
        visits = self.course.visits
        holds = len(visits) == 2 and all(visits) and sum(visits) == self.audit.tasks
        return Check("return", holds, " + ".join(f"{count:,}" for count in visits) + " results in two sessions")

    def _heat(self) -> Check:
        guilty = {name: room.tasks_while_warm for name, room in self.scene.rooms.items() if room.tasks_while_warm}
        detail = (
            ", ".join(f"{name} ran {count}" for name, count in guilty.items()) or "none ran in a room that was too warm"
        )
        return Check("heat", not guilty, f"tasks: {detail}")

    def _leftovers(self) -> Check:
        found = ", ".join(map(str, self.left_behind))
        return Check("end", not self.left_behind, f"processes left: {found}" if found else "no process was left behind")

    # -- numbers ---------------------------------------------------------------------------------------------

    def tasks_by_node(self) -> dict[str, int]:
        """Accepted tasks, by the heater that signed them; every heater is there."""
        found = dict.fromkeys(self.scene.rooms, 0)
        for worker, tasks in self.audit.tasks_by_worker.items():
            name = self.scene.name_of(worker.hex())
            found[name] = found.get(name, 0) + tasks
        return found

    def to_value(self) -> dict[str, Any]:
        """For --json."""
        course, audit, status = self.course, self.audit, self.course.status
        rooms = {
            name: {
                "peer_id": room.peer_id,
                "start_c": room.plan.start_c,
                "end_c": room.temperature_c,
                "setpoint_c": room.plan.setpoint_c,
                "end": room.condition.value,
                "accepted_tasks": self.tasks_by_node()[name],
                "taken_from": self.scene.taken_from(name),
            }
            for name, room in self.scene.rooms.items()
        }
        return {
            "verified": self.verified,
            "checks": {check.name: {"holds": check.holds, "detail": check.detail} for check in self.checks()},
            "answer": self.answer,
            "job": course.job_id.hex(),
            "tasks": audit.tasks,
            "accepted": status.accepted if status else 0,
            "duplicates": status.duplicates if status else None,
            "taken_back": self.scene.taken_back(),
            "lapsed": self.scene.taken_back(hurt=False),
            "batches": audit.batches,
            "signatures_checked": audit.signatures,
            "proofs_checked": audit.proofs,
            "energy_kwh": audit.energy_mj / 1000 / _JOULES_PER_KWH,
            "useful_kwh": audit.useful_mj / 1000 / _JOULES_PER_KWH,
            "cpu_s": audit.cpu_us / 1e6,
            "killed": course.killed,
            "restarted": course.restarted,
            "frozen": course.frozen,
            "kept_by": course.keepers_at_first,
            "results_by_visit": course.visits,
            "rooms": rooms,
            "happenings": [{"at_s": round(item.at_s, 2), "text": item.text} for item in self.scene.happenings],
            "start_s": round(self.started_s, 2),
            "job_s": round(course.finished_s - course.submitted_s, 2),
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """For people, at most 100 columns."""
        return "\n".join([*self._answer_lines(), "", *self._work_lines(), *self._cost_lines(), "", self._verdict()])

    def _answer_lines(self) -> list[str]:
        answer = self.answer
        if answer is None:
            return [f"No answer: {printable(self.answer_fault)}"]
        lines = [
            f"What the book may lose in ten days, from {answer['paths']:,} scenarios:",
            f"  {'level':<8} {'value at risk':>15} {'95 % interval':>27} {'exp. shortfall':>17} {'± SE':>10}",
        ]
        for level, row in answer["levels"].items():
            interval = f"{row['var_low']:,.0f} to {row['var_high']:,.0f}"
            percent = f"{float(level) * 100:g} %"
            lines.append(
                f"  {percent:<8} {row['var']:>15,.0f} {interval:>27} {row['es']:>17,.0f} {row['es_se']:>10,.0f}"
            )
        return lines

    def _work_lines(self) -> list[str]:
        status = self.course.status
        twice = f"{status.duplicates:,}" if status else "an unknown number of"
        back = ", ".join(f"{tasks} of {name}" for name, tasks in self.scene.taken_back().items()) or "none"
        return [
            *_line("tasks by node", ", ".join(f"{name} {tasks}" for name, tasks in self.tasks_by_node().items())),
            *_line("duplicates", f"{twice} results came twice; taken back and given to others: {back}"),
            *_line("proofs", f"{self._proofs().detail}, and each signer's certificate"),
        ]

    def _cost_lines(self) -> list[str]:
        audit = self.audit
        kwh, useful = audit.energy_mj / 1000 / _JOULES_PER_KWH, audit.useful_mj / 1000 / _JOULES_PER_KWH
        share = f"{100 * useful / kwh:.0f} %" if kwh else "none"
        job_s = self.course.finished_s - self.course.submitted_s
        pace = f"{audit.tasks / job_s:.0f} tasks/s" if job_s > 0 else "unknown"
        return [
            *_line("energy", f"{kwh:.5f} kWh for the accepted tasks; {useful:.5f} kWh ({share}) met a demand for heat"),
            *_line("", f"estimated: {audit.cpu_us / 1e6:.1f} s of CPU, {_watts(self.scene)}"),
            *_line("time", f"nodes up {self.started_s:.1f} s, job {job_s:.1f} s ({pace}), all {self.seconds:.1f} s"),
        ]

    def _verdict(self) -> str:
        if self.verified:
            return (
                f"VERIFIED: {self.audit.tasks:,} of {self.audit.tasks:,} tasks accepted, each once and with its proof; "
                f"{self._answer().detail}."
            )
        failed = [f"{check.name}: {check.detail}" for check in self.checks() if not check.holds]
        return "NOT VERIFIED: " + "; ".join(map(printable, failed))


def _line(label: str, text: str) -> list[str]:
    """A label and its text, folded to the width."""
    indent = " " * 18
    return textwrap.wrap(text, TEXT_COLUMNS, initial_indent=f"  {label:<16}", subsequent_indent=indent)


def _watts(scene: Scene) -> str:
    """What a busy core counts as; each of the demo's heaters has one."""
    by_watts: dict[float, list[str]] = {}
    for name, room in scene.rooms.items():
        by_watts.setdefault(room.plan.watts_per_core, []).append(name)
    most = max(by_watts.values(), key=len)
    parts = [f"{watts:g} W a busy core" for watts, names in by_watts.items() if names is most]
    parts += [f"{watts:g} W in the {', '.join(names)}" for watts, names in by_watts.items() if names is not most]
    return ", ".join(parts)


def _names(names: list[str]) -> str:
    return " and ".join(names) or "none"
