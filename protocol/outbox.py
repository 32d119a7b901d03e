"""Finished results until enough replicas have them on disk; what is slow to be acknowledged goes to disk here too.

A result is given up only when it cannot be wanted any more: enough replicas say that the job is over, every replica
says that it can never take this batch, or `owed_ttl_us` has passed. That nobody answers, or that whoever answers does
not know the job, is no reason: the job's replicas of today are asked for, and the result waits for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .context import Context
from .effects import Persist, Reason, Unpersist, UnpinBlobs
from .liveness import Status
from .membership import Membership
from .messages import Delivery, FindJob
from .records import Record, RecordError, RecordKind, open_record

# A row holding a delivery that its worker still owes the replicas: columns, and the signed header.
OWED_COLUMNS_ROW = 103
OWED_HEADER_ROW = 104
# The job was accepted or cancelled, and is forgotten.
OVER = "accepted"
# As much for this batch: the worker gave others of these tasks, which are kept.
SETTLING_REASONS = (OVER, Reason.REPEATED)
# What is wrong with a batch, and will be at the next try.
FINAL_REASONS = ("bad-proof", "not-admitted")
# Who is slow is asked after 1, 2, 4, ... times the retry interval, at most.
BACKOFF_MAX = 16
# After so many tries a batch is stranded: nobody is there to take it, and it does not keep the worker from working.
TRIES_BEFORE_STRANDED = 3
# Members asked for the replicas of a job whose own are not to be had, at each try.
ASKED_FOR_JOB = 16


def output_pin(execution_id: int) -> bytes:
    """Under which an execution's large outputs are pinned until its batch is settled; in this life only."""
    return b"out" + execution_id.to_bytes(8, "big")


@dataclass(slots=True)
class Owed:
    """A batch on its way. acknowledged: replicas that have it on disk.  declined: those that said no, and why.

    made_us: unix time.  tries: how often it was sent in vain.  pin: who holds its large outputs in the blob store.
    """

    header: Record
    delivery: Delivery
    replicas: tuple[bytes, ...]
    made_us: int
    due_us: int
    pin: bytes
    tries: int = 0
    acknowledged: dict[bytes, None] = field(default_factory=dict)
    declined: dict[bytes, str] = field(default_factory=dict)
    persisted: bool = False

    @property
    def job_id(self) -> bytes:
        job_id: bytes = self.header.body.job_id
        return job_id

    @property
    def stranded(self) -> bool:
        return self.tries >= TRIES_BEFORE_STRANDED


