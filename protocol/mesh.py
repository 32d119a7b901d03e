"""The one machine of a node: events in, effects out. It leads the roles; the driver owns it.

`Mesh.handle(event, now_us)` is the only entry. Effects are to be performed in order, and a `Persist` must be on
disk before any later `Send` leaves. Nothing that a peer sends raises here: faults become `Penalise`.
"""

from __future__ import annotations

from functools import cached_property

from ..crypto.certificates import Role
from .config import MINUTE
from .effects import Disconnect, Effect, TimerKey
from .events import (
    AddressesChanged,
    AskWhy,
    BlobsFailed,
    BlobsFetched,
    CancelJob,
    CommandsChanged,
    Drain,
    Event,
    ExecutionFailed,
    ExecutionSaved,
    FollowJob,
    GiveBack,
    HeatReading,
    ListJobs,
    OutputsCompared,
    PeerConnected,
    PeerLost,
    PeerUnreachable,
    Received,
    ResultsSpoiled,
    ResultsTaken,
    Settle,
    Started,
    StorageFailed,
    StorageRecovered,
    StoredRow,
    SubmitJob,
    TaskFinished,
    TimerFired,
    UnfollowJob,
)
from .inbox import Inbox
from .intervals import IntervalSet
from .membership import Status
from .messages import Leaving, Message, Revocations
from .presence import serves
from .roles import REVOCATION_ROW, Roles
from .verification.court import CONVICTION_ROW
from .verification.judging import TRUST_ROW
from .why import Explainer


