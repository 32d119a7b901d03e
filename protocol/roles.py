"""The machines of one node, made and wired to each other; they decide nothing here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..crypto.certificates import CertificateError, MembershipPolicy, Role
from ..crypto.identity import Identity
from .aggregates import Aggregates
from .cells import Cell
from .config import SECOND, ProtocolConfig
from .context import Context, Randomness
from .effects import LearnAddress, Persist, Reason
from .heat import HeatBoard
from .membership import Membership
from .presence import NodeProfile, Presence, serves
from .records import HeatDigest, JobDigest, MemberRecord, Record, RecordKind
from .replica import Replica
from .seeking import Seeker
from .submitter import Submitter
from .tables import Tables
from .thief import Thief
from .verification.court import Court
from .verification.trust import TrustBook
from .vouching import same_household
from .worker import Worker
from .zones import Zones

REVOCATION_ROW = 111
_NEVER_S = 1 << 62


class Roles:
    """See the module. connected: peers with a link, and the roles that their certificates have."""

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
        self.ctx = Context(
            identity,
            config,
            rng,
            policy=policy,
            certificate=certificate,
            wall_offset_us=wall_offset_us,
            born_us=incarnation,
        )
        self.profile = profile
        self.incarnation = incarnation
        self.cell = Cell(self.ctx.node_id, config)
        self.members = Membership(self.ctx, incarnation, self.cell)
        self.tables = Tables(self.ctx, self._on_row, self._admits_row, self._wants_row, self.cell)
        self.tables.on_own = self._on_own_row
        self.tables.on_depth = self.review_cell
        self.presence = Presence(self.ctx, self.tables, profile)
        self.heat = HeatBoard(self.ctx, self.tables, incarnation)
        self.replica = Replica(self.ctx, self.members, self.tables)
        self.replica.keeps_jobs = bool(profile.roles & Role.REPLICA)
        self.thief = Thief(self.ctx, self.members, self.tables, self.heat)
        self.worker = Worker(self.ctx, self.members, self.tables, self.heat, self.thief)
        self.worker.memory_bytes = profile.memory_bytes
        self.worker.native_commands = profile.native_commands
        self.worker.wasm = profile.wasm
        self.trust = TrustBook()
        runs_wasm = profile.wasm and bool(profile.roles & Role.WORKER)
        self.court = Court(self.ctx, can_run=runs_wasm, sees_nans=profile.sees_nans)
        self.submitter = Submitter(self.ctx, self.members, self.tables, self.trust, self.court)
        self.seeker = Seeker(self.ctx, self.members, self.tables)
        self.seeker.on_reached = self._on_reached
        self.aggregates = Aggregates(self.ctx, self.members, self.tables, self.heat)
        self.aggregates.knows = self.seeker.can_reach
        self.zones = Zones(self.ctx, self.members, self.tables, self.seeker, profile.zone)
        self.thief.far = _FarWork(self.aggregates, self.seeker)
        self.tables.is_busy = lambda: self.busy
        self.connected: dict[bytes, Role] = {}
        # When the first of the certificates runs out that members showed.
        self._first_expiry_s = _NEVER_S

    def _offer(self, commands: tuple[str, ...], machine: str, builds: tuple[bytes, ...]) -> None:
        profile = replace(self.profile, native_commands=commands, machine=machine, builds=builds)
        self.profile = self.presence.profile = profile
        self.worker.native_commands = commands

    @property
    def busy(self) -> bool:
        """Whether this node has something to look after with each interval of its tables."""
        return bool(self.replica.open_jobs or self.members.unknown() or self.worker.draining)

    def zone_mates(self) -> list[HeatDigest]:
        """What the other workers said last that heat the same sink, and are alive and here to stay; by node.

        A zone is one household's: a name that another owner's nodes use, or those of another site, is another zone.
        """
        certificate = self.ctx.certificate
        named = self._of_zones_name()
        mates = {each.node: None for each in named if same_household(each.certificate, certificate)}
        if not mates:
            return []
        return [
            digest
            for digest in self.heat.peers()
            if digest.node in mates and not digest.draining and self.members.is_alive(digest.node)
        ]

    def zone_strangers(self) -> list[MemberRecord]:
        """Those alive in this cell that use this node's zone's name and are of another owner or site."""
        own, certificate = self.ctx.node_id, self.ctx.certificate
        named = [each for each in self._of_zones_name() if each.node != own and self.members.is_alive(each.node)]
        return [each for each in named if not same_household(each.certificate, certificate)]

    def _of_zones_name(self) -> list[MemberRecord]:
        """This node included."""
        members: list[MemberRecord] = [record.body for record in self.tables.rows(RecordKind.MEMBER)]
        return [each for each in members if each.zone == self.profile.zone] if self.profile.zone else []

    # -- rows ----------------------------------------------------------------------------------------------

    def _wants_row(self, record: Record) -> bool:
        """Rows of this cell; of others the member records of those that are kept in mind, and zone mates' heat.

        Digests only of who has shown a certificate: anybody can sign in an invented name.
        """
        if record.kind is not RecordKind.MEMBER and self.tables.get(RecordKind.MEMBER, record.author) is None:
            return False
        if self.cell.holds(record.author):
            return True
        if record.kind is RecordKind.HEAT:
            return self.zones.is_mate(record.author)
        if record.kind is not RecordKind.MEMBER:
            return False
        known = self.members.status(record.author) is not None
        return known or self.members.circle.welcomes(record.author, serves(record.body.roles))

    def _on_reached(self, node: bytes, now_us: int) -> None:
        """Where a far replica is, that has work."""
        self.thief.on_news(node)
        self.worker.pump(now_us)

    def _admits_row(self, record: Record, now_us: int) -> bool | None:
        """A member record must show a certificate that grants the roles it claims; nobody can invent members.

        None: not now, by a clock that may be wrong.
        """
        if record.kind is not RecordKind.MEMBER:
            return True
        member: MemberRecord = record.body
        try:
            found = self.ctx.check(member.certificate, member.node, member.roles, now_us)
        except CertificateError as error:
            return None if error.reason.depends_on_clock else False
        self._first_expiry_s = min(self._first_expiry_s, found.not_after_s)
        return True

    def _on_row(self, record: Record, now_us: int) -> None:
        """A digest or member record that is news."""
        if record.kind is RecordKind.MEMBER:
            member: MemberRecord = record.body
            self.ctx.emit(LearnAddress(member.node, member.addresses, member.relays))
            self.members.learn(member.node, member.incarnation, now_us, serves=serves(member.roles))
            self.replica.on_member(now_us)
        elif record.kind is RecordKind.JOB_DIGEST:
            self.replica.on_digest(record.body)
            if record.body.free_tasks:
                self.thief.on_news(record.author)
                self.worker.pump(now_us)
        elif record.body.queue_us > 2 * self.ctx.config.batch_target_us:
            self.thief.on_sight(now_us)

    def _on_own_row(self, record: Record, now_us: int) -> None:
        """A row that this node signed, and not in this life."""
        self.members.lived(record.body.incarnation, now_us)

    def drop_expired(self, now_us: int) -> None:
        """Forget the rows of those whose certificate ran out, if any can have."""
        if self.ctx.wall_us(now_us) // SECOND > self._first_expiry_s:
            self.drop_unadmitted(now_us)

    def drop_unadmitted(self, now_us: int) -> None:
        """Forget the rows of those whose certificate was revoked or ran out."""
        self._first_expiry_s = _NEVER_S
        for record in list(self.tables.rows(RecordKind.MEMBER)):
            if record.author != self.ctx.node_id and not self._admits_row(record, now_us):
                self.tables.forget_node(record.author, now_us)

    def review_cell(self, now_us: int) -> None:
        """Look whether this node's cell is another one by now, and if so keep that one's rows and members."""
        moved = self.members.review(self.tables.depths, now_us)
        if moved:
            self.tables.prune()
            self.ctx.notify("cell.changed", depth=self.cell.depth, nodes=self.members.cell_nodes)
        if moved or self.members.turned_away:
            self._take_in(now_us)

    def _take_in(self, now_us: int) -> None:
        """Nodes of this cell that it knows of and that are no members yet: when they were heard of, the cell was
        another one, or there was no room. What is known is not told again.
        """
        self.members.turned_away = False
        known = {node: (0, serves(int(roles))) for node, roles in self.connected.items()}
        for record in self.tables.rows(RecordKind.MEMBER):
            known[record.author] = record.body.incarnation, serves(record.body.roles)
        for node, (incarnation, useful) in known.items():
            if self.cell.holds(node) and self.members.status(node) is None:
                self.members.learn(node, incarnation, now_us, serves=useful)

    # -- revocations ---------------------------------------------------------------------------------------

    def take_revocations(self, revocation_list: bytes, now_us: int, peer: bytes = b"") -> bool:
        """Apply an authority's list; links to nodes that enough of them revoke are closed. True if it was news."""
        try:
            news = self.ctx.policy.add_revocations(revocation_list)
        except CertificateError:
            if peer not in (b"", self.ctx.node_id):
                self.ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return False
        if news:
            self.drop_unadmitted(now_us)
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
