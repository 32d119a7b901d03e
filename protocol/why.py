"""Why a heater is idle, and why a task waits: one sentence, from the decisions that were taken."""

from __future__ import annotations

from ..crypto.certificates import Role
from ..crypto.identity import peer_id_text
from .budget import Budget
from .granting import controlled_sections
from .jobs import JobState
from .kept_job import KeptJob
from .messages import WHY_TEXT_MAX, Because, Why
from .reasons import Decision
from .records import MemberRecord, RecordKind
from .roles import Roles
from .stealing.appetite import is_steady
from .words import counted

# Questions of one peer that are answered: a burst, then so many an interval.
ANSWERS_BURST = 32
ANSWERS_AN_INTERVAL = 8
ID_END_CHARS = 8


class Explainer:
    """Reads the machines of one node; changes nothing."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._budgets: dict[bytes, Budget] = {}

    def on_why(self, peer: bytes, message: Why, now_us: int) -> None:
        """Answers a peer, within its budget."""
        ctx = self._roles.ctx
        budget = self._budgets.get(peer)
        if budget is None:
            budget = Budget(ANSWERS_BURST, ANSWERS_AN_INTERVAL, ctx.config.sync_interval_us, now_us)
            self._budgets[peer] = budget
            while len(self._budgets) > ctx.config.members_max:
                del self._budgets[next(iter(self._budgets))]
        if not budget.spend(1, now_us):
            return
        if message.job_id:
            sure, text = self.why_task(message.job_id, message.index, now_us)
        else:
            sure, text = True, self.why_node(now_us)
        ctx.send(peer, Because(message.request, sure, text[:WHY_TEXT_MAX]))

    def jobs(self) -> list[bytes]:
        """That this node keeps, or works for."""
        return list(dict.fromkeys((*self._roles.replica.jobs, *self._roles.worker.jobs())))

    # -- a node ----------------------------------------------------------------------------------------------

    def why_node(self, now_us: int) -> str:
        """Why this node runs nothing, or that it does."""
        roles, worker = self._roles, self._roles.worker
        if worker.draining:
            ending, owed = counted(worker.running, "execution"), counted(len(worker.outbox), "result")
            return f"it is leaving: still running {ending}, still to hand over {owed}"
        if worker.storage_failed:
            return f"it takes no work: {worker.storage_failed}"
        if worker.running:
            jobs = dict.fromkeys(job_id for job_id in worker.running_jobs())
            named = ", ".join(_job(job_id) for job_id in list(jobs)[:3])
            running, slots = counted(worker.running, "execution"), counted(worker.slots, "slot")
            return f"it is not idle: {running} on {slots}, of job {named}"
        reading = roles.heat.reading
        if reading is None:
            return "it runs no tasks for others: no heater of it has said yet what it wants"
        if worker.slots == 0:
            return f"it wants no work: {reading.reason or 'its heat sink wants no heat'}"
        seeking = roles.ctx.reasons.seeking
        sentence = self._told(seeking, now_us)
        refusal = roles.ctx.reasons.last_refusal()
        if refusal is not None and refusal.peer != seeking.peer:
            sentence += f"; {self._told(refusal, now_us)}"
        lifelines = [node for node in roles.thief.lifelines(now_us) if node != roles.ctx.node_id]
        if lifelines:
            at = ", ".join(self._name(node) for node in lifelines)
            sentence += f"; it waits to be given work by {at}"
        if not is_steady(roles.heat.longest_us):
            sentence += f"; its sink takes tasks of at most {roles.heat.longest_us / 1e6:.1f} s now"
        return sentence

    # -- a task ----------------------------------------------------------------------------------------------

    def why_task(self, job_id: bytes, index: int, now_us: int) -> tuple[bool, str]:
        """Why a task waits, as far as this node knows; and whether it is this node that would give it."""
        kept = self._roles.replica.jobs.get(job_id)
        if kept is None:
            return self._elsewhere(job_id, index)
        state = kept.state
        if index >= state.spec.tasks:
            return True, f"there is no such task: the job has {state.spec.tasks}, numbered from 0"
        if state.accepted_tasks.overlap(index, index + 1):
            return True, f"it does not wait: its result is accepted{self._failures(state, index)}"
        if state.done.overlap(index, index + 1):
            left = "has not yet accepted" if state.cancellation is None else "cancelled the job before it accepted"
            return (
                True,
                f"it does not wait: it is done, and its submitter {left} the result{self._failures(state, index)}",
            )
        if state.cancellation is not None:
            return True, "it never runs: the job is cancelled"
        lease = kept.ledger.live.get(index)
        if lease is not None:
            left_s = max(0, lease.expires_at_us - now_us) / 1e6
            return True, (
                f"it is leased to {self._name(lease.holder)}, which runs it or has it in its queue; "
                f"the lease holds {left_s:.1f} s if it is not renewed"
            )
        return self._free(kept, index, now_us)

    def _failures(self, state: JobState, index: int) -> str:
        """What the headers tell of a result: they count failures, and which task failed stands in the columns."""
        key = state.canonical.get(index)
        info = state.batches.get(key.batch_id) if key is not None else None
        if info is None or not info.failed:
            return ""
        if info.failed == info.count:
            return ", and it failed; hearth logs shows why"
        return f", {info.failed} of the {info.count} tasks that came with it failed, and hearth logs shows which"

    def _elsewhere(self, job_id: bytes, index: int) -> tuple[bool, str]:
        roles = self._roles
        if roles.replica.is_fetching(job_id):
            return True, f"it waits for the job's program and inputs: {self._me()} fetches them"
        if roles.worker.holds(job_id, index):
            return True, f"it is in the queue of {self._me()}, or runs there"
        return False, f"{self._me()} does not keep the job"

    def _free(self, kept: KeptJob, index: int, now_us: int) -> tuple[bool, str]:
        roles, state = self._roles, kept.state
        if roles.replica.storage_failed:
            return False, f"{self._me()} cannot give it: {roles.replica.storage_failed}"
        if not kept.level:
            return (
                True,
                f"it is free, but {self._me()} was away, and first hears from the others what was done meanwhile",
            )
        if not roles.replica.gives(kept, index):
            owner = self._controller(state, index)
            return False, f"it is free, and {self._name(owner)} gives it" if owner else "it is free"
        denied = roles.ctx.reasons.denied.get(state.job_id)
        if denied is not None:
            return True, f"it is free: {self._told(denied, now_us)}{self._takers(state)}"
        return True, f"it is free, and nobody that could run it has asked {self._me()} for work{self._takers(state)}"

    def _controller(self, state: JobState, index: int) -> bytes:
        """The living replica in whose section the task is."""
        members = self._roles.members
        for node in state.replicas:
            sections = controlled_sections(
                state.replicas, state.spec.tasks, node, lambda other: not members.is_gone(other)
            )
            if not members.is_gone(node) and any(lo <= index < hi for lo, hi in sections):
                return node
        return b""

    def _takers(self, state: JobState) -> str:
        """Of the nodes known here, how many could run it, and how many of these want heat."""
        roles = self._roles
        rows: list[MemberRecord] = [record.body for record in roles.tables.rows(RecordKind.MEMBER)]
        able = {
            row.node: None
            for row in rows
            if row.roles & Role.WORKER and row.can_run(state.spec) and roles.members.is_alive(row.node)
        }
        wanting = [digest for digest in roles.heat.peers() if digest.node in able and digest.free_slots > 0]
        kind = {"native": "command", "oci": "image"}.get(state.spec.runtime)
        need = f"the {kind} {state.spec.command}" if kind else "WebAssembly"
        runs = "runs" if len(able) == 1 else "run"
        free = f"{len(wanting)} with a free slot"
        return f"; {counted(len(able), 'node')} known there {runs} {need} with its memory, {free}"

    # -- words -----------------------------------------------------------------------------------------------

    def _told(self, decision: Decision, now_us: int) -> str:
        sentence = decision.what
        if decision.peer:
            sentence = sentence.replace("{peer}", self._name(decision.peer))
        if decision.detail:
            sentence += f', because "{decision.detail}"'
        return f"{sentence} ({max(0, now_us - decision.at_us) / 1e6:.1f} s ago)"

    def _name(self, node: bytes) -> str:
        """As people know it; else the end of its peer id, which commands take as well."""
        row = self._roles.tables.get(RecordKind.MEMBER, node)
        return row.body.name if row is not None and row.body.name else peer_id_text(node)[-ID_END_CHARS:]

    def _me(self) -> str:
        """This node; who reads the sentence is elsewhere."""
        return self._name(self._roles.ctx.node_id)


def _job(job_id: bytes) -> str:
    return job_id.hex()[:12]