class Mesh(Roles):
    """See the module. Deterministic: the same events at the same times give the same effects."""

    _left = False
    _handled_us = 0
    _reviewed_us = 0

    @cached_property
    def _inbox(self) -> Inbox:
        return Inbox(self)

    @property
    def explainer(self) -> Explainer:
        """Why this node is idle, or a task waits."""
        return self._inbox.explainer

    @property
    def left(self) -> bool:
        """Drained, and said goodbye."""
        return self._left

    # -- the one entry -------------------------------------------------------------------------------------

    def handle(self, event: Event, now_us: int) -> list[Effect]:
        """Effects of one event, in the order in which they are to be performed."""
        self._notice_stall(now_us)
        self._dispatch(event, now_us)
        while self.ctx.loopback:
            self._on_message(self.ctx.node_id, self.ctx.loopback.popleft(), now_us)
        self._follow_membership(now_us)
        while self.ctx.loopback:
            self._on_message(self.ctx.node_id, self.ctx.loopback.popleft(), now_us)
        if self.court.wants(now_us):
            self._hold_trials(now_us)
        elif self.worker.set_aside:
            self.worker.set_aside = 0
            self.worker.pump(now_us)
        if self.tables.rests:
            self._stay_awake(now_us)
        return self.ctx.take_effects()

    def _stay_awake(self, now_us: int) -> None:
        """While there is anything to look after at each interval, the tables do not rest."""
        if self.busy:
            self.tables.hurry(now_us)
        elif self.seeker.searches or self.zones.has_news:
            self.tables.wake(now_us)

    def _hold_trials(self, now_us: int) -> None:
        """One slot is kept for a trial that waits, and had its rest: work never runs out of itself.

        A trial begins where and when a task may.
        """
        self.worker.set_aside = min(1, self.worker.slots)
        free_slots = self.worker.slots - self.worker.running if self.worker.may_start() else 0
        self.court.pump(free_slots, now_us)

    def _after_trial(self, now_us: int) -> None:
        self.worker.set_aside = 1 if self.court.wants(now_us) else 0
        # The sections of a replica that was convicted fall to the next.
        self.replica.on_member(now_us)
        self.worker.pump(now_us)

    def _notice_stall(self, now_us: int) -> None:
        """A process that was frozen, or got no processor: its timers are late, and what it knows of others is old."""
        stalled = now_us - self._handled_us > self.ctx.config.stall_us
        if stalled and self._handled_us:
            self.replica.fall_behind(now_us)
        self._handled_us = now_us

    def _dispatch(self, event: Event, now_us: int) -> None:
        match event:
            case Received():
                self._on_message(event.peer, event.message, now_us)
            case TimerFired():
                self._on_timer(event.key, now_us)
            case TaskFinished():
                if self.court.on_ended(event, now_us):
                    self._after_trial(now_us)
                else:
                    self.worker.on_finished(event, now_us)
            case ExecutionFailed():
                if self.court.on_ended(event, now_us):
                    self._after_trial(now_us)
                else:
                    self.worker.on_failed(event, now_us)
            case ExecutionSaved():
                self.worker.on_saved(event, now_us)
            case HeatReading():
                self.worker.on_heat(event, now_us)
            case PeerConnected():
                self._on_connected(event.peer, Role(event.roles), now_us)
            case PeerLost():
                self._on_lost(event.peer, event.reset, now_us)
            case PeerUnreachable():
                self.members.unreachable(event.peer, now_us)
                self.submitter.on_unreachable(event.peer)
            case BlobsFetched():
                if not self.court.on_blobs_fetched(event.token):
                    self.replica.on_blobs_fetched(event.token, now_us)
            case BlobsFailed():
                if not self.court.on_blobs_failed(event.token):
                    self.replica.on_blobs_failed(event.token, event.reason)
            case Started():
                self._on_started(event.rows, now_us)
            case AddressesChanged():
                self.presence.addresses, self.presence.relays = event.addresses, event.relays
                self._publish_member(now_us)
            case CommandsChanged():
                self._offer(event.commands, event.machine, event.builds)
                self._publish_member(now_us)
            case StorageFailed() | StorageRecovered():
                self._on_storage(event, now_us)
            case Drain():
                self._on_drain(now_us)
            case _:
                self._on_command(event, now_us)

    def _on_command(self, event: Event, now_us: int) -> None:
        match event:
            case SubmitJob():
                self.submitter.submit(event.spec, now_us, follow=event.follow)
            case FollowJob():
                self.submitter.follow(event.job_id, IntervalSet(*event.have), event.results, event.signed, now_us)
            case UnfollowJob():
                self.submitter.unfollow(event.job_id, now_us)
            case ResultsTaken():
                self.submitter.taken(event.job_id, event.batch_id, now_us)
            case ResultsSpoiled():
                self.submitter.on_spoiled(event, now_us)
            case GiveBack():
                self.submitter.give_back(event, now_us)
            case CancelJob():
                self.submitter.cancel(event.job_id)
            case ListJobs():
                self.submitter.find(event.job_id, event.peers)
            case AskWhy():
                self.submitter.ask_why(event.peers, event.job_id, event.index)
            case Settle():
                self.submitter.settle(now_us)
            case OutputsCompared():
                self.submitter.on_compared(event, now_us)
            case _:
                raise AssertionError(f"no handler for {type(event).__name__}")

    # -- life ----------------------------------------------------------------------------------------------

    def _on_started(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        self.presence.start(now_us)
        for row in rows:
            if row.kind == REVOCATION_ROW:
                self.take_revocations(row.body, now_us)
            elif row.kind == TRUST_ROW:
                self.trust.restore(row.body)
            elif row.kind == CONVICTION_ROW:
                self.court.restore(row)
        self.members.start(now_us)
        self.tables.start(now_us)
        self._publish_member(now_us)
        self.replica.restore(rows, now_us)
        self.worker.restore(rows, now_us)

    def _publish_member(self, now_us: int) -> None:
        self.presence.publish(self.members.incarnation, now_us)

    def _on_storage(self, event: StorageFailed | StorageRecovered, now_us: int) -> None:
        reason = event.reason if isinstance(event, StorageFailed) else ""
        self.replica.storage_failed = reason
        self.worker.storage_failed = reason
        self.presence.keeps = not reason
        if reason:
            self.worker.release_all()
        else:
            self.replica.fall_behind(now_us)
            self.replica.serve_lifelines(now_us)
        self._publish_member(now_us)
        self.worker.pump(now_us)

    def _on_drain(self, now_us: int) -> None:
        """The first time: give back what is unstarted, let the rest finish. Again: cancel it and go."""
        again = self.worker.draining
        self.worker.drain(now_us, cancel=again)
        self._leave_if_drained(now_us, force=again)

    def _leave_if_drained(self, now_us: int, *, force: bool = False) -> None:
        if self._left or not (force or self.worker.drained):
            return
        self._left = True
        self.members.stop(now_us)
        self.tables.stop(now_us)
        self.replica.stop()
        for peer in sorted(self.connected):
            self.ctx.send(peer, Leaving(self.members.incarnation))
        self.ctx.notify("node.drained", owed=len(self.worker.outbox))

    # -- peers ---------------------------------------------------------------------------------------------

    def _on_connected(self, peer: bytes, roles: Role, now_us: int) -> None:
        self.connected[peer] = roles
        self.members.learn(peer, 0, now_us, serves=serves(int(roles)))
        self.members.connected(peer, now_us)
        self.replica.on_peer_gone(peer)
        self.submitter.on_connected(peer)
        self.tables.peer_connected(peer, now_us)
        # One of the two asks, for both; as one of two that share rows compares them.
        if self.ctx.node_id < peer and not self.tables.shares_rows(peer):
            self.aggregates.ask(peer, now_us)
        # Gossip reaches who was there at that time; the others hear of it from their next peer.
        for held in self.ctx.policy.revocations:
            self.ctx.send(peer, Revocations(held.to_bytes()))
        self.court.tell(peer)
        self.worker.pump(now_us)

    def _on_lost(self, peer: bytes, reset: bool, now_us: int) -> None:
        self.connected.pop(peer, None)
        self.tables.peer_lost(peer, now_us)
        self.seeker.peer_lost(peer)
        self.aggregates.peer_lost(peer)
        self.zones.peer_lost(peer)
        self.replica.on_peer_gone(peer)
        self.thief.on_peer_gone(peer, now_us)
        self.members.lost(peer, reset, now_us)
        self.submitter.on_peer_gone(peer, now_us)

    def _follow_membership(self, now_us: int) -> None:
        """React to what membership decided during this event."""
        refuted = self.members.incarnation
        if refuted != self.incarnation:
            self.incarnation = self.heat.incarnation = refuted
            self._publish_member(now_us)
            # Whoever believed it dead has buried the digest as well, and takes only a later one.
            self.heat.tell_anew()
            self.worker.publish_heat(now_us)
        if not self.members.has_news:
            return
        self.members.fill_view()
        came = False
        for node, status in self.members.take_changes():
            self.replica.keepers_changed()
            self.ctx.notify("member.changed", node=node, status=status.name.lower())
            if status is not Status.ALIVE:
                self.worker.tell_grants_of(node)
            if status in (Status.DEAD, Status.LEFT):
                self.tables.forget_node(node)
                self.replica.drop_lifeline(node)
                self.thief.on_peer_gone(node, now_us)
                self.replica.on_dead(node, now_us)
                self.submitter.on_peer_gone(node, now_us)
                if node in self.connected and status is Status.DEAD:
                    self.ctx.emit(Disconnect(node, "dead"))
            elif status is Status.ALIVE:
                self.worker.outbox.on_alive(node, now_us)
                came = True
        for node in self.members.take_dropped():
            self.tables.drop_node(node)
        if came:
            self.worker.pump(now_us)

    def _tick(self, now_us: int) -> None:
        """With each tick of the tables: who matters to this node, and what it does about those that it lacks."""
        watched = self.replica.seats | self.worker.keepers() | self.submitter.keepers() | self.zones.mates
        self.members.watch(watched, now_us)
        self.review_cell(now_us)
        if now_us - self._reviewed_us >= MINUTE:
            self._reviewed_us = now_us
            self.drop_expired(now_us)
        self.seeker.tick(now_us)
        self.zones.tick(now_us)
        if self.cell.depth:
            self.aggregates.tick(now_us)

    # -- timers --------------------------------------------------------------------------------------------

    def _on_timer(self, key: TimerKey, now_us: int) -> None:
        name = key[0]
        if name.startswith(("probe", "suspicion")):
            self.members.on_timer(key, now_us)
        elif name == "sync":
            self.tables.on_timer(key, now_us)
            self._tick(now_us)
            self.worker.publish_heat(now_us)
        elif name == "window":
            self._inbox.serve_waiting(now_us)
        else:
            handled = (
                self.replica.on_timer(key, now_us)
                or self.worker.on_timer(key, now_us)
                or self.submitter.on_timer(key, now_us)
            )
            assert handled, f"no machine owns the timer {key!r}"
        if self.worker.draining:
            self._leave_if_drained(now_us)

    def _on_message(self, peer: bytes, message: Message, now_us: int) -> None:
        self._inbox.take(peer, message, now_us)
        if self.worker.draining:
            self._leave_if_drained(now_us)
