"""The one machine of a node: events in, effects out. It composes the roles; the driver owns it.

`Mesh.handle(event, now_us)` is the only entry. Effects are to be performed in order, and a `Persist` must be on
disk before any later `Send` leaves. Nothing that a peer sends raises here: faults become `Penalise`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..crypto.certificates import CertificateError, MembershipPolicy, Role
from ..crypto.identity import Identity
from .aggregates import Aggregates
from .cells import Cell
from .config import ProtocolConfig
from .context import Context, Randomness
from .effects import Disconnect, Effect, LearnAddress, Persist, Publish, Reason, TimerKey
from .events import (
    AddressesChanged,
    BlobsFailed,
    BlobsFetched,
    CancelJob,
    Drain,
    Event,
    ExecutionFailed,
    FollowJob,
    HeatReading,
    ListJobs,
    PeerConnected,
    PeerLost,
    PeerUnreachable,
    Received,
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
from .heat import HeatBoard
from .intervals import IntervalSet
from .membership import Membership, Status
from .messages import (
    Accused,
    Ack,
    Announce,
    CellDigest,
    Consumed,
    Declined,
    Delivery,
    FindJob,
    FindNodes,
    FoundJobs,
    FoundNodes,
    Granted,
    HandOn,
    IndirectAck,
    JobStatus,
    Leaving,
    Message,
    Ping,
    PingRequest,
    Reconcile,
    ReconcileIds,
    Records,
    Refused,
    Rejected,
    Renew,
    Revocations,
    Steal,
    Stored,
    Submit,
    Submitted,
    Subscribe,
    Superseded,
    TableRows,
    TableSync,
    Unsubscribe,
    Want,
)
from .records import (
    HeatDigest,
    JobDigest,
    MemberRecord,
    Record,
    RecordError,
    RecordKind,
    open_record,
    sign_record,
)
from .replica import Replica
from .seeking import Seeker
from .submitter import Submitter
from .tables import Tables
from .thief import Thief
from .verification.court import CONVICTION_ROW, Court
from .verification.judging import TRUST_ROW
from .verification.trust import TrustBook
from .worker import Worker

REVOCATION_ROW = 111
# Records of a job that a worker which is not its replica must hear of.
WORKER_NEWS = (RecordKind.CANCELLATION, RecordKind.REPLICA_SET)


@dataclass(frozen=True, slots=True)
class NodeProfile:
    """What a node says of itself in its member record. roles: as its certificate has them."""

    name: str
    roles: Role
    zone: str
    year_round: bool
    cores: int
    memory_bytes: int
    native_commands: tuple[str, ...] = ()
    wasm: bool = True
    machine: str = ""


class Mesh:
    """See the module. Deterministic: the same events at the same times give the same effects."""

    def __init__(
        self,
        identity: Identity,
        config: ProtocolConfig,
        rng: Randomness,
        *,
        policy: MembershipPolicy,
        certificate: bytes,
        profile: NodeProfile,
        incarnation: int,
        wall_offset_us: int,
    ) -> None:
        """incarnation: higher than in any earlier life of this identity, e.g. the start in unix microseconds."""
        self.ctx = Context(identity, config, rng, policy=policy, certificate=certificate, wall_offset_us=wall_offset_us)
        self.profile = profile
        self.incarnation = incarnation
        self.cell = Cell(self.ctx.node_id, config)
        self.members = Membership(self.ctx, incarnation, self.cell)
        self.tables = Tables(self.ctx, self._on_row, self._admits_row, self._wants_row, self.cell)
        self.heat = HeatBoard(self.ctx, self.tables, incarnation)
        self.replica = Replica(self.ctx, self.members, self.tables, incarnation)
        self.thief = Thief(self.ctx, self.members, self.tables, self.heat)
        self.worker = Worker(self.ctx, self.members, self.tables, self.heat, self.thief)
        self.worker.memory_bytes = profile.memory_bytes
        self.worker.native_commands = profile.native_commands
        self.worker.wasm = profile.wasm
        self.trust = TrustBook()
        self.court = Court(self.ctx, can_run=profile.wasm and bool(profile.roles & Role.WORKER))
        self.submitter = Submitter(self.ctx, self.members, self.tables, self.trust, self.court)
        self.seeker = Seeker(self.ctx, self.members, self.tables)
        self.seeker.on_reached = self._on_reached
        self.aggregates = Aggregates(self.ctx, self.members, self.tables, self.heat)
        self.thief.far = _FarWork(self.aggregates, self.seeker)
        self.connected: dict[bytes, Role] = {}
        self._member_sequence = 0
        self._addresses: tuple[str, ...] = ()
        self._relays: tuple[bytes, ...] = ()
        self._since_s = 0
        self._left = False
        self._handled_us = 0

    @property
    def left(self) -> bool:
        """Drained, and said goodbye."""
        return self._left

    def zone_mates(self) -> list[HeatDigest]:
        """What the other workers said last that heat the same sink, and are alive and here to stay; by node."""
        if not self.profile.zone:
            return []
        members: list[MemberRecord] = [record.body for record in self.tables.rows(RecordKind.MEMBER)]
        mates = {each.node: None for each in members if each.zone == self.profile.zone}
        return [
            digest
            for digest in self.heat.peers()
            if digest.node in mates and not digest.draining and self.members.is_alive(digest.node)
        ]

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
        if self.court.wanting:
            self._hold_trials()
        return self.ctx.take_effects()

    def _hold_trials(self) -> None:
        """One slot is kept for trials while any wait: work never runs out of itself."""
        self.worker.set_aside = min(1, self.worker.slots)
        if not self.worker.draining:
            self.court.pump(self.worker.slots - self.worker.running)

    def _after_trial(self, now_us: int) -> None:
        self.worker.set_aside = 1 if self.court.wanting else 0
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
                if self.court.on_ended(event):
                    self._after_trial(now_us)
                else:
                    self.worker.on_finished(event, now_us)
            case ExecutionFailed():
                if self.court.on_ended(event):
                    self._after_trial(now_us)
                else:
                    self.worker.on_failed(event, now_us)
            case HeatReading():
                self.worker.on_heat(event, now_us)
            case PeerConnected():
                self._on_connected(event.peer, Role(event.roles), now_us)
            case PeerLost():
                self._on_lost(event.peer, event.reset, now_us)
            case PeerUnreachable():
                self.members.lost(event.peer, False, now_us)
            case BlobsFetched():
                if not self.court.on_blobs_fetched(event.token):
                    self.replica.on_blobs_fetched(event.token, now_us)
            case BlobsFailed():
                if not self.court.on_blobs_failed(event.token):
                    self.replica.on_blobs_failed(event.token, event.reason)
            case Started():
                self._on_started(event.rows, now_us)
            case AddressesChanged():
                self._addresses, self._relays = event.addresses, event.relays
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
            case CancelJob():
                self.submitter.cancel(event.job_id)
            case ListJobs():
                self.submitter.find(event.job_id, event.peers)
            case Settle():
                self.submitter.settle(now_us)
            case _:
                raise AssertionError(f"no handler for {type(event).__name__}")

    # -- life ----------------------------------------------------------------------------------------------

    def _on_started(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        self._since_s = self.ctx.wall_us(now_us) // 1_000_000
        for row in rows:
            if row.kind == REVOCATION_ROW:
                self._take_revocations(row.body, now_us)
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
        if self._since_s == 0:
            return
        self._member_sequence += 1
        body = MemberRecord(
            node=self.ctx.node_id,
            incarnation=self.members.incarnation,
            sequence=self._member_sequence,
            # Who cannot write keeps nothing for others: they are to choose, and to ask, somebody else.
            roles=int(self.profile.roles & ~Role.REPLICA if self.replica.storage_failed else self.profile.roles),
            name=self.profile.name,
            addresses=self._addresses,
            relays=self._relays,
            zone=self.profile.zone,
            year_round=self.profile.year_round,
            since_s=self._since_s,
            cores=self.profile.cores,
            certificate=self.ctx.certificate,
            memory_bytes=self.profile.memory_bytes,
            wasm=self.profile.wasm,
            commands=self.profile.native_commands,
            machine=self.profile.machine,
        )
        self.tables.publish(sign_record(self.ctx.identity, RecordKind.MEMBER, body), now_us, urgent=True)

    def _on_storage(self, event: StorageFailed | StorageRecovered, now_us: int) -> None:
        reason = event.reason if isinstance(event, StorageFailed) else ""
        self.replica.storage_failed = reason
        self.worker.storage_failed = reason
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
        self.members.learn(peer, 0, now_us, probed=_serves(roles))
        self.members.connected(peer, now_us)
        self.replica.on_peer_gone(peer)
        self.submitter.on_connected(peer)
        self.tables.peer_connected(peer, now_us)
        if not self.tables.shares_rows(peer):
            self.aggregates.ask(peer, now_us)
        # Gossip reaches who was there at that time; the others hear of it from their next peer.
        for held in self.ctx.policy.revocations:
            self.ctx.send(peer, Revocations(held.to_bytes()))
        self.court.tell(peer)
        self.worker.pump(now_us)

    def _on_lost(self, peer: bytes, reset: bool, now_us: int) -> None:
        self.connected.pop(peer, None)
        self.tables.peer_lost(peer)
        self.seeker.peer_lost(peer)
        self.aggregates.peer_lost(peer)
        self.replica.on_peer_gone(peer)
        self.thief.on_peer_gone(peer)
        self.members.lost(peer, reset, now_us)
        self.submitter.on_peer_gone(peer, now_us)

    def _follow_membership(self, now_us: int) -> None:
        """React to what membership decided during this event."""
        refuted = self.members.incarnation
        if refuted != self.incarnation:
            self.incarnation = refuted
            self._publish_member(now_us)
        for node, status in self.members.take_changes():
            self.replica.keepers_changed()
            self.ctx.notify("member.changed", node=node, status=status.name.lower())
            if status is not Status.ALIVE:
                self.worker.tell_grants_of(node)
            if status in (Status.DEAD, Status.LEFT):
                self.tables.forget_node(node)
                self.replica.drop_lifeline(node)
                self.thief.on_peer_gone(node)
                self.replica.on_dead(node, now_us)
                self.submitter.on_peer_gone(node, now_us)
                if node in self.connected and status is Status.DEAD:
                    self.ctx.emit(Disconnect(node, "dead"))
            elif status is Status.ALIVE:
                self.worker.outbox.on_alive(node, now_us)
                self.worker.pump(now_us)
        for node in self.members.take_dropped():
            self.tables.drop_node(node)

    def _tick(self, now_us: int) -> None:
        """With each tick of the tables: who matters to this node, and what it does about those that it lacks."""
        watched = self.replica.seats | self.worker.keepers() | self.submitter.keepers()
        self.members.watch(watched, now_us)
        if self.members.review(self.tables.depths(), now_us):
            self.tables.prune()
            self.ctx.notify("cell.changed", depth=self.cell.depth, nodes=self.members.cell_nodes)
        self.seeker.tick(now_us)
        if self.cell.depth:
            self.aggregates.tick(now_us)

    def _wants_row(self, record: Record) -> bool:
        """Rows of this cell; of others the member records of those that are kept in mind."""
        if self.cell.holds(record.author):
            return True
        if record.kind is not RecordKind.MEMBER:
            return False
        known = self.members.status(record.author) is not None
        return known or self.members.circle.welcomes(record.author, _serves(Role(record.body.roles)))

    def _on_reached(self, node: bytes, now_us: int) -> None:
        """Where a far replica is, that has work."""
        self.thief.on_news()
        self.worker.pump(now_us)

    def _admits_row(self, record: Record, now_us: int) -> bool:
        """A member record must show a certificate that grants the roles it claims; nobody can invent members."""
        if record.kind is not RecordKind.MEMBER:
            return True
        member: MemberRecord = record.body
        return self.ctx.admitted(member.certificate, member.node, Role(member.roles), now_us)

    def _on_row(self, record: Record, now_us: int) -> None:
        """A digest or member record that is news."""
        if record.kind is RecordKind.MEMBER:
            member: MemberRecord = record.body
            self.ctx.emit(LearnAddress(member.node, member.addresses, member.relays))
            probed = _serves(Role(member.roles))
            self.members.learn(member.node, member.incarnation, now_us, probed=probed)
            self.replica.on_member(now_us)
        elif record.kind is RecordKind.JOB_DIGEST:
            self.replica.on_digest(record.body)
            if record.body.free_tasks:
                self.thief.on_news()
                self.worker.pump(now_us)

    # -- timers --------------------------------------------------------------------------------------------

    def _on_timer(self, key: TimerKey, now_us: int) -> None:
        name = key[0]
        if name.startswith(("probe", "suspicion")):
            self.members.on_timer(key, now_us)
        elif name == "sync":
            self.tables.on_timer(key, now_us)
            self._tick(now_us)
            self.worker.publish_heat(now_us)
        else:
            handled = (
                self.replica.on_timer(key, now_us)
                or self.worker.on_timer(key, now_us)
                or self.submitter.on_timer(key, now_us)
            )
            assert handled, f"no machine owns the timer {key!r}"
        if self.worker.draining:
            self._leave_if_drained(now_us)

    # -- messages ------------------------------------------------------------------------------------------

    def _on_message(self, peer: bytes, message: Message, now_us: int) -> None:
        if peer != self.ctx.node_id:
            self.members.heard(peer, now_us)
        match message:
            case Ping() | Ack() | PingRequest() | IndirectAck() | Leaving():
                self.members.on_message(peer, message, now_us)
            case TableSync() | TableRows():
                self.tables.on_message(peer, message, now_us)
                if isinstance(message, TableSync) and peer in self.connected and not self.tables.shares_rows(peer):
                    self.aggregates.ask(peer, now_us)
            case FindNodes():
                if peer in self.connected:
                    self.seeker.on_find(peer, message, now_us)
            case FoundNodes():
                self.seeker.on_found(peer, message, now_us)
            case CellDigest():
                self._on_cell_digest(peer, message, now_us)
            case Delivery():
                self._on_delivery(peer, message, now_us)
            case Stored() | Declined() | Granted() | Refused() | HandOn() | Superseded():
                self._on_worker_message(peer, message, now_us)
            case Submitted() | Rejected() | FoundJobs() | JobStatus():
                self._on_submitter_message(peer, message, now_us)
            case Steal():
                self._on_steal(peer, message, now_us)
            case Records():
                self._on_records(peer, message, now_us)
            case Announce():
                self._on_announce(peer, message, now_us)
            case Accused():
                self.court.hear(peer, message, now_us)
            case Revocations():
                if self._take_revocations(message.revocation_list, now_us):
                    self.ctx.emit(Publish(message))
            case _:
                self._on_replica_message(peer, message, now_us)
        if self.worker.draining:
            self._leave_if_drained(now_us)

    def _on_cell_digest(self, peer: bytes, message: CellDigest, now_us: int) -> None:
        if peer in self.connected and self.aggregates.on_message(peer, message, now_us):
            self.thief.on_news()
            self.worker.pump(now_us)

    def _on_worker_message(self, peer: bytes, message: Message, now_us: int) -> None:
        match message:
            case Granted() | HandOn():
                self.worker.on_granted(peer, message, now_us)
            case Stored():
                self.worker.on_stored(peer, message, now_us)
            case Refused():
                self.worker.on_refused(peer, message, now_us)
            case Superseded():
                self.worker.on_superseded(peer, message, now_us)
            case Declined():
                self.worker.on_declined(peer, message)

    def _on_submitter_message(self, peer: bytes, message: Message, now_us: int) -> None:
        match message:
            case Submitted():
                self.submitter.on_submitted(peer, message, now_us)
            case Rejected():
                self.submitter.on_rejected(peer, message, now_us)
                self.replica.on_rejected(peer, message, now_us)
            case FoundJobs():
                self.submitter.on_found(peer, message)
                self.worker.on_found(message, now_us)
            case JobStatus():
                self.submitter.on_status(peer, message, now_us)

    def _on_replica_message(self, peer: bytes, message: Message, now_us: int) -> None:
        match message:
            case Submit():
                self._on_submit(peer, message, now_us)
            case Renew():
                self.replica.on_renew(peer, message, now_us)
            case Subscribe():
                self.replica.on_subscribe(peer, message, now_us)
            case Consumed():
                self.replica.on_consumed(peer, message)
            case Unsubscribe():
                self.replica.on_unsubscribe(peer, message)
            case FindJob():
                self.replica.on_find(peer, message)
            case Reconcile():
                self.replica.on_reconcile(peer, message, now_us)
            case ReconcileIds():
                self.replica.on_reconcile_ids(peer, message)
            case Want():
                self.replica.on_want(peer, message)
            case _:
                self.ctx.penalise(peer, Reason.MALFORMED)

    def _on_submit(self, peer: bytes, message: Submit, now_us: int) -> None:
        roles = self.profile.roles if peer == self.ctx.node_id else self.connected.get(peer, Role(0))
        if roles & Role.SUBMITTER:
            self.replica.on_submit(peer, message, now_us)
            return
        self.ctx.penalise(peer, Reason.NOT_ADMITTED)
        self.ctx.send(peer, Rejected(message.request, bytes(32), "this node's certificate has no role submitter"))

    def _on_steal(self, peer: bytes, message: Steal, now_us: int) -> None:
        """A replica gives free tasks, a worker unstarted ones; else the thief is parked or refused."""
        if peer != self.ctx.node_id:
            if peer not in self.connected:
                return
            if not self.connected[peer] & Role.WORKER:
                self.ctx.penalise(peer, Reason.NOT_ADMITTED)
                return
        if peer in self.ctx.convicted:
            self.ctx.send(peer, Refused(message.request))
            return
        if self.replica.grant(peer, message, now_us):
            return
        given = self.worker.give(peer, message) if peer != self.ctx.node_id else None
        if given is not None:
            self.ctx.send(peer, given)
            self.worker.publish_heat(now_us)
            return
        self.replica.refuse(peer, message, now_us)

    def _on_delivery(self, peer: bytes, message: Delivery, now_us: int) -> None:
        """Both the follower and the replica of a job may be this node."""
        try:
            header = open_record(message.header)
        except RecordError:
            self.ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return
        if header.kind is not RecordKind.BATCH:
            self.ctx.penalise(peer, Reason.MALFORMED)
            return
        followed = self.submitter.on_delivery(peer, message, header, now_us)
        if not followed or header.body.job_id in self.replica.jobs:
            self.replica.on_delivery(peer, message, header, now_us)

    def _on_records(self, peer: bytes, message: Records, now_us: int) -> None:
        self.replica.on_records(peer, message, now_us)
        if self.worker.view(message.job_id) is None:
            return
        for raw in message.records:
            try:
                # Most are grants between replicas: look before paying for the signature.
                if open_record(raw, check_signature=False).kind not in WORKER_NEWS:
                    continue
                record = open_record(raw)
            except RecordError:
                return
            if record.kind is RecordKind.CANCELLATION:
                self.worker.on_cancelled(record)
            else:
                self.worker.learn_replica_set(record, now_us)
        self.worker.pump(now_us)

    def _on_announce(self, peer: bytes, message: Announce, now_us: int) -> None:
        for raw in message.records:
            try:
                record = open_record(raw)
            except RecordError:
                self.ctx.penalise(peer, Reason.BAD_SIGNATURE)
                return
            if record.kind is RecordKind.JOB_DIGEST and self.cell.holds(record.author):
                self.tables.merge(raw, peer, now_us)
            elif record.kind is RecordKind.JOB_DIGEST:
                if self.aggregates.take(raw, 0, peer, now_us):
                    self.thief.on_news()
                    self.worker.pump(now_us)
            elif record.kind is RecordKind.CANCELLATION:
                self._on_records(peer, Records(record.body.job_id, (raw,)), now_us)

    def _take_revocations(self, revocation_list: bytes, now_us: int) -> bool:
        """Apply an authority's list; links to nodes that it revokes are closed. True if it was news."""
        try:
            news = self.ctx.policy.add_revocations(revocation_list)
        except CertificateError:
            return False
        if news:
            for held in self.ctx.policy.revocations:
                self.ctx.emit(Persist(b"", REVOCATION_ROW, held.issuer, held.to_bytes()))
            self.ctx.notify("mesh.revocations")
        return news


@dataclass(frozen=True, slots=True)
class _FarWork:
    """What a thief needs of two machines."""

    aggregates: Aggregates
    seeker: Seeker

    def far_jobs(self, now_us: int) -> list[JobDigest]:
        return self.aggregates.far_jobs(now_us)

    def mesh_nodes(self) -> int:
        return self.aggregates.mesh_nodes()

    def can_reach(self, node: bytes) -> bool:
        return self.seeker.can_reach(node)

    def reach(self, node: bytes) -> None:
        self.seeker.reach(node)


def _serves(roles: Role) -> bool:
    """Whether a node does anything for others; pure clients are not probed."""
    return bool(roles & (Role.WORKER | Role.REPLICA | Role.RELAY))
