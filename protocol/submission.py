"""A client's submission of a job: signed, placed on replicas, sent, repeated, and given up with a reason.

The layer below `submitter`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ..crypto.certificates import Role
from ..crypto.sharing import HOLDERS_NEEDED
from .context import Context
from .jobs import JobState
from .membership import Membership
from .messages import ShareGiven, Submit, Submitted
from .own_job import OwnJob
from .placement import Candidate, candidates_from, choose_replicas, replacement
from .quota import declared_sizes
from .records import JobSpec, RecordKind, ReplicaSet, job_id_of, sign_record
from .secrecy.keys import share_for
from .tables import Tables
from .verification.judging import Judging, unknown_rules

SUBMIT_ATTEMPTS_MAX = 5


class Submission:
    """See the module. jobs: this client's, by id."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, judging: Judging) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._judging = judging
        self.jobs: dict[bytes, OwnJob] = {}
        self._put_off: dict[bytes, None] = {}

    def _submit(self, spec: JobSpec, now_us: int, at_once: int) -> OwnJob | None:
        """Sign, place and send; None if it was rejected. at_once: replicas that are told before the others."""
        shown = replace(spec, certificate=self._ctx.certificate)
        record = sign_record(self._ctx.identity, RecordKind.SPEC, shown)
        job_id = job_id_of(record)
        own = self.jobs.get(job_id)
        if own is None:
            own = OwnJob(JobState(record))
            self.jobs[job_id] = own
        self._ctx.notify("job.signed", job_id=job_id, raw=record.raw, spec=spec)
        if own.durable and not own.found:
            self._notify_submitted(own)
            return own
        if own.found:
            own.durable, own.attempts = False, 0
            own.suspects.clear()
            own.asked_us.clear()
        problem, about = unknown_rules(spec), "rules"
        if not problem:
            problem, about = self._unfit(spec)
        if problem:
            self._reject(own, problem, about)
            return None
        # Of a job that was found who keeps it is known, if nobody else is yet.
        known = choose_replicas(job_id, self._candidates(now_us), self._ctx.config.replicas)
        chosen = known or list(own.state.replicas)
        if not chosen:
            self._reject(own, "no reachable node keeps jobs (role replica); is the mesh up?")
            return None
        if spec.secrecy is not None and len(chosen) < HOLDERS_NEEDED:
            self._reject(own, f"a confidential job's key is shared among {HOLDERS_NEEDED} replicas or more; one is up")
            return None
        if spec.secrecy is not None and not self._leaves_a_worker(spec, chosen):
            self._reject(
                own, "who keeps a confidential job may not run it, and no other node can: it takes more workers"
            )
            return None
        newest = own.state.replica_record
        if newest is None:
            self._place(own, tuple(chosen), ())
        elif newest.author != self._ctx.node_id:
            # Replicas take a submission with a set that its submitter signed.
            self._place(own, newest.body.members, newest.body.former)
        self._send_submission(own, own.state.replicas, now_us, at_once)
        return own

    def _leaves_a_worker(self, spec: JobSpec, replicas: Sequence[bytes]) -> bool:
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        return any(row.roles & Role.WORKER and row.can_run(spec) and row.node not in replicas for row in rows)

    def _unfit(self, spec: JobSpec) -> tuple[str, str]:
        """Why no known worker can run the job, and the spec's field; empty if one can, or if none is known yet."""
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        workers = [row for row in rows if row.roles & Role.WORKER]
        if not workers or any(row.can_run(spec) for row in workers):
            return "", ""
        if spec.runtime != "wasm" and not any(spec.command in row.commands for row in workers):
            is_image = spec.runtime == "oci"
            allowed = sorted(
                {each for row in workers for each in row.commands if each.startswith("sha256:") is is_image}
            )
            what = "image" if is_image else "command"
            return (
                f'no node of {len(workers)} allows the {what} "{spec.command}"; '
                f"allowed are: {', '.join(allowed) or 'none'}"
            ), "command"
        if spec.secrecy is not None and not any(spec.secrecy.clears(row.node, row.certificate) for row in workers):
            return f"no node of {len(workers)} has the owner, classes and record that the job asks for", "secrecy"
        most = max(row.memory_bytes for row in workers)
        return (
            f"a task may need {spec.limits.memory_bytes >> 20} MiB, and no node of {len(workers)} gives more than "
            f"{most >> 20} MiB; lower limits.memory_mb"
        ), "limits.memory_bytes"

    def _candidates(self, now_us: int) -> list[Candidate]:
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        alive = [row for row in rows if self._members.is_alive(row.node) and not self._judging.distrusts(row.node)]
        return list(candidates_from(alive, self._ctx.wall_us(now_us) // 1_000_000))

    def _place(self, own: OwnJob, members: tuple[bytes, ...], former: tuple[bytes, ...]) -> None:
        body = ReplicaSet(own.state.job_id, own.state.replica_epoch + 1, members, former)
        own.state.merge(sign_record(self._ctx.identity, RecordKind.REPLICA_SET, body))

    def _send_submission(self, own: OwnJob, nodes: tuple[bytes, ...], now_us: int, at_once: int) -> None:
        """In the order of ranks; at the first attempt, those beyond `at_once` a little later than the others."""
        awaited = nodes if own.attempts else nodes[:at_once]
        own.attempts += 1
        own.uncopied = nodes[len(awaited) :]
        if own.uncopied:
            self._do_later(own, now_us)
        self._send_submit(own, awaited, now_us)
        self._ctx.set_timer(("submit", own.state.job_id), now_us + self._ctx.config.submit_timeout_us)

    def _send_submit(self, own: OwnJob, nodes: tuple[bytes, ...], now_us: int) -> None:
        assert own.state.replica_record is not None
        for node in nodes:
            own.asked_us.setdefault(node, now_us)
            request = self._ctx.next_request()
            own.requests[request] = node
            share = self._share(own, node)
            self._ctx.send(node, Submit(request, own.state.spec_record.raw, own.state.replica_record.raw, share))

    def _share(self, own: OwnJob, node: bytes) -> bytes:
        """The node's share of the key; empty if the job has none."""
        if own.state.spec.secrecy is None:
            return b""
        own.given[node] = None
        return share_for(self._ctx, own.state.job_id, own.state.spec, node)

    def _give_shares(self, own: OwnJob) -> None:
        """Replicas that took a seat while this client was away may have none; who has one keeps that."""
        if own.state.spec.secrecy is not None:
            for node in own.state.replicas:
                if node not in own.given:
                    self._ctx.send(node, ShareGiven(own.state.job_id, self._share(own, node)))

    def _do_later(self, own: OwnJob, now_us: int) -> None:
        """What nobody waits for lets pass what somebody waits for."""
        if not self._put_off:
            self._ctx.set_timer(("later", b""), now_us + self._ctx.config.copy_delay_us)
        self._put_off[own.state.job_id] = None

    def on_submitted(self, peer: bytes, message: Submitted, now_us: int) -> None:
        own = self.jobs.get(message.job_id)
        if own is None or own.requests.pop(message.request, None) != peer:
            return
        own.stored_by[peer] = None
        held = [node for node in own.state.replicas if node in own.stored_by]
        needed = min(self._ctx.config.durable_replicas, len(own.state.replicas))
        if own.state.spec.secrecy is not None:
            # Of two shares none may be lost; a third can be made of them only while there are two.
            needed = len(own.state.replicas)
        if not own.durable and len(held) >= needed:
            own.durable, own.found = True, False
            self._notify_submitted(own)
        if len(held) == len(own.state.replicas):
            self._ctx.cancel_timer(("submit", message.job_id))

    def _notify_submitted(self, own: OwnJob) -> None:
        held = tuple(node for node in own.state.replicas if node in own.stored_by)
        self._ctx.notify("job.submitted", job_id=own.state.job_id, replicas=own.state.replicas, stored_by=held)

    def _replace(self, own: OwnJob, node: bytes, reason: str, now_us: int) -> None:
        members = own.state.replicas
        if node not in members:
            return
        successor = None
        if own.attempts < SUBMIT_ATTEMPTS_MAX:
            own.suspects[node] = None
            candidates = [c for c in self._candidates(now_us) if c.node not in own.suspects]
            successor = replacement(own.state.job_id, members, node, candidates)
        kept = tuple(member if member != node else successor for member in members if member != node or successor)
        if successor is None and len(kept) < self._ctx.config.durable_replicas:
            if not own.durable and not own.requests:
                self._reject(own, reason)
            return
        # A member that does not keep the job must not control a section of it, even if nobody can take its place.
        former = (*own.state.replica_record.body.former, node) if own.state.replica_record else (node,)
        self._place(own, tuple(member for member in kept if member is not None), former)
        self._send_submission(own, own.state.replicas, now_us, len(own.state.replicas))

    def _reject(self, own: OwnJob, reason: str, about: str = "") -> None:
        """about: the field of the spec that is refused, "rules" for verification and comparator."""
        self._ctx.notify("job.rejected", job_id=own.state.job_id, reason=reason, about=about)
        self._ctx.cancel_timer(("submit", own.state.job_id))
        if own.found:
            own.durable = True
        elif not own.durable:
            self.jobs.pop(own.state.job_id, None)

    def _submission_timeout(self, job_id: bytes, now_us: int) -> None:
        own = self.jobs.get(job_id)
        if own is None:
            return
        silent = [node for node in own.state.replicas if node not in own.stored_by]
        own.requests.clear()
        if own.durable or not silent:
            return
        gone = next((node for node in silent if self._members.is_gone(node)), None)
        mute = next((node for node in silent if self._has_had_its_time(own, node, now_us)), None)
        if gone is not None:
            self._replace(own, gone, "the replica is gone", now_us)
        elif mute is not None:
            self._replace(own, mute, "the replicas did not answer in time", now_us)
        else:
            # Uploads may take longer than the timeout: ask again.
            self._send_submission(own, tuple(silent), now_us, len(silent))
            own.attempts -= 1

    def _has_had_its_time(self, own: OwnJob, node: bytes, now_us: int) -> bool:
        """Whether even a slow upload would be over since it was asked first."""
        config, size_bytes = self._ctx.config, sum(declared_sizes(own.state.spec).values())
        patience_us = config.submit_patience_us + size_bytes * 1_000_000 // config.upload_bytes_s_min
        return now_us - own.asked_us.get(node, now_us) >= patience_us
