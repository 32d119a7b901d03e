"""Who is alive: SWIM's probes and rumours, with Lifeguard's care for slow nodes.

Every probe interval one member of the view is pinged, directly and then through others. Silence makes it
suspect, and a suspect that doesn't speak up in time is dead. Any word from it clears it here; a higher
incarnation, which only it gives out, clears it everywhere. Rumours ride on pings and acks. A rumour never
adds a member: only `learn` (a verified record) and `connected` do. What a rumour says of a peer that can be
asked directly is checked, not believed. Members are the nodes of the cell, contacts in the others, replicas of jobs
that concern this node, and whoever has a link (`circle.py`).

Sources: Das et al., SWIM (2002); Dadgar et al., Lifeguard (2017).
"""

from __future__ import annotations

from functools import partial

from .cells import Cell, Depths
from .context import Context
from .effects import Connect, Disconnect, TimerKey
from .liveness import (
    LONG_AGO_US,
    TRANSITIONS,
    Finding,
    Member,
    Status,
    suspicion_timeout_us,
)
from .messages import Ack, IndirectAck, Leaving, MemberState, Ping, PingRequest
from .probing import Probes
from .roster import INCARNATION_MAX, Roster

__all__ = ["TRANSITIONS", "Finding", "Membership", "Status", "suspicion_timeout_us"]

# How far a rumour may raise an incarnation beyond what its node said itself, whatever the clock shows; its own word has
# no such bound.
INCARNATION_SLACK = 64
# Suspicions that we found ourselves are told to so many at once, instead of with the next pings.
ALARMS = 3
# One interval in so many one of the dead is dialled, for as long as it is remembered.
DEAD_EVERY = 8
# So many probes in a row at which all was quiet make a node rest.
QUIET_PROBES = 2
# Who has spoken since was not silent when its link ended, but closed it: the transport waits longer.
SPOKE_US = 2_000_000
# One that is sought in vain so often, over the longest suspicion at least, is given up.
MISSES_MAX = 3
# One in so many members may be there because it is watched.
WATCHED_SHARE = 4


