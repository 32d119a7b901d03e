"""One disturbance, from an empty folder to a verdict, with nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from ...crypto.certificates import MembershipPolicy
from ...node.config import load_client_config
from ...node.control import ControlError
from ...node.membership_files import load_membership
from ...node.storage.folder import StateFolder
from ..demo_results import Audit, KeptBatch, audit
from ..errors import TestnetError
from ..history.check import Verdict, check_folder
from ..history.measure import Kill
from ..network import Testnet
from ..provision import history_folder
from .client import results_folder, results_of
from .convergence import Convergence, converge
from .diary import Diary
from .disturbances import Disturbance
from .scene import Scene, Settings

DOWN_PATIENCE_S = 8.0
# A disturbance begins when so much of the results is here.
BEGIN_SHARE = 0.1
# Work outlasts a disturbance whose length is known by so much, if the cores have nothing else to do; and longer, since
# at first most tasks are run twice, to compare.
OUTLASTS = 1.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run found. fault: why it did not come to its end; empty if it did.

    accepted: by the word of every replica.  disagreement: what replicas differed in when all was over and they could
    talk; empty if they came to the same.  converged_s: how long after the client's end they had.
    proofs: results whose proof was checked anew, from the customer's disk.
    begun, mended: how many results the customer had when the disturbance began, and when all was mended; None: it never
    came to that.
    """

    name: str
    seed: int
    seconds: float
    fault: str
    verdict: Verdict | None
    tasks: int
    accepted: int
    disagreement: str
    converged_s: float
    proofs: int
    proof_faults: list[str]
    client_tries: int
    notes: list[str]
    begun: int | None
    mended: int | None

    @property
    def is_vacuous(self) -> bool:
        """It met no work: that no task suffered says nothing."""
        return self.begun is not None and self.begun >= self.tasks

    @property
    def met(self) -> str:
        """What work there was for it, for people; empty if it never began."""
        if self.begun is None:
            return ""
        mended = "" if self.mended is None else f", {self.mended} when all was mended"
        return f"{self.begun} of {self.tasks} results were there when it began{mended}"

    @property
    def holds(self) -> bool:
        """Every task accepted once, with a valid proof, and every check of the history holds; and there was work."""
        return (
            not self.fault
            and not self.is_vacuous
            and self.verdict is not None
            and not self.verdict.violations
            and not self.disagreement
            and not self.proof_faults
            and self.accepted == self.proofs == self.tasks
        )

    @property
    def late(self) -> list[str]:
        """What took longer than is promised of a kill, by the nodes' own times. No task suffers by that."""
        return [text for kill in self.kills for text in kill.late]

    @property
    def kills(self) -> list[Kill]:
        return self.verdict.times.kills if self.verdict is not None else []

    def problems(self) -> list[str]:
        """What does not hold, for people, with the lines of the histories that prove it."""
        found = [self.fault] if self.fault else []
        if self.accepted != self.tasks or self.proofs != self.tasks:
            found.append(f"{self.accepted} accepted and {self.proofs} proved of {self.tasks} tasks")
        if self.is_vacuous:
            found.append(f"vacuous: all {self.tasks} results were there when the disturbance began")
        if self.disagreement:
            found.append(f"replicas that can talk do not come to the same: {self.disagreement}")
        found += [f"proofs: {text}" for text in self.proof_faults]
        for violation in self.verdict.violations if self.verdict is not None else ():
            lines = [f"  {line['file']}:{line['line']}: {line['text']}" for line in violation.lines]
            found.append("\n".join([f"{violation.check}: {violation.text}", *lines]))
        return found

    def to_value(self) -> dict[str, Any]:
        return {
            "disturbance": self.name,
            "holds": self.holds,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "fault": self.fault,
            "tasks": self.tasks,
            "accepted": self.accepted,
            "vacuous": self.is_vacuous,
            "results_begun": self.begun,
            "results_mended": self.mended,
            "disagreement": self.disagreement,
            "converged_s": round(self.converged_s, 2),
            "proofs": self.proofs,
            "proof_faults": self.proof_faults,
            "client_lives": self.client_tries,
            "notes": self.notes,
            "late": self.late,
            "history": self.verdict.to_value() if self.verdict is not None else None,
        }


