"""Whether the replicas of a job agree, by each one's own word over its local door.

Right after a partition they need not: what a client accepted is told to whom it reaches, and the results behind it come
by comparison (`protocol/reconcile.py`). Replicas that can talk are promised to get there; so whoever compares their
books waits for that, and calls it a failure if it does not come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from ...node.control import ControlError
from ..network import Testnet

# Many times two rounds of comparison: links that broke have to be dialled again first, by loaded machines.
PATIENCE_S = 60.0
POLL_S = 0.1
# Who is frozen meanwhile says nothing, and is asked again in the next round.
ASK_TIMEOUT_S = 5.0


class Kept(msgspec.Struct, frozen=True):
    """What one node keeps of a job, as its control socket says it. fingerprint: the sum of its records' ids.

    workers: by node id, (tasks done, cpu_us, energy_mj, useful_mj).
    """

    epoch: int
    replicas: tuple[str, ...]
    records: int
    fingerprint: str
    tasks: int
    done: int
    accepted: int
    workers: dict[str, tuple[int, int, int, int]]

    @property
    def is_whole(self) -> bool:
        return self.done == self.accepted == self.tasks


@dataclass(slots=True)
class Convergence:
    """kept: of each job, what each of its replicas keeps, by node name.  problem: where they do not agree; empty if
    they do.  seconds: until they did.
    """

    kept: dict[str, dict[str, Kept]] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0

    def accepted(self) -> int:
        """Tasks of all jobs that every replica counts as accepted."""
        return sum(min((each.accepted for each in found.values()), default=0) for found in self.kept.values())


async def converge(net: Testnet, job_ids: Sequence[str], patience_s: float = PATIENCE_S) -> Convergence:
    """Wait until the replicas of each job have the same records, and all of it."""
    began_s = trio.current_time()
    found = Convergence()
    with trio.move_on_after(patience_s):
        while True:
            found.kept = {job_id: await _ask_all(net, job_id) for job_id in job_ids}
            problems = [disagreement(kept) for kept in found.kept.values()]
            found.problem = "; ".join(problem for problem in problems if problem)
            if not found.problem:
                break
            await trio.sleep(POLL_S)
    found.seconds = trio.current_time() - began_s
    return found


async def _ask_all(net: Testnet, job_id: str) -> dict[str, Kept]:
    """By name, those that are in the newest set of replicas."""
    said: dict[str, Kept] = {}
    for name, node in net.nodes.items():
        try:
            answer = await node.ask({"do": "kept", "job": job_id}, timeout_s=ASK_TIMEOUT_S)
        except ControlError:
            continue
        if answer["kept"] is not None:
            said[name] = msgspec.convert(answer["kept"], Kept)
    newest = max(said.values(), key=lambda kept: kept.epoch, default=None)
    members = newest.replicas if newest is not None else ()
    return {name: kept for name, kept in said.items() if net.node(name).node_id in members}


def disagreement(kept: Mapping[str, Kept]) -> str:
    """What the replicas of one job lack, or differ in; empty if nothing."""
    if not kept:
        return "nobody keeps the job"
    members = len(next(iter(kept.values())).replicas)
    alike = len({(each.epoch, each.fingerprint) for each in kept.values()}) == 1
    if alike and len(kept) == members and all(each.is_whole for each in kept.values()):
        return ""
    rows = (
        f"{name} (set {each.epoch}) has {each.records} records, {each.done} results and {each.accepted} acceptances"
        for name, each in kept.items()
    )
    return f"of {members} replicas " + ", ".join(rows)