class Membership(Roster):
    """One node's opinion of the others."""

    def __init__(self, ctx: Context, incarnation: int, cell: Cell | None = None) -> None:
        """incarnation: higher than in any earlier life of this node."""
        super().__init__(ctx, cell or Cell(ctx.node_id, ctx.config))
        self.incarnation = incarnation
        self._refuted_count = 0
        self._probes = Probes(ctx, self)
        self._next_probe_us = 0
        self._quiet = 0
        self._blamed_us = LONG_AGO_US
        self._running = False
        # The choice of the view after which those were let go that are of no concern; -1: a link has ended since.
        self._settled_at = -1

    # -- questions ---------------------------------------------------------------------------------------

    @property
    def health(self) -> int:
        """Lifeguard's score of this node itself; 0 is well, `local_health_max` - 1 the worst."""
        return self._probes.health

    @property
    def refuted_count(self) -> int:
        """How often this node had to say that it lives."""
        return self._refuted_count

    @property
    def view(self) -> list[bytes]:
        """The members that this node probes, sorted: at most `active_view_max` of the cell, contacts, and replicas."""
        return list(self._view.nodes)

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        self._running = True
        # A random phase, so that nodes that start together don't probe together.
        self._schedule_probe(now_us + 1 + self._ctx.rng.randrange(self._ctx.config.probe_interval_us))

    def stop(self, now_us: int) -> None:
        """No more timers, pings and refutations; questions are still answered."""
        self._running = False
        self._ctx.cancel_timer(("probe", b""))
        self._probes.void()
        for member in self._members.values():
            if member.status is Status.SUSPECT:
                self._ctx.cancel_timer(("suspicion", member.node))

    # -- evidence -----------------------------------------------------------------------------------------

    def learn(self, node: bytes, incarnation: int, now_us: int, serves: bool = True) -> None:
        """A verified record by the node about itself.

        serves: False for clients, which come and go unwatched unless they concern this node.
        """
        if node == self._ctx.node_id:
            return
        member = self._members.get(node)
        if member is None:
            if not (node in self._connected or self.circle.welcomes(node, serves)):
                return
            member = self._admit(node, incarnation, now_us)
            if member is None:
                return
        else:
            self._said(member, incarnation)
            if incarnation > member.incarnation:
                self._renew(member, incarnation, now_us)
            elif member.status is Status.UNKNOWN:
                self._change(member, Finding.ANSWERED, now_us)
        if not member.here:
            return
        if serves != member.serves:
            member.serves = serves
            self._view.stale = True

    def fill_view(self) -> None:
        """Watch whom this event brought, while there are few: once for all of them, since each is asked for a link."""
        if self._running:
            self._view.fill()

    def watch(self, nodes: dict[bytes, None], now_us: int) -> None:
        """The replicas that concern this node, all of them: known or not, they are members from now on, and probed."""
        most = self._ctx.config.members_max // WATCHED_SHARE
        wanted = dict.fromkeys([node for node in nodes if node != self._ctx.node_id][:most])
        if wanted.keys() == self.circle.watched.keys():
            return
        for node in [node for node in self.circle.watched if node not in wanted]:
            member = self._members[node]
            member.watched = False
            if member.status is Status.UNKNOWN:
                self._forget(member)
        self.circle.watched = {}
        for node in wanted:
            # First, since visitors make room only for those that are.
            self.circle.watched[node] = None
            if node not in self._members and self._admit(node, 0, now_us, Status.UNKNOWN) is None:
                del self.circle.watched[node]
                continue
            self._members[node].watched = True
        self._view.stale = True
        self._view.refresh()

    def missed(self, node: bytes, now_us: int) -> None:
        """Nobody knew it whom we asked, and they should have."""
        member = self._members.get(node)
        if member is None or member.status is not Status.UNKNOWN:
            return
        member.misses += 1
        if member.misses >= MISSES_MAX and now_us - member.changed_us >= self._ctx.config.suspicion_max_us:
            self._change(member, Finding.MISSED, now_us)

    def review(self, depths: Depths, now_us: int) -> bool:
        """Whether the own cell is another one from now on. depths: of linked peers."""
        half, other = self.halves
        if not self.cell.review(half + other, half, depths, now_us):
            return False
        self._view.stale = True
        self._view.refresh()
        self._let_go()
        return True

    def connected(self, peer: bytes, now_us: int) -> None:
        """An admitted peer has a link."""
        if peer == self._ctx.node_id:
            return
        self._connected[peer] = None
        if peer not in self._members:
            self._admit(peer, 0, now_us)
        self.heard(peer, now_us)
        silent = self._view.longest_silent(now_us)
        if silent is not None:
            # With a word, by which it knows that nobody is silent here.
            self._ctx.send(silent, Ack(0, self.incarnation, ()))
            self._ctx.emit(Disconnect(silent, "room for others"))

    def lost(self, peer: bytes, reset: bool, now_us: int) -> None:
        """The link ended.

        reset: by the other side, as a killed process does: reason enough to suspect it and to ask others. One that just
        ended may have been silent for too long: whoever is watched is asked at once.
        """
        self._connected.pop(peer, None)
        self._settled_at = -1
        self._probes.unreachable(peer, now_us)
        member = self._members.get(peer)
        if member is None or not member.probed or not self._running:
            return
        if not reset:
            silent = now_us - member.heard_us >= SPOKE_US
            if silent and member.status is Status.ALIVE and peer in self._view.nodes:
                self._probes.start(peer, now_us)
            return
        if member.status is Status.ALIVE:
            self._suspect(member, self._ctx.node_id, now_us, shortest=True)
        if member.status is Status.SUSPECT:
            self._probes.start(peer, now_us, at_once=True)

    def unreachable(self, peer: bytes, now_us: int) -> None:
        """A link could not be made."""
        self._connected.pop(peer, None)
        self._settled_at = -1
        self._probes.unreachable(peer, now_us)

    def heard(self, peer: bytes, now_us: int) -> None:
        """Any message of a connected peer. Costs a look-up unless the peer was in doubt."""
        member = self._members.get(peer)
        if member is None or peer not in self._connected:
            return
        member.heard_us = now_us
        if member.status is Status.ALIVE:
            return
        if member.status is Status.UNKNOWN:
            self._change(member, Finding.ANSWERED, now_us)
            return
        doubt = _state_of(member)
        self._change(member, Finding.ANSWERED, now_us)
        # Others go on doubting it until it says so itself, under a new incarnation.
        self._tell(member, doubt, now_us)

    def measured(self, target: bytes, rtt_us: int) -> None:
        """A ping of this node's was answered after so long."""
        member = self._members.get(target)
        if member is not None:
            member.rtt_us = (7 * member.rtt_us + rtt_us) // 8 if member.rtt_us else max(1, rtt_us)

    def answered(self, target: bytes, incarnation: int, direct: bool, now_us: int) -> None:
        """A probe's good end. direct: by its own word, else by a helper's."""
        member = self._members.get(target)
        if member is None:
            return
        if direct:
            member.heard_us = now_us
            self._said(member, incarnation)
        if member.incarnation < incarnation <= (INCARNATION_MAX if direct else self._latest(member, now_us)):
            self._renew(member, incarnation, now_us)
        elif member.status in (Status.SUSPECT, Status.UNKNOWN):
            self._change(member, Finding.ANSWERED, now_us)

    def silent(self, target: bytes, since_us: int, now_us: int) -> None:
        """A probe's bad end; it was begun at since_us."""
        member = self._members.get(target)
        if member is None or not member.probed or member.heard_us > since_us:
            return
        news = self._ctx.node_id not in member.accusers
        self._suspect(member, self._ctx.node_id, now_us)
        if news and member.status is Status.SUSPECT:
            self._alarm(member)

    # -- messages -----------------------------------------------------------------------------------------

    def on_message(self, peer: bytes, message: Ping | Ack | PingRequest | IndirectAck | Leaving, now_us: int) -> None:
        match message:
            case Ping():
                self._absorb(peer, message.rumours, now_us)
                if self._running:
                    self._ctx.send(peer, Ack(message.request, self.incarnation, self.rumours_for(peer)))
            case Ack():
                self._probes.on_ack(peer, message, now_us)
                self._absorb(peer, message.rumours, now_us)
            case PingRequest():
                self._absorb(peer, message.rumours, now_us)
                if self._running:
                    known = message.target in self._members
                    self._probes.on_ping_request(peer, message, known, now_us)
            case IndirectAck():
                self._probes.on_indirect_ack(peer, message, now_us)
            case Leaving():
                self._on_leaving(peer, message.incarnation, now_us)

    def _on_leaving(self, peer: bytes, incarnation: int, now_us: int) -> None:
        member = self._members.get(peer)
        if member is not None and member.incarnation <= incarnation <= INCARNATION_MAX:
            member.incarnation = incarnation
            self._said(member, incarnation)
            self._change(member, Finding.DEPARTED, now_us)

    # -- rumours ------------------------------------------------------------------------------------------

    def rumours_for(self, peer: bytes, doubt: MemberState | None = None) -> tuple[MemberState, ...]:
        """What to tell a peer along with a message.

        doubt: what it must hear, by default what this node itself doubts of it.
        """
        member = self._members.get(peer)
        if doubt is None and member is not None and member.status not in (Status.ALIVE, Status.UNKNOWN):
            doubt = _state_of(member)
        if not self.cell.holds(peer):
            return (doubt,) if doubt else ()
        return self._rumours.take(self._view.live_count, doubt)

    def _absorb(self, peer: bytes, rumours: tuple[MemberState, ...], now_us: int) -> None:
        if not self._running:
            return
        for rumour in rumours:
            member = self._members.get(rumour.node)
            if rumour.node == self._ctx.node_id:
                self._refute(rumour, now_us)
            elif member is not None and member.status is not Status.UNKNOWN:
                if member.incarnation <= rumour.incarnation <= self._latest(member, now_us):
                    self._weigh(member, rumour, peer, now_us)

    def _latest(self, member: Member, now_us: int) -> int:
        """The highest incarnation of it that hearsay may tell of.

        One that came back since has that of its new life: when it began, which nobody may set later than now. Who has
        not said yet under which it lives is to say so first.
        """
        latest = member.said + INCARNATION_SLACK
        if member.said:
            latest = max(latest, self._ctx.wall_us(now_us))
        return min(latest, INCARNATION_MAX)

    def _weigh(self, member: Member, rumour: MemberState, peer: bytes, now_us: int) -> None:
        """A rumour of the incarnation that we know, or a little later one."""
        if rumour.incarnation > member.incarnation:
            self._renew(member, rumour.incarnation, now_us)
        if rumour.state == Status.ALIVE or not member.here or member.node == peer:
            return
        alive = member.status is Status.ALIVE
        own_echo = rumour.accuser == self._ctx.node_id
        if alive and (own_echo or self._heard_lately(member, now_us)):
            self._tell(member, rumour, now_us)
        elif rumour.state == Status.SUSPECT or (alive and member.node in self._connected):
            self._look(member, rumour, peer, now_us)
        else:
            finding = Finding.BURIED if rumour.state == Status.DEAD else Finding.DEPARTED
            self._change(member, finding, now_us)

    def _heard_lately(self, member: Member, now_us: int) -> bool:
        """Whether its own word, over its own link, outweighs what others say."""
        fresh_us = self._ctx.config.probe_interval_us + self._ctx.config.probe_timeout_us
        return member.node in self._connected and now_us - member.heard_us < fresh_us

    def _look(self, member: Member, rumour: MemberState, peer: bytes, now_us: int) -> None:
        """Take up another's suspicion and look for ourselves. A death that we can check is a strong
        suspicion."""
        news = member.status is Status.ALIVE
        accuser = rumour.accuser if self.is_alive(rumour.accuser) else peer
        self._suspect(member, accuser, now_us, shortest=rumour.state != Status.SUSPECT)
        if news and (member.node in self._connected or member.node in self._view.nodes):
            self._probes.start(member.node, now_us)

    def _refute(self, rumour: MemberState, now_us: int) -> None:
        """Answer a doubt about this node by a higher incarnation; also the life of a former one, if that comes after.

        That another process with its key lives is no doubt: the two would outbid each other for ever.
        """
        told = rumour.incarnation
        if told < self.incarnation or (told > self.incarnation and not self._may_have_lived(told)):
            return
        if rumour.state == Status.ALIVE and (told == self.incarnation or not self._ctx.is_former(told, now_us)):
            return
        self._refuted_count += 1
        # We may be slow; but accusers can't slow us by more than one step an interval.
        if now_us - self._blamed_us >= self._ctx.config.probe_interval_us:
            self._blamed_us = now_us
            self._probes.worsen()
        self._outlive(told, now_us)

    def _may_have_lived(self, incarnation: int) -> bool:
        """Whether an honest member may take this node to live, or to have lived, under an incarnation above its own.

        The hearer's clock bounds what it believes of others (`_latest`), and by no member's clock has this node's
        certificate run out. This node's own clock is no bound: it may be behind, or have been set back.
        """
        return incarnation <= self.incarnation + INCARNATION_SLACK or incarnation < self._ctx.admitted_until_us()

    def lived(self, incarnation: int, now_us: int) -> None:
        """This node itself signed under that incarnation: if in a life before this one, it comes after.

        And not before what it would have had with its clock right from the start: another process with its key takes
        that for what it is, and the two do not outbid each other.
        """
        if not self._running or not self.incarnation < incarnation < INCARNATION_MAX:
            return
        if self._ctx.is_former(incarnation, now_us):
            self._outlive(max(incarnation, self._ctx.born_us() - 1), now_us)

    def _outlive(self, incarnation: int, now_us: int) -> None:
        self.incarnation = incarnation + 1
        self._rumours.add(MemberState(self._ctx.node_id, self.incarnation, int(Status.ALIVE)))
        self._hurry(now_us)

    def _tell(self, member: Member, doubt: MemberState, now_us: int) -> None:
        """Tell a member what is said of it, so that it can refute it; at most once an interval."""
        if self._running and now_us - member.told_us >= self._ctx.config.probe_interval_us:
            member.told_us = now_us
            self._probes.start(member.node, now_us, doubt=doubt)

    def _alarm(self, suspect: Member) -> None:
        """Tell a few at once, so that they look for themselves, and confirm or deny it soon."""
        for peer in self._ctx.sample(self.helpers_beside(suspect.node), ALARMS):
            self._ctx.send(peer, Ping(self._ctx.next_request(), self.rumours_for(peer, _state_of(suspect))))

    def helpers_beside(self, target: bytes) -> list[bytes]:
        """Watched members with a link, that could help to reach another: one of the cell nobody outside knows."""
        linked = [self._members[peer] for peer in self._connected if peer in self._members]
        if self.cell.holds(target):
            linked = [member for member in linked if self.cell.holds(member.node)]
        return [each.node for each in linked if each.node != target and each.probed and each.status is Status.ALIVE]

    # -- timers -------------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        """Keys: ("probe", b""), ("probe-timeout", number of the request), ("suspicion", node)."""
        if not self._running:
            return
        name, argument = key
        if name == "probe":
            self._on_probe_due(now_us)
        elif name == "probe-timeout":
            request = int.from_bytes(argument, "big")
            due_us = self._probes.due_us(request)
            if due_us is not None and due_us <= now_us and not self._overslept(due_us, now_us):
                self._probes.on_timeout(request, now_us)
        elif name == "suspicion":
            member = self._members.get(argument)
            if member is None or member.status is not Status.SUSPECT or now_us < member.deadline_us:
                return
            if not self._overslept(member.deadline_us, now_us):
                self._change(member, Finding.EXPIRED, now_us)

    def _on_probe_due(self, now_us: int) -> None:
        if now_us < self._next_probe_us:
            return
        self._overslept(self._next_probe_us, now_us)
        self._quiet = self._quiet + 1 if self._is_quiet() else 0
        self._schedule_probe(now_us + self._pace_us())
        self._forget_old(now_us)
        self._view.refresh()
        if self.cell.depth and self._settled_at != self._view.choices:
            self._settled_at = self._view.choices
            self._let_go()
        self._view.close_idle_links(now_us)
        target = self._view.next_target(partial(self._is_worth_asking, now_us))
        if target is not None:
            self._probes.start(target, now_us)
        self._look_for_the_dead()

    def _look_for_the_dead(self) -> None:
        """Now and then a link to one that was given up: after a long partition each half takes the other for dead."""
        if self._ctx.rng.randrange(max(1, DEAD_EVERY // self._slowness())) == 0:
            dead = [each.node for each in self._members.values() if each.status is Status.DEAD and each.probed]
            for node in self._ctx.sample(dead, 1):
                self._ctx.emit(Connect(node))

    def _is_quiet(self) -> bool:
        """Whether there is nobody to clear, nothing to tell, and a link to everybody who is watched."""
        if self._rumours or self.health:
            return False
        linked = all(node in self._connected or not self.is_alive(node) for node in self._view.nodes)
        return linked and not any(member.status is Status.SUSPECT for member in self._members.values())

    def _slowness(self) -> int:
        """Intervals between two probes: more with each at which all was quiet, up to `rest_factor`."""
        return min(self._ctx.config.rest_factor, 1 << max(0, min(self._quiet, 16) - QUIET_PROBES + 1))

    def _pace_us(self) -> int:
        return self._ctx.config.probe_interval_us * (self._slowness() + self.health)

    def _hurry(self, now_us: int) -> None:
        """There is something to tell, or somebody in doubt: at rest no longer."""
        self._quiet = 0
        interval_us = self._ctx.config.probe_interval_us
        if self._running and self._next_probe_us - now_us > interval_us * (1 + self.health):
            self._schedule_probe(now_us + 1 + self._ctx.rng.randrange(interval_us))

    def _schedule_probe(self, at_us: int) -> None:
        self._next_probe_us = at_us
        self._ctx.set_timer(("probe", b""), at_us)

    def _is_worth_asking(self, now_us: int, node: bytes) -> bool:
        return self.is_alive(node) and not self._need_not_ask(self._members[node], now_us)

    def _need_not_ask(self, member: Member, now_us: int) -> bool:
        """A member that sent anything within the interval lives; but probes also carry rumours, and show that this
        node itself is well again. Contacts are asked by what cells tell each other, and only if that failed."""
        config = self._ctx.config
        silent_us = now_us - member.heard_us
        if member.status is Status.ALIVE and self.circle.is_contact(member.node):
            return silent_us < 2 * config.rest_factor * config.cell_interval_us
        spoke = member.status is Status.ALIVE and silent_us < config.probe_interval_us * self._slowness()
        return spoke and member.node in self._connected and not self._rumours and not self.health

    def _overslept(self, due_us: int, now_us: int) -> bool:
        """Whether this node itself was frozen or starved; then nobody else is to blame for silence.

        If so, all suspicions begin anew, and the probes on their way are void.
        """
        if now_us - due_us <= 2 * self._ctx.config.probe_interval_us:
            return False
        self._probes.worsen()
        self._probes.void()
        for member in self._members.values():
            if member.status is Status.SUSPECT:
                member.suspected_us = now_us
                self._set_deadline(member, now_us)
        return True

    # -- changes ------------------------------------------------------------------------------------------

    def _suspect(self, member: Member, accuser: bytes, now_us: int, *, shortest: bool = False) -> None:
        """shortest: the evidence is strong, so wait no longer than one must."""
        if member.status is Status.ALIVE:
            own = accuser == self._ctx.node_id
            self._change(member, Finding.SILENT if own else Finding.ACCUSED, now_us)
            member.suspected_us = now_us
            member.shortest = shortest
        elif member.status is not Status.SUSPECT or accuser in member.accusers:
            return
        if len(member.accusers) <= self._ctx.config.suspicion_accusers:
            member.accusers[accuser] = None
            self._spread(MemberState(member.node, member.incarnation, int(Status.SUSPECT), accuser), now_us)
            self._set_deadline(member, now_us)

    def _set_deadline(self, member: Member, now_us: int) -> None:
        config = self._ctx.config
        timeout_us = suspicion_timeout_us(self._view.live_count, len(member.accusers) - 1, config)
        if member.shortest:
            timeout_us = config.suspicion_min_us
        member.deadline_us = max(now_us, member.suspected_us + timeout_us)
        self._ctx.set_timer(("suspicion", member.node), member.deadline_us)

    def _renew(self, member: Member, incarnation: int, now_us: int) -> None:
        """A higher incarnation: whatever was said of the one before is void."""
        if incarnation > INCARNATION_MAX:
            return
        member.incarnation = incarnation
        self._spread(MemberState(member.node, incarnation, int(Status.ALIVE)), now_us)
        self._change(member, Finding.RENEWED, now_us)

    @staticmethod
    def _said(member: Member, incarnation: int) -> None:
        """Its own word: it lives under this one."""
        member.said = min(max(member.said, incarnation), INCARNATION_MAX)

    def _change(self, member: Member, finding: Finding, now_us: int) -> None:
        """Apply a finding; those that the table doesn't list change nothing."""
        status = TRANSITIONS.get((member.status, finding))
        if status is None:
            return
        if member.status is Status.SUSPECT:
            self._ctx.cancel_timer(("suspicion", member.node))
            member.accusers.clear()
            # In doubt it was kept, whoever it is: it is looked at again.
            self._settled_at = -1
        if finding is Finding.ANSWERED:
            self._rumours.forget(member.node)
        was_here = member.here
        member.status = status
        member.changed_us = now_us
        self._changes.append((member.node, status))
        if member.here is not was_here:
            self._recount()
        if not member.here and finding is not Finding.MISSED:
            self._spread(MemberState(member.node, member.incarnation, int(status)), now_us)

    def _spread(self, rumour: MemberState, now_us: int) -> None:
        """Tell the cell of one of its own; of others it knows nothing."""
        if self.cell.holds(rumour.node):
            self._rumours.add(rumour)
        self._hurry(now_us)


def _state_of(member: Member) -> MemberState:
    accuser = next(iter(member.accusers), b"") if member.status is Status.SUSPECT else b""
    return MemberState(member.node, member.incarnation, int(member.status), accuser)
