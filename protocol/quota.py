"""What one submitter may have in flight at one node: jobs, tasks, bytes, CPU time.

A node counts what it keeps itself. A job has three replicas, so a submitter that spreads its jobs gets its quota a
third as often as there are nodes; the narrower of the certificate's quota and the owner's counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..crypto.certificates import CertificateError, Quota, Role
from .config import ProtocolConfig
from .context import Context
from .jobs import JobState
from .records import JobSpec, Record

SECOND_US = 1_000_000
# Of a comparator of the submitter's own; its size is not declared.
COMPARATOR_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class InFlight:
    """tasks: without a result.  bytes: of specs, programs and inputs.  cpu_us: of these tasks, as far as known."""

    jobs: int = 0
    tasks: int = 0
    bytes: int = 0
    cpu_us: int = 0

    def __add__(self, other: InFlight) -> InFlight:
        return InFlight(
            self.jobs + other.jobs, self.tasks + other.tasks, self.bytes + other.bytes, self.cpu_us + other.cpu_us
        )

    def __sub__(self, other: InFlight) -> InFlight:
        return self + InFlight(-other.jobs, -other.tasks, -other.bytes, -other.cpu_us)


NOTHING = InFlight()


def of_new(spec: Record) -> InFlight:
    """A job of which nothing is done yet."""
    body: JobSpec = spec.body
    return InFlight(1, body.tasks, declared_bytes(spec), body.tasks * body.estimate_us)


def of_kept(state: JobState) -> InFlight:
    """A settled job counts as a job only."""
    if not state.open:
        return InFlight(1)
    tasks = state.spec.tasks - state.done.total
    return InFlight(1, tasks, declared_bytes(state.spec_record), tasks * state.task_us)


def declared_bytes(spec: Record) -> int:
    """What a job takes on a replica's disk before it has any result. No more of a blob is ever fetched."""
    return len(spec.raw) + sum(declared_sizes(spec.body).values())


def declared_sizes(spec: JobSpec) -> dict[bytes, int]:
    """The most that each blob may have."""
    declared = [(ref.digest, ref.size_bytes) for ref in spec.files]
    declared += [(pack.digest, pack.size_bytes) for pack in spec.packs]
    if spec.ships_program:
        declared.append((spec.program, spec.program_bytes))
    if module := spec.comparator_module():
        declared.append((module, COMPARATOR_BYTES_MAX))
    sizes: dict[bytes, int] = {}
    for digest, size_bytes in declared:
        sizes[digest] = max(size_bytes, sizes.get(digest, 0))
    return sizes


@dataclass(slots=True)
class _Account:
    """Of one submitter. jobs: what each counts for in `total`.  changed: those that are to be counted anew."""

    total: InFlight = NOTHING
    jobs: dict[bytes, InFlight] = field(default_factory=dict)
    changed: dict[bytes, JobState] = field(default_factory=dict)


class Accounts:
    """What each submitter has in flight here, of the jobs that are kept.

    A question costs what changed of the submitter's own jobs since the last one, not all jobs that there are.
    """

    def __init__(self) -> None:
        self._accounts: dict[bytes, _Account] = {}

    def touch(self, state: JobState) -> None:
        """The job is new, or its state changed."""
        account = self._accounts.get(state.submitter)
        if account is None:
            account = self._accounts[state.submitter] = _Account()
        account.changed[state.job_id] = state

    def drop(self, state: JobState) -> None:
        """The job is not kept any more."""
        account = self._accounts.get(state.submitter)
        if account is None:
            return
        account.changed.pop(state.job_id, None)
        account.total -= account.jobs.pop(state.job_id, NOTHING)
        if not (account.jobs or account.changed):
            del self._accounts[state.submitter]

    def of(self, submitter: bytes) -> InFlight:
        account = self._accounts.get(submitter)
        if account is None:
            return NOTHING
        changed, account.changed = account.changed, {}
        for job_id, state in changed.items():
            counts = of_kept(state)
            account.total += counts - account.jobs.get(job_id, NOTHING)
            account.jobs[job_id] = counts
        return account.total

    def jobs_of(self, submitter: bytes) -> list[bytes]:
        account = self._accounts.get(submitter)
        return list(account.jobs | account.changed) if account is not None else []


def own_quota(config: ProtocolConfig) -> Quota:
    """What the node's owner allows each submitter."""
    return Quota(config.submitter_tasks_max, config.submitter_bytes_max, config.submitter_cpu_s_max)


def excess(held: InFlight, spec: Record, quota: Quota, jobs_max: int) -> str:
    """Why one job more is too much, for its submitter; empty if it is not."""
    wanted = held + of_new(spec)
    for what, amount, most in (
        ("jobs", wanted.jobs, jobs_max),
        ("tasks", wanted.tasks, quota.tasks),
        ("bytes", wanted.bytes, quota.bytes),
        ("CPU seconds", wanted.cpu_us // SECOND_US, quota.cpu_s),
    ):
        if most and amount > most:
            return f"over this submitter's quota here: {amount:,} {what} in flight with this job, at most {most:,}"
    return ""


class Submitters:
    """Judges who may have jobs here, by the certificates in their specs."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def refusal(self, spec: Record, now_us: int) -> str:
        """Why the spec's author may not have a job here now; empty if it may."""
        try:
            self._ctx.check(spec.body.certificate, spec.author, Role.SUBMITTER, now_us)
        except CertificateError as error:
            return f"the submitter's certificate: {error}"
        return ""

    def quota(self, spec: Record, now_us: int) -> Quota:
        """The narrower of the certificate's and the owner's; of a spec that is not refused."""
        own = own_quota(self._ctx.config)
        try:
            return self._ctx.check(spec.body.certificate, spec.author, Role.SUBMITTER, now_us).quota.within(own)
        except CertificateError:
            return own