async def run_one(disturbance: Disturbance, folder: Path, settings: Settings) -> Outcome:
    """folder: new, or empty; what is made there stays, and nothing that runs. Raises OSError."""
    settings = disturbance.settings(settings, OUTLASTS, len(os.sched_getaffinity(0)))
    tasks = settings.tasks_a_job * settings.jobs
    began_s = trio.current_time()
    folder.mkdir(parents=True, exist_ok=True)
    net = Testnet.create(folder / "net", rooms=disturbance.rooms(settings.nodes), history=True)
    fault, done, notes, tries, alike = "", list[str](), list[str](), 0, Convergence()
    mended: int | None = None
    diary = Diary(history_folder(net.folder), lambda: results_of(folder, settings.jobs))
    async with AsyncExitStack() as stack:
        scene = Scene(folder, net, settings, diary, stack)
        try:
            with trio.move_on_after(settings.limit_s) as limit:
                done = await _play(disturbance, scene)
                alike = await converge(net, done)
            if limit.cancelled_caught:
                fault = f"not done within {settings.limit_s:g} s"
        except (TestnetError, ControlError) as error:
            fault = str(error)
        finally:
            with trio.CancelScope(shield=True):
                await scene.end_client()
                await net.down(patience_s=DOWN_PATIENCE_S if not fault else 0.0)
        notes, tries, mended = scene.notes, scene.client_tries, scene.mended
    for job_id in done:
        diary.expect(job_id)
        for name, kept in alike.kept.get(job_id, {}).items():
            diary.books(job_id, net.node(name).node_id, kept.fingerprint, kept.workers)
    diary.close()
    verdict = await trio.to_thread.run_sync(check_folder, net.folder)
    audits = await trio.to_thread.run_sync(_audits, net, folder, settings)
    return Outcome(
        name=disturbance.name,
        seed=settings.seed,
        seconds=trio.current_time() - began_s,
        fault=fault,
        verdict=verdict,
        tasks=tasks,
        accepted=alike.accepted(),
        disagreement=alike.problem,
        converged_s=alike.seconds,
        proofs=sum(each.proofs for each in audits),
        proof_faults=[text for each in audits for text in each.faults],
        client_tries=tries,
        notes=notes,
        begun=diary.begun,
        mended=mended,
    )


async def _play(disturbance: Disturbance, scene: Scene) -> list[str]:
    """Returns the ids of the jobs, when the client has accepted them whole. Raises TestnetError, ControlError."""
    if disturbance.prepare is not None:
        await disturbance.prepare(scene)
    await scene.net.start(with_parent=True)
    scene.start_client()
    await scene.work_on(BEGIN_SHARE)
    await disturbance.act(scene)
    scene.mended = scene.results_here()
    return await scene.client_done()


def _audits(net: Testnet, folder: Path, settings: Settings) -> list[Audit]:
    """What lies on the customer's disk, checked anew: each batch's signature, and each task's own proof."""
    config = load_client_config(net.client_config)
    policy = load_membership(config.mesh, StateFolder(config.client.state)).policy
    found = []
    for number in range(settings.jobs):
        place = results_folder(folder, number)
        if (place / "job.json").exists():
            found.append(_audit(place, policy, settings.tasks_a_job))
    return found


def _audit(place: Path, policy: MembershipPolicy, tasks: int) -> Audit:
    job_id = bytes.fromhex(json.loads((place / "job.json").read_bytes())["job"])
    parts: dict[str, dict[int, None]] = {}
    # A task that was fetched twice counts as the later line says, as for whoever reads the folder.
    lines = {line["index"]: line for line in map(json.loads, (place / "results.jsonl").read_text().splitlines())}
    for index, line in lines.items():
        parts.setdefault(line["batch"], {})[index] = None
    batches = []
    for batch, indices in parts.items():
        header = (place / "proofs" / f"{batch}.header").read_bytes()
        columns = (place / "proofs" / f"{batch}.columns").read_bytes()
        batches.append(KeptBatch(header, columns, tuple((index, index + 1) for index in sorted(indices))))
    return audit(batches, job_id, tasks, policy)


def remove(folder: Path) -> None:
    """Whatever a run left in its folder."""
    shutil.rmtree(folder, ignore_errors=True)