class Outbox:
    """Bounded: a full outbox stops the worker from starting tasks.

    At most `outbox_max` batches are on their way; with those that are stranded at most `owed_max`, of `owed_bytes_max`.
    """

    def __init__(self, ctx: Context, members: Membership) -> None:
        self._ctx = ctx
        self._members = members
        self._owed: dict[bytes, Owed] = {}
        self._uncopied: dict[bytes, bytes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._owed)

    def owed(self) -> dict[bytes, bool]:
        """Batches that are not settled; whether they are on this disk."""
        return {batch_id: owed.persisted for batch_id, owed in self._owed.items()}

    def owes(self, job_id: bytes) -> bool:
        return any(owed.job_id == job_id for owed in self._owed.values())

    @property
    def on_the_way(self) -> int:
        """Batches that somebody may be expected to acknowledge soon."""
        return sum(not owed.stranded for owed in self._owed.values())

    @property
    def full(self) -> bool:
        config = self._ctx.config
        if len(self._owed) < config.outbox_max and self._bytes < config.owed_bytes_max:
            return False
        too_many = len(self._owed) >= config.owed_max or self._bytes >= config.owed_bytes_max
        return too_many or self.on_the_way >= config.outbox_max

    def add(self, header: Record, columns: bytes, replicas: tuple[bytes, ...], now_us: int, *, pin: bytes) -> None:
        """Send to the first replica, where submitters follow, and a little later to the others.

        pin: what `output_pin` said.
        """
        delivery = Delivery(header.raw, columns)
        due_us = now_us + self._ctx.config.outbox_retry_us
        self._keep(Owed(header, delivery, replicas, self._ctx.wall_us(now_us), due_us, pin), now_us)
        first = next((node for node in replicas if self._reaches(node)), replicas[0])
        self._ctx.send(first, delivery)
        if len(replicas) > 1:
            if not self._uncopied:
                self._ctx.set_timer(("copies", b""), now_us + self._ctx.config.copy_delay_us)
            self._uncopied[header.id] = first

    def made(self, execution_id: int) -> Record | None:
        """The batch that an execution ended in, if it was the last one and is not settled yet."""
        last = next(reversed(self._owed.values()), None)
        return last.header if last is not None and last.pin == output_pin(execution_id) else None

    def _reaches(self, node: bytes) -> bool:
        return node == self._ctx.node_id or self._members.is_alive(node)

    def send_copies(self) -> None:
        """The other replicas get what the first one was sent."""
        uncopied, self._uncopied = self._uncopied, {}
        for batch_id, first in uncopied.items():
            owed = self._owed.get(batch_id)
            if owed is None:
                continue
            for node in owed.replicas:
                if node != first:
                    self._ctx.send(node, owed.delivery)

    def restore(self, row: bytes, columns: bytes, now_us: int) -> None:
        """An owed-header row of the last life: deliver it again at the next retry. Its outputs are pinned by its id."""
        try:
            made_us, replicas, header_raw = self.split_row(row)
            header = open_record(header_raw, check_signature=False)
        except RecordError as error:
            self._ctx.notify("outbox.row-ignored", reason=error.reason)
            return
        if header.kind is not RecordKind.BATCH:
            self._ctx.notify("outbox.row-ignored", reason="malformed")
            return
        due_us = now_us + self._ctx.config.outbox_retry_us
        owed = Owed(header, Delivery(header_raw, columns), replicas, made_us, due_us, header.id, persisted=True)
        self._keep(owed, now_us)

    def _keep(self, owed: Owed, now_us: int) -> None:
        """Also one that is owed already: replicas that cannot talk may have a task run twice under one epoch, and both
        runs may come to the same batch."""
        if not self._owed:
            self._arm(now_us)
        before = self._owed.pop(owed.header.id, None)
        if before is not None:
            self._bytes -= len(before.delivery.columns)
            owed.persisted = before.persisted
            if before.pin != owed.pin:
                self._ctx.emit(UnpinBlobs(before.pin))
        self._owed[owed.header.id] = owed
        self._bytes += len(owed.delivery.columns)

    def _arm(self, now_us: int) -> None:
        self._ctx.set_timer(("outbox", b""), now_us + self._ctx.config.outbox_retry_us)

    # -- answers -----------------------------------------------------------------------------------------

    def on_stored(self, peer: bytes, batch_ids: tuple[bytes, ...]) -> None:
        for batch_id in batch_ids:
            owed = self._owed.get(batch_id)
            if owed is None or peer not in owed.replicas:
                continue
            owed.acknowledged[peer] = None
            owed.declined.pop(peer, None)
            if self._is_kept(owed):
                self._settle(owed)

    def on_declined(self, peer: bytes, batch_id: bytes, reason: str) -> None:
        owed = self._owed.get(batch_id)
        if owed is None or peer not in owed.replicas:
            return
        owed.declined[peer] = reason
        hopeless = all(owed.declined.get(node) in FINAL_REASONS for node in owed.replicas)
        if hopeless or self._is_kept(owed):
            self._give_up(owed, reason)

    def _is_kept(self, owed: Owed) -> bool:
        """Whether enough replicas have it on disk, or had the whole job and have put it away, or need it no more."""
        enough = min(self._ctx.config.durable_replicas, len(owed.replicas))
        settling = [node for node, reason in owed.declined.items() if reason in SETTLING_REASONS]
        return len({**owed.acknowledged, **dict.fromkeys(settling)}) >= enough

    def _give_up(self, owed: Owed, reason: str) -> None:
        self._ctx.notify("outbox.given-up", job_id=owed.job_id, reason=reason)
        self._settle(owed)

    def _settle(self, owed: Owed) -> None:
        del self._owed[owed.header.id]
        self._bytes -= len(owed.delivery.columns)
        self._ctx.emit(UnpinBlobs(owed.pin))
        if owed.persisted:
            self._ctx.emit(Unpersist(owed.job_id, OWED_HEADER_ROW, owed.header.id))
            self._ctx.emit(Unpersist(owed.job_id, OWED_COLUMNS_ROW, owed.header.id))
        if not self._owed:
            self._ctx.cancel_timer(("outbox", b""))

    # -- replicas ----------------------------------------------------------------------------------------

    def change_replicas(self, job_id: bytes, replicas: tuple[bytes, ...], now_us: int) -> None:
        """The job has another replica set: those that are new get what is owed.

        Who lost its seat was dead: its word counts no more, and if it has one again, it is asked anew.
        """
        for owed in list(self._owed.values()):
            if owed.job_id != job_id or owed.replicas == replicas:
                continue
            for node in replicas:
                if node not in owed.replicas and owed.header.id not in self._uncopied:
                    self._ctx.send(node, owed.delivery)
            owed.replicas = replicas
            owed.acknowledged = {node: None for node in owed.acknowledged if node in replicas}
            owed.declined = {node: reason for node, reason in owed.declined.items() if node in replicas}
            if self._is_kept(owed):
                # The set has fewer members.
                self._settle(owed)
            elif owed.persisted:
                # Another life is to start from who keeps the job now.
                self._persist_header(owed)

    def on_alive(self, node: bytes, now_us: int) -> None:
        """A node came back: what waits for it is sent at the next retry."""
        for owed in self._owed.values():
            if node in owed.replicas and node not in owed.acknowledged:
                owed.tries, owed.due_us = 0, now_us

    def retry(self, now_us: int) -> None:
        """Send again to those that did not answer in time; keep a copy on disk meanwhile."""
        half_us = self._ctx.config.outbox_retry_us // 2
        wanted: dict[bytes, None] = {}
        for owed in list(self._owed.values()):
            if owed.due_us > now_us + half_us:
                continue
            if self._ctx.wall_us(now_us) - owed.made_us > self._ctx.config.owed_ttl_us:
                self._give_up(owed, "too-old")
                continue
            if not owed.persisted:
                self._persist(owed)
            owed.tries += 1
            owed.due_us = now_us + min(1 << (owed.tries - 1), BACKOFF_MAX) * self._ctx.config.outbox_retry_us
            asked = self._send_again(owed)
            if not asked:
                wanted[owed.job_id] = None
        for job_id in wanted:
            self._find(job_id)
        if self._owed:
            self._arm(now_us)

    def keepers(self) -> dict[bytes, None]:
        """Replicas that are owed results."""
        return {node: None for owed in self._owed.values() for node in owed.replicas}

    def _send_again(self, owed: Owed) -> int:
        """Returns how many replicas there are of which something can be hoped."""
        hopeful = 0
        for node in owed.replicas:
            if node in owed.acknowledged or owed.declined.get(node) in FINAL_REASONS:
                continue
            if not self._members.is_gone(node):
                self._ctx.send(node, owed.delivery)
                known = self._members.is_alive(node)
                # Of a keeper of another cell nobody tells how it is: that shows in whether it answers.
                awaited = self._members.status(node) in (None, Status.UNKNOWN) and not owed.stranded
                hopeful += (known or awaited) and owed.declined.get(node) != "unknown-job"
        return hopeful

    def _find(self, job_id: bytes) -> None:
        """Others may keep the job by now: ask around. The answers are `FoundJobs`, with the path to its newest set."""
        for node in self._ctx.sample(self._members.alive(), ASKED_FOR_JOB):
            self._ctx.send(node, FindJob(self._ctx.next_request(), job_id))

    # -- the disk ----------------------------------------------------------------------------------------

    def _persist(self, owed: Owed) -> None:
        owed.persisted = True
        self._persist_header(owed)
        self._ctx.emit(Persist(owed.job_id, OWED_COLUMNS_ROW, owed.header.id, owed.delivery.columns))

    def _persist_header(self, owed: Owed) -> None:
        replicas = b"".join(owed.replicas)
        body = owed.made_us.to_bytes(8, "big") + len(owed.replicas).to_bytes(1, "big") + replicas + owed.header.raw
        self._ctx.emit(Persist(owed.job_id, OWED_HEADER_ROW, owed.header.id, body))

    def flush(self, now_us: int) -> None:
        """Everything once more, for a node that is about to leave."""
        self._uncopied.clear()
        for owed in self._owed.values():
            if not owed.persisted:
                self._persist(owed)
            for node in owed.replicas:
                if node not in owed.acknowledged:
                    self._ctx.send(node, owed.delivery)

    @staticmethod
    def split_row(body: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
        """(unix microseconds when it was made, replicas, header) of an owed-header row. Raises RecordError."""
        if len(body) < 9 or len(body) < 9 + 32 * body[8]:
            raise RecordError("malformed", "a row that is too short")
        made_us, count = int.from_bytes(body[:8], "big"), body[8]
        nodes = tuple(body[9 + 32 * at : 41 + 32 * at] for at in range(count))
        return made_us, nodes, body[9 + 32 * count :]
