"""What one submitter may have in flight at one node: jobs, tasks, bytes, CPU time.

A node counts what it keeps itself. A job has three replicas, so a submitter that spreads its jobs gets its quota a
third as often as there are nodes; the narrower of the certificate's quota and the owner's counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..crypto.certificates import CertificateError, Quota, Role
from .config import ProtocolConfig
from .context import Context
from .jobs import JobState
from .records import JobSpec, Record

SECOND_US = 1_000_000
# Of a comparator of the submitter's own; its size is not declared.
COMPARATOR_BYTES_MAX = 1 << 20


@dataclass(slots=True)
class InFlight:
    """tasks: without a result.  bytes: of specs, programs and inputs.  cpu_us: of these tasks, as far as known."""

    jobs: int = 0
    tasks: int = 0
    bytes: int = 0
    cpu_us: int = 0

    def add(self, spec: Record, tasks: int, task_us: int) -> None:
        self.tasks += tasks
        self.bytes += declared_bytes(spec)
        self.cpu_us += tasks * task_us


def declared_bytes(spec: Record) -> int:
    """What a job takes on a replica's disk before it has any result. No more of a blob is ever fetched."""
    return len(spec.raw) + sum(declared_sizes(spec.body).values())


def declared_sizes(spec: JobSpec) -> dict[bytes, int]:
    """The most that each blob may have."""
    declared = [(ref.digest, ref.size_bytes) for ref in spec.files]
    declared += [(pack.digest, pack.size_bytes) for pack in spec.packs]
    if spec.runtime == "wasm":
        declared.append((spec.program, spec.program_bytes))
    if module := spec.comparator_module():
        declared.append((module, COMPARATOR_BYTES_MAX))
    sizes: dict[bytes, int] = {}
    for digest, size_bytes in declared:
        sizes[digest] = max(size_bytes, sizes.get(digest, 0))
    return sizes


def in_flight(states: Iterable[JobState], pending: Iterable[Record], submitter: bytes) -> InFlight:
    """Of one submitter. pending: specs whose blobs are still coming. A settled job counts as a job only."""
    found = InFlight()
    for state in states:
        if state.submitter == submitter:
            found.jobs += 1
            if state.open:
                found.add(state.spec_record, state.spec.tasks - state.done.total, state.task_us)
    for spec in pending:
        if spec.author == submitter:
            found.jobs += 1
            found.add(spec, spec.body.tasks, spec.body.estimate_us)
    return found


def own_quota(config: ProtocolConfig) -> Quota:
    """What the node's owner allows each submitter."""
    return Quota(config.submitter_tasks_max, config.submitter_bytes_max, config.submitter_cpu_s_max)


def excess(held: InFlight, spec: Record, quota: Quota, jobs_max: int) -> str:
    """Why one job more is too much, for its submitter; empty if it is not."""
    wanted = InFlight(held.jobs + 1, held.tasks, held.bytes, held.cpu_us)
    wanted.add(spec, spec.body.tasks, spec.body.estimate_us)
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
