"""Finished results until enough replicas have them on disk; what is slow to be acknowledged goes to disk here too."""

from __future__ import annotations

from dataclasses import dataclass, field

from .context import Context
from .effects import Persist, Unpersist, UnpinBlobs
from .membership import Membership
from .messages import Delivery
from .records import Record, open_record

# A row holding a delivery that its worker still owes the replicas: columns, and the signed header.
OWED_COLUMNS_ROW = 103
OWED_HEADER_ROW = 104
FINAL_REASONS = ("accepted", "unknown-job", "bad-proof", "not-admitted", "too-many")


def output_pin(execution_id: int) -> bytes:
    """Under which an execution's large outputs are pinned until its batch is settled; in this life only."""
    return b"out" + execution_id.to_bytes(8, "big")


@dataclass(slots=True)
class Owed:
    """A batch on its way. acknowledged: replicas that have it on disk.  declined: those that said no, and why.

    pin: who holds its large outputs in the blob store.
    """

    header: Record
    delivery: Delivery
    replicas: tuple[bytes, ...]
    sent_us: int
    pin: bytes
    acknowledged: dict[bytes, None] = field(default_factory=dict)
    declined: dict[bytes, str] = field(default_factory=dict)
    persisted: bool = False


class Outbox:
    """Bounded by `outbox_max`: a full outbox stops the worker from starting tasks."""

    def __init__(self, ctx: Context, members: Membership) -> None:
        self._ctx = ctx
        self._members = members
        self._owed: dict[bytes, Owed] = {}

    def __len__(self) -> int:
        return len(self._owed)

    def owed(self) -> dict[bytes, bool]:
        """Batches that are not settled; whether they are on this disk."""
        return {batch_id: owed.persisted for batch_id, owed in self._owed.items()}

    @property
    def full(self) -> bool:
        return len(self._owed) >= self._ctx.config.outbox_max

    def add(self, header: Record, columns: bytes, replicas: tuple[bytes, ...], now_us: int, *, pin: bytes) -> None:
        """Send to all replicas at once. pin: what `output_pin` said."""
        delivery = Delivery(header.raw, columns)
        owed = Owed(header, delivery, replicas, now_us, pin)
        if not self._owed:
            self._arm(now_us)
        self._owed[header.id] = owed
        for node in replicas:
            self._ctx.send(node, delivery)

    def restore(self, header_raw: bytes, columns: bytes, replicas: tuple[bytes, ...], now_us: int) -> None:
        """A row of the last life: deliver it again at the next retry. Its outputs are pinned under its id."""
        header = open_record(header_raw, check_signature=False)
        if not self._owed:
            self._arm(now_us)
        self._owed[header.id] = Owed(header, Delivery(header_raw, columns), replicas, now_us, header.id, persisted=True)

    def _arm(self, now_us: int) -> None:
        self._ctx.set_timer(("outbox", b""), now_us + self._ctx.config.outbox_retry_us)

    def on_stored(self, peer: bytes, batch_ids: tuple[bytes, ...]) -> None:
        for batch_id in batch_ids:
            owed = self._owed.get(batch_id)
            if owed is None or peer not in owed.replicas:
                continue
            owed.acknowledged[peer] = None
            enough = min(self._ctx.config.durable_replicas, len(owed.replicas))
            if len(owed.acknowledged) >= enough:
                self._settle(owed)

    def on_declined(self, peer: bytes, batch_id: bytes, reason: str) -> None:
        """Nobody is left who could still take it: the job was accepted, or is known to no living replica."""
        owed = self._owed.get(batch_id)
        if owed is None or peer not in owed.replicas:
            return
        owed.declined[peer] = reason
        if reason == "accepted" or all(self._is_final(owed, node) for node in owed.replicas):
            self._ctx.notify("outbox.given-up", job_id=owed.header.body.job_id, reason=reason)
            self._settle(owed)

    def _is_final(self, owed: Owed, node: bytes) -> bool:
        """Whether there is nothing more to hope for from a replica."""
        if node in owed.acknowledged or owed.declined.get(node) in FINAL_REASONS:
            return True
        return node != self._ctx.node_id and not self._members.is_alive(node)

    def _settle(self, owed: Owed) -> None:
        del self._owed[owed.header.id]
        self._ctx.emit(UnpinBlobs(owed.pin))
        if owed.persisted:
            job_id = owed.header.body.job_id
            self._ctx.emit(Unpersist(job_id, OWED_HEADER_ROW, owed.header.id))
            self._ctx.emit(Unpersist(job_id, OWED_COLUMNS_ROW, owed.header.id))
        if not self._owed:
            self._ctx.cancel_timer(("outbox", b""))

    def change_replicas(self, job_id: bytes, replicas: tuple[bytes, ...], now_us: int) -> None:
        """The job has another replica set: those that are new get what is owed."""
        for owed in self._owed.values():
            if owed.header.body.job_id != job_id:
                continue
            for node in replicas:
                if node not in owed.replicas:
                    self._ctx.send(node, owed.delivery)
            owed.replicas = replicas

    def retry(self, now_us: int) -> None:
        """Send again to those that did not answer in time; keep a copy on disk meanwhile."""
        due_us = now_us - self._ctx.config.outbox_retry_us // 2
        for owed in self._owed.values():
            if owed.sent_us > due_us:
                continue
            if not owed.persisted:
                self._persist(owed)
            owed.sent_us = now_us
            for node in owed.replicas:
                if node not in owed.acknowledged and self._members.is_alive(node):
                    self._ctx.send(node, owed.delivery)
        if self._owed:
            self._arm(now_us)

    def _persist(self, owed: Owed) -> None:
        owed.persisted = True
        header = owed.header
        replicas = b"".join(owed.replicas)
        body = len(owed.replicas).to_bytes(1, "big") + replicas + header.raw
        self._ctx.emit(Persist(header.body.job_id, OWED_HEADER_ROW, header.id, body))
        self._ctx.emit(Persist(header.body.job_id, OWED_COLUMNS_ROW, header.id, owed.delivery.columns))

    def flush(self, now_us: int) -> None:
        """Everything once more, for a node that is about to leave."""
        for owed in self._owed.values():
            if not owed.persisted:
                self._persist(owed)
            for node in owed.replicas:
                if node not in owed.acknowledged:
                    self._ctx.send(node, owed.delivery)

    @staticmethod
    def split_row(body: bytes) -> tuple[tuple[bytes, ...], bytes]:
        """(replicas, header) of an owed-header row that this node wrote."""
        count = body[0]
        nodes = tuple(body[1 + 32 * at : 33 + 32 * at] for at in range(count))
        return nodes, body[1 + 32 * count :]
