"""Which machine a message is for, and what has to be true of its sender. What it says is for the machine to judge."""

from __future__ import annotations

from ..crypto.certificates import Role
from .effects import Publish, Reason
from .limits import Limit
from .messages import (
    Accused,
    Ack,
    Announce,
    Because,
    CellDigest,
    Consumed,
    Declined,
    Delivery,
    FindJob,
    FindNodes,
    FindZone,
    FoundJobs,
    FoundNodes,
    Granted,
    HandOn,
    IndirectAck,
    JobStatus,
    KeyRefused,
    KeyShare,
    KeyWanted,
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
    ShareGiven,
    SharePart,
    ShareWanted,
    Steal,
    Stored,
    Submit,
    Submitted,
    Subscribe,
    Superseded,
    TableRows,
    TableSync,
    Taken,
    Unsubscribe,
    Want,
    Why,
)
from .records import RecordError, RecordKind, open_record
from .roles import Roles
from .stealing.urgency import urgency_mkh
from .why import Explainer

# Records of a job that a worker which is not its replica must hear of.
WORKER_NEWS = (RecordKind.CANCELLATION, RecordKind.REPLICA_SET)


class Inbox:
    """See the module. Nothing that a peer sends raises here."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self.explainer = Explainer(roles)

    def take(self, peer: bytes, message: Message, now_us: int) -> None:
        roles = self._roles
        if peer != roles.ctx.node_id:
            roles.members.heard(peer, now_us)
        match message:
            case Ping() | Ack() | PingRequest() | IndirectAck() | Leaving():
                roles.members.on_message(peer, message, now_us)
            case TableSync() | TableRows():
                if not roles.tables.on_message(peer, message, now_us):
                    roles.aggregates.ask(peer, now_us)
            case FindNodes():
                if peer in roles.connected:
                    roles.seeker.on_find(peer, message, now_us)
            case FoundNodes():
                if not roles.zones.on_found(peer, message, now_us):
                    roles.seeker.on_found(peer, message, now_us)
            case FindZone():
                if peer in roles.connected:
                    roles.zones.on_find(peer, message, now_us)
            case CellDigest():
                self._on_cell_digest(peer, message, now_us)
            case Delivery():
                self._on_delivery(peer, message, now_us)
            case Stored() | Declined() | Granted() | Refused() | HandOn() | Superseded() | KeyShare() | KeyRefused():
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
                roles.court.hear(peer, message, now_us)
            case Why():
                if peer in roles.connected:
                    self.explainer.on_why(peer, message, now_us)
            case Because():
                roles.submitter.on_because(peer, message)
            case Revocations():
                if roles.take_revocations(message.revocation_list, now_us, peer):
                    roles.ctx.emit(Publish(message))
            case _:
                self._on_replica_message(peer, message, now_us)

    def _on_cell_digest(self, peer: bytes, message: CellDigest, now_us: int) -> None:
        roles = self._roles
        if peer in roles.connected and roles.aggregates.on_message(peer, message, now_us):
            roles.thief.on_news()
            roles.worker.pump(now_us)

    def _on_worker_message(self, peer: bytes, message: Message, now_us: int) -> None:
        roles = self._roles
        match message:
            case Granted() | HandOn():
                if self._plays(peer, Role.WORKER | Role.REPLICA if isinstance(message, Granted) else Role.WORKER):
                    roles.worker.on_granted(peer, message, now_us)
            case Stored():
                roles.worker.on_stored(peer, message, now_us)
                roles.submitter.on_stored(peer, message, now_us)
            case Refused():
                roles.worker.on_refused(peer, message, now_us)
            case Superseded():
                roles.worker.on_superseded(peer, message, now_us)
            case Declined():
                roles.worker.on_declined(peer, message)
                roles.submitter.on_declined(peer, message, now_us)
            case KeyShare():
                roles.worker.on_key_share(peer, message, now_us)
            case KeyRefused():
                roles.worker.on_key_refused(peer, message, now_us)

    def _on_submitter_message(self, peer: bytes, message: Message, now_us: int) -> None:
        roles = self._roles
        match message:
            case Submitted():
                roles.submitter.on_submitted(peer, message, now_us)
            case Rejected():
                roles.submitter.on_rejected(peer, message, now_us)
                roles.replica.on_rejected(peer, message, now_us)
            case FoundJobs():
                roles.submitter.on_found(peer, message, now_us)
                roles.worker.on_found(message, now_us)
            case JobStatus():
                roles.submitter.on_status(peer, message, now_us)

    def _on_replica_message(self, peer: bytes, message: Message, now_us: int) -> None:
        roles = self._roles
        match message:
            case Submit():
                self._on_submit(peer, message, now_us)
            case Renew():
                roles.replica.on_renew(peer, message, now_us)
            case Subscribe():
                roles.replica.on_subscribe(peer, message, now_us)
            case Consumed():
                roles.replica.on_consumed(peer, message)
            case Unsubscribe():
                roles.replica.on_unsubscribe(peer, message)
            case FindJob():
                roles.replica.on_find(peer, message)
            case Reconcile():
                roles.replica.on_reconcile(peer, message, now_us)
            case ReconcileIds():
                roles.replica.on_reconcile_ids(peer, message)
            case Want():
                roles.replica.on_want(peer, message)
                roles.submitter.on_want(peer, message, now_us)
            case Taken():
                roles.replica.on_taken(peer, message, now_us)
            case KeyWanted() | ShareGiven() | ShareWanted() | SharePart():
                roles.replica.on_secret(peer, message, now_us)
            case _:
                roles.ctx.penalise(peer, Reason.MALFORMED)

    def _on_submit(self, peer: bytes, message: Submit, now_us: int) -> None:
        if self._plays(peer, Role.SUBMITTER):
            self._roles.replica.on_submit(peer, message, now_us)
            return
        refusal = "this node's certificate has no role submitter"
        self._roles.ctx.send(peer, Rejected(message.request, bytes(32), refusal))

    def _plays(self, peer: bytes, one_of: Role) -> bool:
        """Whether the peer's certificate grants one of the roles that its message is for; else it broke a rule."""
        roles = self._roles
        certified = roles.profile.roles if peer == roles.ctx.node_id else roles.connected.get(peer, Role(0))
        if certified & one_of:
            return True
        roles.ctx.limit(Limit.ROLE, peer)
        roles.ctx.penalise(peer, Reason.NOT_ADMITTED)
        return False

    def _on_steal(self, peer: bytes, message: Steal, now_us: int) -> None:
        """A replica gives free tasks, a worker unstarted ones; else the thief is parked or refused."""
        roles = self._roles
        if peer != roles.ctx.node_id:
            if peer not in roles.connected:
                return
            if not self._plays(peer, Role.WORKER):
                return
        if peer in roles.ctx.convicted:
            roles.ctx.send(peer, Refused(message.request, "this node was found lying"))
            return
        if roles.replica.turns.must_wait(peer, message, self._offered_us, self._coldest_mkh, now_us):
            return
        self._serve(peer, message, now_us)

    def _offered_us(self) -> int:
        return self._roles.replica.offered_us() + self._roles.worker.queue_us()

    def _coldest_mkh(self, thief: bytes) -> int:
        """Of those that say that they could start work now, but for the thief."""
        peers = self._roles.heat.coldest(exclude=thief)
        return urgency_mkh(peers[0].discomfort_mkh, 0) if peers else 0

    def serve_waiting(self, now_us: int) -> None:
        """A window is over in which several asked."""
        roles = self._roles
        for peer, message in roles.replica.turns.due(now_us, roles.members.rtt_us):
            if peer == roles.ctx.node_id or peer in roles.connected:
                self._serve(peer, message, now_us)

    def _serve(self, peer: bytes, message: Steal, now_us: int) -> None:
        """Of what it keeps and what it has queued, what goes first; of equals what it keeps."""
        roles = self._roles
        queued = roles.worker.best_queued(peer, message) if peer != roles.ctx.node_id else None
        if roles.replica.grant(peer, message, now_us, at_worst=queued):
            return
        if queued is not None:
            # What lies free here may go before the rest of the queue.
            given = roles.worker.give(peer, message, at_worst=queued if roles.replica.free_tasks() else None)
            if given is not None:
                roles.replica.turns.served(peer, now_us)
                roles.ctx.send(peer, given)
                roles.worker.publish_heat(now_us)
                return
            if roles.replica.grant(peer, message, now_us):
                return
        roles.replica.refuse(peer, message, now_us)

    def _on_delivery(self, peer: bytes, message: Delivery, now_us: int) -> None:
        """Both the follower and the replica of a job may be this node."""
        roles = self._roles
        try:
            header = open_record(message.header)
        except RecordError:
            roles.ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return
        if header.kind is not RecordKind.BATCH:
            roles.ctx.penalise(peer, Reason.MALFORMED)
            return
        followed = roles.submitter.on_delivery(peer, message, header, now_us)
        if not followed or header.body.job_id in roles.replica.jobs:
            roles.replica.on_delivery(peer, message, header, now_us)

    def _on_records(self, peer: bytes, message: Records, now_us: int) -> None:
        roles = self._roles
        roles.replica.on_records(peer, message, now_us)
        roles.submitter.on_records(message, now_us)
        if roles.worker.view(message.job_id) is None:
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
                roles.worker.on_cancelled(record)
            else:
                roles.worker.learn_replica_set(record, now_us)
        roles.worker.pump(now_us)

    def _on_announce(self, peer: bytes, message: Announce, now_us: int) -> None:
        roles = self._roles
        for raw in message.records:
            try:
                record = open_record(raw)
            except RecordError:
                roles.ctx.penalise(peer, Reason.BAD_SIGNATURE)
                return
            if record.kind is RecordKind.JOB_DIGEST and roles.cell.holds(record.author):
                roles.tables.merge(raw, peer, now_us)
            elif record.kind is RecordKind.JOB_DIGEST:
                if roles.aggregates.take(raw, 0, peer, now_us):
                    roles.thief.on_news(record.author)
                    roles.worker.pump(now_us)
            elif record.kind is RecordKind.CANCELLATION:
                self._on_records(peer, Records(record.body.job_id, (raw,)), now_us)
