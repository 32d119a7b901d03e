"""What a client signs for, and when: what it took, as soon as enough replicas have it on disk.

So no acceptance names a batch that could be lost with one node, and who comes back without its state is owed nothing
that nobody has. Until then the client keeps what it took, and gives it back to replicas that lack it.

The layer between `submission` and `submitter`.
"""

from __future__ import annotations

from ..crypto.certificates import Role
from .batches import BatchError, check_batch
from .custody import GIVEN_BACK_MAX, Held
from .effects import Reason
from .events import GiveBack
from .messages import Consumed, Declined, Delivery, FindJob, Records, Stored, Taken, Want
from .outbox import OVER
from .own_job import OwnJob
from .records import Acceptance, Record, RecordError, RecordKind, open_record, sign_record
from .submission import Submission
from .verification.deposition import ACCEPTED_A_RECORD_MAX

TAKEN_A_MESSAGE_MAX = 256
# Members asked for a job: in a cell most are linked anyway, and each answers in one message.
FIND_PEERS_MAX = 64
# What has waited so many `reconcile_interval_us` for disks may do so since others keep the job by now; the time between
# two searches for them doubles so often.
SEEK_INTERVALS = 4
SEEK_DOUBLINGS = 5
# Why a replica does not take just now what it may take later.
_PASSING = (Reason.DISK_FULL, Reason.TOO_MANY, Reason.UNKNOWN_JOB)


