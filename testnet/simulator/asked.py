"""What the options of `hearth sim` ask for: a plan, and the command that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...node.cli.errors import UserError
from .long_plan import HOURS_LEAST, TASKS_A_NODE, long_plan
from .plan import SIMULATED_PRESETS, Plan, draw_plan
from .scenarios import scenario_named
from .shrink import Reduction

SEEDS_MOST = 1 << 63
NODES_MOST = 200_000
FAULTS_MOST = 10_000
PRESET = "lan"
HOURS_MOST = 24 * 366.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The options by their names; None is left to the seed."""

    seed: int
    nodes: int | None
    hours: float | None
    churn: float | None
    jobs: int | None
    preset: str | None
    scenario: str | None
    warm: bool = False
    tasks: int | None = None
    draw_nodes: int | None = None
    draw_faults: int | None = None
    draw_honest: bool = False

    def plan(self) -> Plan:
        """Raises UserError, which names the option that cannot be."""
        self._check()
        if self.scenario is not None:
            try:
                found = scenario_named(self.scenario)
            except KeyError as error:
                raise UserError(f"--scenario {self.scenario}: there are {error.args[0]}") from None
            return found.plan if self.seed == 1 else replace(found.plan, seed=self.seed)
        if self.nodes is None and self.hours is None:
            return draw_plan(self.seed, nodes=self.draw_nodes, faults=self.draw_faults, honest=self.draw_honest)
        return long_plan(
            self.seed,
            nodes=self.nodes if self.nodes is not None else 8,
            hours=self.hours if self.hours is not None else 0.05,
            churn=self.churn if self.churn is not None else 0.0,
            jobs=self.jobs,
            preset=self.preset if self.preset is not None else PRESET,
            warm=self.warm,
            tasks=self.tasks if self.tasks is not None else TASKS_A_NODE,
        )

    def _check(self) -> None:
        if not 0 <= self.seed < SEEDS_MOST:
            raise UserError(f"--seed {self.seed}: a seed is a whole number from 0 to 2^63 - 1")
        check_count("--nodes", self.nodes)
        check_drawn(self.draw_nodes, self.draw_faults)
        if self.hours is not None and not HOURS_LEAST <= self.hours <= HOURS_MOST:
            raise UserError(f"--hours {self.hours:g}: from {HOURS_LEAST:g} to {HOURS_MOST:g} can be simulated")
        if self.churn is not None and not 0 <= self.churn <= 100:
            raise UserError(f"--churn {self.churn:g}: a share of the nodes an hour, from 0 to 100")
        if self.jobs is not None and not 0 <= self.jobs <= 10_000:
            raise UserError(f"--jobs {self.jobs}: from 0 to 10000")
        if self.tasks is not None and not 1 <= self.tasks <= 1_000:
            raise UserError(f"--tasks {self.tasks}: a job has from 1 to 1000 tasks for each node")
        if self.preset is not None and self.preset not in SIMULATED_PRESETS:
            raise UserError(f"--preset {self.preset}: there are {', '.join(SIMULATED_PRESETS)}")
        self._check_together()

    def _check_together(self) -> None:
        """Whether each of them has a say in the plan."""
        sized: dict[str, object] = {"--nodes": self.nodes, "--hours": self.hours}
        shaped: dict[str, object] = {
            "--churn": self.churn,
            "--jobs": self.jobs,
            "--preset": self.preset,
            "--tasks": self.tasks,
        }
        shaped |= {"--warm": self.warm or None}
        drawn: dict[str, object] = {"--draw-nodes": self.draw_nodes, "--draw-faults": self.draw_faults}
        drawn |= {"--draw-honest": self.draw_honest or None}
        if self.scenario is not None and (given := _given(sized | shaped | drawn)):
            raise UserError(f"{given}: --scenario says that already; leave one of them out")
        if _given(sized) and (given := _given(drawn)):
            raise UserError(f"{given}: nothing is drawn with {_given(sized)}; leave one of them out")
        if not _given(sized) and (given := _given(shaped)):
            raise UserError(f"{given}: is drawn, or of no use, without --nodes or --hours")

    def replay_command(self) -> str:
        command = f"hearth sim replay {self.seed} --trace"
        command += "" if self.nodes is None else f" --nodes {self.nodes}"
        command += "" if self.hours is None else f" --hours {self.hours:g}"
        command += "" if not self.churn else f" --churn {self.churn:g}"
        command += "" if self.jobs is None else f" --jobs {self.jobs}"
        command += "" if self.tasks is None else f" --tasks {self.tasks}"
        command += "" if self.preset in (None, PRESET) else f" --preset {shlex.quote(self.preset)}"
        command += " --warm" if self.warm else ""
        return command + ("" if self.scenario is None else f" --scenario {self.scenario}")


def _given(options: Mapping[str, object]) -> str:
    """The first that was given; empty if none was."""
    return next((name for name, value in options.items() if value is not None), "")


def check_count(option: str, nodes: int | None) -> None:
    if nodes is not None and not 1 <= nodes <= NODES_MOST:
        raise UserError(f"{option} {nodes}: from 1 to {NODES_MOST} machines can be simulated")


def check_drawn(nodes: int | None, faults: int | None) -> None:
    """What a seed is not to say. Raises UserError."""
    check_count("--draw-nodes", nodes)
    if faults is not None and not 0 <= faults <= FAULTS_MOST:
        raise UserError(f"--draw-faults {faults}: from 0 to {FAULTS_MOST}")


def check_report(path: Path | None) -> None:
    """Raises UserError where the page and the numbers beside it would be one file."""
    if path is not None and path.suffix == ".json":
        raise UserError(f"--report {path}: the page; its numbers go to {path.name} beside it, so name it .html")


def reduced(
    plan: Plan, nodes: int | None, faults: str | None, jobs: str | None, tasks: int | None, liars: str | None = None
) -> Plan:
    """A part of the plan: the first so many machines, these faults, jobs and liars, at most so many tasks."""
    for what, count in (("--keep-nodes", nodes), ("--keep-tasks", tasks)):
        if count is not None and count < 1:
            raise UserError(f"{what} {count}: at least 1")
    kept = (positions("--keep-faults", faults), positions("--keep-jobs", jobs))
    reduction = Reduction(nodes, *kept, tasks, positions("--keep-liars", liars))
    try:
        return reduction.of(plan)
    except ValueError as error:
        raise UserError(str(error)) from None


def positions(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: positions with commas between them, as 0,3, or none") from None
