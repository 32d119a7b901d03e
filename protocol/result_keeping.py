"""What a replica takes of workers: results, checked against their signed roots; it says which are on its disk."""

from __future__ import annotations

from dataclasses import dataclass

from ..crypto.certificates import CertificateReason, Role
from .batches import BatchError, check_batch
from .context import Context
from .effects import FetchBlobs, Persist, Reason, Unpersist
from .job_parts import RejectedRecord
from .kept_job import KeptJob
from .limits import Limit, has_share
from .membership import Membership
from .messages import Declined, Delivery, Stored, Want
from .records import Record, RecordKind
from .tables import Tables
from .upkeep import Upkeep

# Rows on disk that are not records: a batch's columns; the mark of a forgotten job is `FORGOTTEN_ROW`.
COLUMNS_ROW = 101
STORED_A_MESSAGE_MAX = 256
# To one node of one job, at one time.
UNACKNOWLEDGED_MAX = 4096
# Batches whose large outputs are still coming; above, an even share of each worker's.
FETCHING_MAX = 256


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A delivery whose large outputs are still coming."""

    header: Record
    delivery: Delivery
    sender: bytes


class ResultKeeper(Upkeep):
    """Half of the replica's sub-machine; the other half is `Replica`."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        super().__init__(ctx, members, tables)
        self._pending_batches: dict[bytes, PendingBatch] = {}
        self._unacknowledged: dict[tuple[bytes, bytes], dict[bytes, None]] = {}

    def on_delivery(self, peer: bytes, message: Delivery, header: Record, now_us: int) -> None:
        """Check a batch against its signed root, then keep it. The signature was checked by the caller."""
        job_id = header.body.job_id
        kept = self.jobs.get(job_id)
        if kept is None:
            reason = "accepted" if job_id in self._forgotten else Reason.UNKNOWN_JOB
            self._ctx.send(peer, Declined(job_id, header.id, reason))
            return
        if header.id in kept.state.batches:
            self._ctx.send(peer, Stored(job_id, (header.id,)))
            return
        if peer == header.author and peer in self._ctx.convicted:
            # What other replicas took before stays: they all have to keep the same.
            self._ctx.send(peer, Declined(job_id, header.id, Reason.NOT_ADMITTED))
            return
        if self.storage_failed:
            self._ctx.send(peer, Declined(job_id, header.id, Reason.DISK_FULL))
            return
        if not kept.has_room(header, self._ctx.config.records_per_job_max):
            self._ctx.limit(Limit.RECORDS_A_JOB, peer)
            self._ctx.send(peer, Declined(job_id, header.id, Reason.TOO_MANY))
            return
        if self._declines_repeat(kept, header, peer):
            return
        if refused := self._ctx.refusal(peer, header.body.certificate, header.author, Role.WORKER, now_us):
            if refused is not CertificateReason.NOT_YET_VALID:
                # Else it is offered again, and this node's clock may be right by then.
                self._ctx.send(peer, Declined(job_id, header.id, Reason.NOT_ADMITTED))
            return
        try:
            if header.body.copy:
                kept.state.check_copy(header)
            batch = check_batch(header.body, message.columns)
        except (BatchError, RejectedRecord):
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            self._ctx.send(peer, Declined(job_id, header.id, Reason.BAD_PROOF))
            return
        if batch.externals:
            self._fetch_outputs(header, message, peer, batch.externals)
            return
        self._store(header, message, peer, now_us)

    def _fetch_outputs(
        self, header: Record, message: Delivery, peer: bytes, externals: dict[int, tuple[bytes, int]]
    ) -> None:
        if header.id in self._pending_batches:
            return
        if not has_share(header.author, (each.header.author for each in self._pending_batches.values()), FETCHING_MAX):
            self._ctx.limit(Limit.BATCHES_FETCHING, peer)
            self._ctx.send(peer, Declined(header.body.job_id, header.id, Reason.TOO_MANY))
            return
        self._pending_batches[header.id] = PendingBatch(header, message, peer)
        digests = tuple(dict.fromkeys(digest for digest, _ in externals.values()))
        sources = tuple(dict.fromkeys((peer, header.author)))
        self._ctx.emit(FetchBlobs(header.id, digests, sources, pin=header.body.job_id))

    def _outputs_fetched(self, token: bytes, now_us: int) -> bool:
        """True if the token was a batch's."""
        batch = self._pending_batches.pop(token, None)
        if batch is not None:
            self._store(batch.header, batch.delivery, batch.sender, now_us)
        return batch is not None

    def _outputs_failed(self, token: bytes, reason: str) -> bool:
        batch = self._pending_batches.pop(token, None)
        if batch is not None:
            self._ctx.send(batch.sender, Declined(batch.header.body.job_id, batch.header.id, reason))
        return batch is not None

    def _store(self, header: Record, message: Delivery, peer: bytes, now_us: int) -> None:
        job_id = header.body.job_id
        kept = self.jobs.get(job_id)
        if kept is None:
            return
        if self._declines_repeat(kept, header, peer):
            return
        self._ctx.emit(Persist(job_id, COLUMNS_ROW, header.id, message.columns))
        if not self._merge(kept, header, peer, now_us):
            return
        if peer == kept.state.submitter:
            kept.room.take(kept.state, header.id)
        self._drop_repeats(kept)
        for node in dict.fromkeys((peer, header.author)):
            self._acknowledge_soon(node, job_id, header.id, now_us)
        kept.subscriptions.stored(header.id, message, is_copy=header.body.copy > 0)
        self._after_change(kept, now_us)
        self._acknowledge_all(kept)

    def _declines_repeat(self, kept: KeptJob, header: Record, peer: bytes) -> bool:
        """A batch that its worker has given often enough. What the submitter brings it has taken."""
        if peer == kept.state.submitter or not kept.room.declines(kept.state, header):
            return False
        self._ctx.limit(Limit.REPEATS, header.author)
        self._ctx.send(peer, Declined(kept.state.job_id, header.id, Reason.REPEATED))
        return True

    def _drop_repeats(self, kept: KeptJob) -> None:
        """What its worker said too often goes from the disk, and from those who follow."""
        gone = kept.room.drop_repeats(kept.state)
        for batch_id in gone:
            self._ctx.emit(Unpersist(kept.state.job_id, int(RecordKind.BATCH), batch_id))
            self._ctx.emit(Unpersist(kept.state.job_id, COLUMNS_ROW, batch_id))
        if gone:
            kept.subscriptions.dropped(gone)

    def _acknowledge_soon(self, node: bytes, job_id: bytes, batch_id: bytes, now_us: int) -> None:
        if not self._unacknowledged:
            self._ctx.set_timer(("stored", b""), now_us + self._ctx.config.stored_delay_us)
        waiting = self._unacknowledged.setdefault((node, job_id), {})
        if len(waiting) < UNACKNOWLEDGED_MAX:
            waiting[batch_id] = None

    def _acknowledge(self) -> None:
        """Tell the workers what is on this disk; by now all of it was written in one go. What is not, is wanted."""
        unacknowledged, self._unacknowledged = self._unacknowledged, {}
        for (node, job_id), batch_ids in unacknowledged.items():
            kept = self.jobs.get(job_id)
            if kept is not None:
                self._say_stored(node, job_id, [each for each in batch_ids if each in kept.state.batches])
                self._want(node, kept, list(batch_ids))
            elif job_id in self._forgotten:
                self._say_stored(node, job_id, list(batch_ids))

    def _acknowledge_all(self, kept: KeptJob) -> None:
        """Of a job that has all its results the submitter waits for nothing else."""
        asked = self._unacknowledged.get((kept.state.submitter, kept.state.job_id))
        if asked and kept.state.complete:
            here = [batch_id for batch_id in asked if batch_id in kept.state.batches]
            for batch_id in here:
                del asked[batch_id]
            self._say_stored(kept.state.submitter, kept.state.job_id, here)

    def _say_stored(self, node: bytes, job_id: bytes, batch_ids: list[bytes]) -> None:
        for at in range(0, len(batch_ids), STORED_A_MESSAGE_MAX):
            self._ctx.send(node, Stored(job_id, tuple(batch_ids[at : at + STORED_A_MESSAGE_MAX])))

    def _want(self, node: bytes, kept: KeptJob, batch_ids: list[bytes]) -> None:
        """Ask the submitter for what it took and this node lacks; not for what is on its way."""
        lacking = [each for each in batch_ids if each not in kept.state.batches]
        wanted = [each for each in lacking if each not in self._pending_batches]
        if wanted and not self.storage_failed:
            self._ctx.send(node, Want(kept.state.job_id, tuple(wanted[:STORED_A_MESSAGE_MAX])))
