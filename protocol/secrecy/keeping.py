"""A replica's share of a confidential job's key: kept, released to workers, made anew for who takes a dead one's seat.

A share is on disk as it came, sealed to this node. It leaves only sealed to a worker that shows a grant whose lease is
live here, whose certificate meets what the job asks, and that keeps the job itself in no seat: so a replica sees no
key, unless another machine helps it to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...crypto.certificates import Role
from ...crypto.sealing import SealError
from ...crypto.sharing import add, part_for, share_place
from ..context import Context
from ..effects import Persist, Reason
from ..job_parts import RejectedRecord
from ..membership import Membership
from ..messages import KeyRefused, KeyShare, KeyWanted, ShareGiven, SharePart, ShareWanted
from ..placement import candidates_from, heirs
from ..records import MemberRecord, Record, RecordError, RecordKind, open_record
from ..tables import Tables
from .keys import open_secret, own_share, seal_secret, secret_bytes

if TYPE_CHECKING:
    from ..kept_job import KeptJob

# A share on disk, as it was sealed to this node.
SHARE_ROW = 114
# Rounds of share making that this node takes part in at a time; the oldest goes.
ROUNDS_MAX = 256
# Who takes a seat stands at most so far down the order of candidates, as a helper sees it: views differ a little.
HEIR_RANK_MAX = 3
HELPERS = 2

RoundKey = tuple[bytes, bytes, int]


@dataclass(slots=True)
class Round:
    """One making of a share, as a helper or the heir sees it. parts: what came, by its sender.

    rest: of a helper: its own part without what it gave the other; empty until it was asked.
    """

    helpers: tuple[bytes, bytes]
    rest: bytes = b""
    parts: dict[bytes, bytes] = field(default_factory=dict)


class ShareKeeper:
    """Sub-machine of a replica. merge(kept, record, sender, now_us): takes a checked record into a job's state."""

    def __init__(
        self,
        ctx: Context,
        members: Membership,
        tables: Tables,
        merge: Callable[[KeptJob, Record, bytes, int], bool],
    ) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._merge = merge
        self._rounds: dict[RoundKey, Round] = {}

    # -- keeping -------------------------------------------------------------------------------------------

    def opens(self, job_id: bytes, sealed: bytes) -> bool:
        """Whether what a submitter calls this node's share is one."""
        try:
            own_share(self._ctx, job_id, sealed)
        except SealError:
            return False
        return True

    def keep(self, kept: KeptJob, sealed: bytes) -> None:
        """A share that opens here: the submitter's, or one that was made where there was none.

        The submitter's replaces what is here: nobody can tell whether helpers made theirs rightly, and a damaged one
        opens to nothing.
        """
        job_id = kept.state.job_id
        if kept.state.spec.secrecy is None or not sealed or self._is_here(kept, sealed):
            return
        kept.share = sealed
        self._ctx.emit(Persist(job_id, SHARE_ROW, b"", sealed))
        self._ctx.notify("share.kept", job_id=job_id)

    def _is_here(self, kept: KeptJob, sealed: bytes) -> bool:
        job_id = kept.state.job_id
        try:
            return own_share(self._ctx, job_id, kept.share) == own_share(self._ctx, job_id, sealed)
        except SealError:
            return False

    def on_given(self, peer: bytes, message: ShareGiven, kept: KeptJob | None) -> None:
        if kept is None or self._ctx.node_id not in kept.state.replicas:
            return
        if peer != kept.state.submitter or not self.opens(message.job_id, message.sealed):
            self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
            return
        self.keep(kept, message.sealed)

    # -- releasing -----------------------------------------------------------------------------------------

    def on_wanted(self, peer: bytes, message: KeyWanted, kept: KeptJob | None, now_us: int) -> None:
        """Give the share to who may have it; else say why not."""
        reason = self._refusal(peer, message, kept, now_us)
        if reason or kept is None:
            self._ctx.notify("share.refused", job_id=message.job_id, node=peer, reason=str(reason))
            self._ctx.send(peer, KeyRefused(message.request, message.job_id, reason or Reason.UNKNOWN_JOB))
            return
        try:
            share = own_share(self._ctx, message.job_id, kept.share)
            sealed = seal_secret(self._ctx, peer, share.y, "key share", message.job_id)
        except SealError:
            self._ctx.send(peer, KeyRefused(message.request, message.job_id, Reason.NO_SHARE))
            return
        self._ctx.notify("share.released", job_id=message.job_id, node=peer)
        self._ctx.send(peer, KeyShare(message.request, message.job_id, sealed))

    def _refusal(self, peer: bytes, message: KeyWanted, kept: KeptJob | None, now_us: int) -> str:
        if kept is None:
            return Reason.UNKNOWN_JOB
        secrecy = kept.state.spec.secrecy
        try:
            grant = open_record(message.grant)
        except RecordError:
            self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return Reason.BAD_SIGNATURE
        if secrecy is None or grant.kind is not RecordKind.GRANT or grant.body.job_id != message.job_id:
            self._ctx.penalise(peer, Reason.MALFORMED)
            return Reason.MALFORMED
        if grant.body.holder != peer:
            self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
            return Reason.WRONG_AUTHOR
        if peer in self._ctx.convicted or not self._ctx.admitted(message.certificate, peer, Role.WORKER, now_us):
            return Reason.NOT_ADMITTED
        if kept.state.may_have_share(peer) or not secrecy.clears(peer, message.certificate):
            return Reason.NOT_CLEARED
        if kept.state.cancellation is not None or not self._is_live(kept, grant, peer, now_us):
            return Reason.STALE_EPOCH
        return "" if kept.share else Reason.NO_SHARE

    def _is_live(self, kept: KeptJob, grant: Record, peer: bytes, now_us: int) -> bool:
        """Whether the grant is good, and gives the peer a lease that runs here now. It may be news here."""
        try:
            kept.state.check_grant(grant)
        except RejectedRecord:
            return False
        self._merge(kept, grant, self._ctx.node_id, now_us)
        body = grant.body
        for lo, hi, mark in kept.state.leases.pieces(body.lo, body.hi):
            if mark is None or mark.holder != peer or mark.epoch != body.epoch or mark.released:
                continue
            live = [lease for _, _, lease in kept.ledger.live.pieces(lo, hi) if lease is not None]
            if any(lease.holder == peer and lease.expires_at_us > now_us for lease in live):
                return True
        return False

    # -- making a share for a newcomer ---------------------------------------------------------------------

    def ask_for_share(self, kept: KeptJob) -> None:
        """This node took a seat and has no share: two who have one make it together. Asked again with each tick."""
        me, state = self._ctx.node_id, kept.state
        if state.spec.secrecy is None or kept.share or me not in state.replicas:
            return
        others = [node for node in (*state.replicas, *state.former_replicas) if node != me]
        alive = [node for node in others if self._members.is_alive(node)]
        if len(alive) < HELPERS:
            return
        first, second = self._ctx.sample(alive, HELPERS)
        message = ShareWanted(state.job_id, self._ctx.rng.getrandbits(53), (first, second))
        self._round((state.job_id, me, message.round), message.helpers)
        for node in message.helpers:
            self._ctx.send(node, message)

    def on_share_wanted(self, peer: bytes, message: ShareWanted, kept: KeptJob | None, now_us: int) -> None:
        """As a helper: part of what this node puts in goes to the other helper, the rest stays until its piece came."""
        me, key = self._ctx.node_id, (message.job_id, peer, message.round)
        if kept is None or not kept.share or not self._may_help(kept, peer, message.helpers, now_us):
            return
        held = self._round(key, message.helpers)
        if held.rest or held.helpers != message.helpers:
            return
        other = message.helpers[0] if message.helpers[1] == me else message.helpers[1]
        places = share_place(message.job_id, other), share_place(message.job_id, peer)
        mask = secret_bytes(self._ctx)
        try:
            part = part_for(own_share(self._ctx, message.job_id, kept.share), *places)
            sealed = seal_secret(self._ctx, other, mask, "share part", message.job_id)
        except (SealError, ValueError):
            return
        held.rest = add(part, mask)
        self._ctx.send(other, SharePart(message.job_id, message.round, peer, message.helpers, sealed))
        self._finish(key, held)

    def _may_help(self, kept: KeptJob, heir: bytes, helpers: tuple[bytes, bytes], now_us: int) -> bool:
        """Whether the newcomer has its seat by right, as far as this node can tell by itself.

        One replica's signature puts anybody into a seat. Were that enough for a share, it could put in a friend, and
        they would have two. So nobody who lost a seat may be alive as this node sees it, and the heir has to be among
        the first in the order of candidates, which nobody chooses.
        """
        state, me = kept.state, self._ctx.node_id
        newest = state.replica_record
        if newest is None or heir not in state.replicas or me not in helpers or heir in helpers:
            return False
        if helpers[0] == helpers[1] or not all(map(state.was_replica, helpers)):
            return False
        if newest.author == state.submitter:
            return True
        if any(self._members.is_alive(node) for node in state.former_replicas):
            return False
        rows: list[MemberRecord] = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        alive = [row for row in rows if self._members.is_alive(row.node) or row.node == me]
        candidates = candidates_from(alive, self._ctx.wall_us(now_us) // 1_000_000)
        others = tuple(node for node in state.replicas if node != heir)
        return heir in heirs(state.job_id, others, candidates, HEIR_RANK_MAX)

    def on_share_part(self, peer: bytes, message: SharePart, kept: KeptJob | None) -> None:
        """A piece of the other helper's, or for a share of this node's own."""
        me = self._ctx.node_id
        if kept is None or kept.state.spec.secrecy is None or peer == me or peer not in message.helpers:
            return
        if message.heir != me and (me not in message.helpers or not kept.state.was_replica(peer)):
            return
        try:
            part = open_secret(self._ctx, message.sealed, "share part", message.job_id)
        except SealError:
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            return
        key = (message.job_id, message.heir, message.round)
        if message.heir == me:
            held = self._rounds.get(key)
            if held is not None and held.helpers == message.helpers:
                held.parts.setdefault(peer, part)
                self._inherit(key, held, kept)
            return
        held = self._round(key, message.helpers)
        if held.helpers == message.helpers:
            held.parts.setdefault(peer, part)
            self._finish(key, held)

    def _finish(self, key: RoundKey, held: Round) -> None:
        """As a helper that has the other's piece and was asked: the sum goes to the heir."""
        if not held.rest or not held.parts:
            return
        job_id, heir, number = key
        total = add(held.rest, *held.parts.values())
        held.parts.clear()
        try:
            sealed = seal_secret(self._ctx, heir, total, "share part", job_id)
        except SealError:
            return
        self._ctx.send(heir, SharePart(job_id, number, heir, held.helpers, sealed))

    def _inherit(self, key: RoundKey, held: Round, kept: KeptJob) -> None:
        if len(held.parts) < HELPERS or kept.share:
            return
        del self._rounds[key]
        share = add(*held.parts.values())
        self.keep(kept, seal_secret(self._ctx, self._ctx.node_id, share, "share", key[0]))

    def _round(self, key: RoundKey, helpers: tuple[bytes, bytes]) -> Round:
        held = self._rounds.get(key)
        if held is None:
            held = self._rounds[key] = Round(helpers)
            while len(self._rounds) > ROUNDS_MAX:
                del self._rounds[next(iter(self._rounds))]
        return held