class Accepting(Submission):
    """See the module."""

    _accept_armed = False

    def holds_unsigned(self) -> bool:
        """Whether anything was taken that is not signed for yet, and a replica is there that may have it."""
        return any(own.waiting and self._living(own) for own in self.jobs.values())

    def _living(self, own: OwnJob) -> list[bytes]:
        return [node for node in own.state.replicas if not self._members.is_gone(node)]

    def _is_laden(self, own: OwnJob) -> bool:
        """Whether it holds as much as it may of what is on too few disks, and asks for no more."""
        return own.custody.column_bytes > self._ctx.config.custody_bytes_max

    # -- asking --------------------------------------------------------------------------------------------

    def _arm_accept(self, now_us: int) -> None:
        if not self._accept_armed:
            self._accept_armed = True
            self._ctx.set_timer(("accept", b""), now_us + self._ctx.config.accept_interval_us)

    def _accept_all(self, now_us: int) -> None:
        """With the timer: ask for what is held, sign for what is on disk."""
        self._accept_armed = False
        for own in self.jobs.values():
            if own.custody:
                self._ask(own, now_us, self._ctx.config.reconcile_interval_us)
                for batch_id, held in own.custody:
                    self._sign_kept(own, batch_id, held)
                self._arm_accept(now_us)
            self._seek_keepers(own, now_us)
            if own.pending or own.consumed:
                self._accept(own, now_us)

    def _ask(self, own: OwnJob, now_us: int, again_us: int = 0) -> None:
        """Which of the batches that are held are on the replicas' disks? again_us: as in `Custody.to_ask`."""
        batch_ids = own.custody.to_ask(now_us, again_us)
        for node in self._living(own) if batch_ids else ():
            self._ask_one(own, node, own.custody.lacked_by(node, batch_ids))

    def _ask_one(self, own: OwnJob, node: bytes, batch_ids: list[bytes]) -> None:
        for at in range(0, len(batch_ids), TAKEN_A_MESSAGE_MAX):
            self._ctx.send(node, Taken(own.state.job_id, tuple(batch_ids[at : at + TAKEN_A_MESSAGE_MAX])))

    def _seek_keepers(self, own: OwnJob, now_us: int) -> None:
        """Replicas may have been replaced while this client, or who knew of it, was away: ask who keeps the job."""
        if not own.custody:
            own.sought_us, own.seeks = None, 0
        elif own.sought_us is None:
            own.sought_us = now_us
        else:
            wait_us = SEEK_INTERVALS * self._ctx.config.reconcile_interval_us << min(own.seeks, SEEK_DOUBLINGS)
            if now_us - own.sought_us >= wait_us:
                own.sought_us = now_us
                own.seeks += 1
                self.find(own.state.job_id)

    def find(self, job_id: bytes, peers: tuple[bytes, ...] = ()) -> None:
        """Ask some members, or these peers, for a job of this client's; with an empty id for all."""
        alive = self._members.alive()
        nodes = list(peers) or (alive if len(alive) <= FIND_PEERS_MAX else self._ctx.sample(alive, FIND_PEERS_MAX))
        for node in nodes:
            self._ctx.send(node, FindJob(self._ctx.next_request(), job_id))
        self._ctx.notify("jobs.asked", count=len(nodes))

    # -- answers -------------------------------------------------------------------------------------------

    def on_stored(self, peer: bytes, message: Stored, now_us: int) -> None:
        own = self.jobs.get(message.job_id)
        if own is None:
            return
        for batch_id in message.batch_ids:
            held = own.custody.get(batch_id)
            if held is not None and peer in own.state.replicas:
                held.on_disk[peer] = None
                held.lacking.pop(peer, None)
                self._sign_kept(own, batch_id, held)
        if own.pending:
            self._accept_in_time(own, now_us)

    def _sign_kept(self, own: OwnJob, batch_id: bytes, held: Held) -> None:
        """Sign for it if it is on disks enough of living replicas: as many as asked for, or all that are left.

        Those hand it on; a dead one's disk may never be seen again. It is let go of once as many as asked for have
        it; of what is signed for, also where there is no room.
        """
        living = self._living(own)
        enough = min(self._ctx.config.durable_replicas, len(own.state.replicas))
        disks = held.disks(living)
        if disks and disks >= min(enough, len(living)):
            for lo, hi in held.tasks:
                own.sign(lo, hi)
            if disks >= enough or self._is_laden(own):
                own.custody.let_go(batch_id)
                own.sought_us, own.seeks = None, 0

    def _accept_in_time(self, own: OwnJob, now_us: int) -> None:
        """At once if somebody may wait for it; else with more of its kind."""
        is_last = own.taken == own.state.spec.tasks and not own.waiting
        if is_last or not own.following or len(own.pending) >= ACCEPTED_A_RECORD_MAX // 2:
            self._accept(own, now_us)
        else:
            self._arm_accept(now_us)

    def _accept(self, own: OwnJob, now_us: int) -> None:
        """Sign what is on disk since the last time; tell all replicas."""
        self._open_window(own)
        is_news = bool(own.pending)
        while own.pending:
            own.told_us = now_us
            part, own.pending = own.pending[:ACCEPTED_A_RECORD_MAX], own.pending[ACCEPTED_A_RECORD_MAX:]
            body = Acceptance(own.state.job_id, tuple(part))
            record = sign_record(self._ctx.identity, RecordKind.ACCEPTANCE, body)
            own.state.merge(record)
            self._tell_replicas(own, record)
        if is_news and own.state.fully_accepted:
            self._ctx.notify("job.accepted", job_id=own.state.job_id)

    def _open_window(self, own: OwnJob) -> None:
        """Tell the source what was taken, so that it sends more; not while too much is held, on too few disks."""
        if self._is_laden(own):
            return
        consumed, own.consumed = tuple(own.consumed), []
        if consumed and own.source is not None:
            self._ctx.send(own.source, Consumed(own.state.job_id, consumed))

    def _tell_replicas(self, own: OwnJob, record: Record) -> None:
        for node in self._living(own):
            self._ctx.send(node, Records(own.state.job_id, (record.raw,)))

    # -- giving back ---------------------------------------------------------------------------------------

    def on_want(self, peer: bytes, message: Want, now_us: int) -> None:
        """A replica lacks what this client took: from memory, or with a note to whoever keeps the results."""
        own = self.jobs.get(message.job_id)
        if own is None or peer not in own.state.replicas:
            return
        elsewhere: list[bytes] = []
        for batch_id in dict.fromkeys(message.ids[:GIVEN_BACK_MAX]):
            held = own.custody.get(batch_id)
            if held is not None and held.delivery is not None:
                self._give(own, peer, batch_id, held.delivery, now_us)
            else:
                elsewhere.append(batch_id)
        if elsewhere:
            bound = {batch_id: None for _, _, batch_id in own.bound}
            wanted = tuple(batch_id for batch_id in elsewhere if batch_id in bound)
            if wanted:
                self._ctx.notify("job.wanted", job_id=own.state.job_id, batch_ids=wanted, replica=peer)

    def give_back(self, event: GiveBack, now_us: int) -> None:
        """What was kept by an earlier life; a file may be damaged, or gone."""
        own = self.jobs.get(event.job_id)
        if own is not None:
            self._give(own, event.replica, event.batch_id, Delivery(event.header, event.columns), now_us)

    def _give(self, own: OwnJob, replica: bytes, batch_id: bytes, delivery: Delivery, now_us: int) -> None:
        if self._is_good(batch_id, delivery, now_us):
            self._ctx.send(replica, delivery)
        else:
            self._cannot_give(own, replica, batch_id)

    def _is_good(self, batch_id: bytes, delivery: Delivery, now_us: int) -> bool:
        """Whether a replica will take it: whole, and by a worker that is still admitted."""
        try:
            header = open_record(delivery.header)
            if header.kind is not RecordKind.BATCH or header.id != batch_id:
                return False
            check_batch(header.body, delivery.columns)
        except (RecordError, BatchError):
            return False
        return self._ctx.admitted(header.body.certificate, header.author, Role.WORKER, now_us)

    def on_declined(self, peer: bytes, message: Declined, now_us: int) -> None:
        own = self.jobs.get(message.job_id)
        if own is None:
            return
        if message.reason == OVER:
            self.on_stored(peer, Stored(message.job_id, (message.batch_id,)), now_us)
        elif message.reason not in _PASSING:
            self._cannot_give(own, peer, message.batch_id)

    def _cannot_give(self, own: OwnJob, replica: bytes, batch_id: bytes) -> None:
        """Once no living replica has it, or can be given it, it is lost: what is canonical now is signed for instead.

        An earlier life did not sign for it either, or enough disks had it, and all of those are gone.
        """
        held = own.custody.get(batch_id)
        if held is None or replica not in own.state.replicas:
            return
        held.lacking[replica] = None
        living = self._living(own)
        if held.disks(own.state.replicas) or len(living) < min(
            self._ctx.config.durable_replicas, len(own.state.replicas)
        ):
            return
        if all(node in held.lacking for node in living):
            self._rebind(own, batch_id, held)

    def _rebind(self, own: OwnJob, batch_id: bytes, held: Held) -> None:
        """To another result that is known; else, or where a referee has to pass it first, to the next that comes.

        What this client knew of the lost one is forgotten: it would stay canonical here, before every rerun.
        """
        own.state.forget(batch_id)
        for lo, hi in list(held.tasks):
            for a, b, key in own.state.canonical.pieces(lo, hi):
                if key is not None and own.referee is None:
                    self._bind_anew(own, a, b, key.batch_id, None)
                    continue
                for c, d in own.lost.gaps(a, b):
                    own.lost.add(c, d)
                    own.handed.discard(c, d)
                    if own.referee is not None:
                        own.referee.judge_again(c, d)

    def _bind_anew(self, own: OwnJob, lo: int, hi: int, batch_id: bytes, delivery: Delivery | None) -> None:
        for lost in own.bind_anew(lo, hi, batch_id, delivery):
            self._ctx.notify("job.batch-lost", job_id=own.state.job_id, batch_id=lost)
