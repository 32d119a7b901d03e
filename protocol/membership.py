"""Who is alive: SWIM's probes and rumours, with Lifeguard's care for slow nodes.

Every probe interval one member of the view is pinged, directly and then through others. Silence makes it
suspect, and a suspect that doesn't speak up in time is dead. Any word from it clears it here; a higher
incarnation, which only it gives out, clears it everywhere. Rumours ride on pings and acks. A rumour never
adds a member: only `learn` (a verified record) and `connected` do. What a rumour says of a peer that can be
asked directly is checked, not believed.

Sources: Das et al., SWIM (2002); Dadgar et al., Lifeguard (2017).
"""

from __future__ import annotations

from hashlib import sha256

from .context import Context
from .effects import Connect, TimerKey
from .liveness import (
    LONG_AGO_US,
    TRANSITIONS,
    Finding,
    Member,
    Status,
    choose_view,
    suspicion_timeout_us,
)
from .messages import Ack, IndirectAck, Leaving, MemberState, Ping, PingRequest
from .probing import Probes
from .rumours import Rumours

__all__ = ["TRANSITIONS", "Finding", "Membership", "Status", "suspicion_timeout_us"]

INCARNATION_MAX = 1 << 62
# How far a rumour may raise what we know of another's incarnation; its own word has no such bound.
INCARNATION_SLACK = 64
# Suspicions that we found ourselves are told to so many at once, instead of with the next pings.
ALARMS = 3
# One interval in so many one of the dead is dialled, for as long as it is remembered.
DEAD_EVERY = 8


class Membership:
    """One node's opinion of the others. Bounded by `members_max`."""

    def __init__(self, ctx: Context, incarnation: int) -> None:
        """incarnation: higher than in any earlier life of this node."""
        self._ctx = ctx
        self.incarnation = incarnation
        self._refuted_count = 0
        self._members: dict[bytes, Member] = {}
        self._connected: dict[bytes, None] = {}
        self._rumours = Rumours()
        self._probes = Probes(ctx, self)
        self._changes: list[tuple[bytes, Status]] = []
        self._round: list[bytes] = []
        self._view: list[bytes] = []
        self._view_stale = False
        self._live_count = 1
        self._next_probe_us = 0
        self._blamed_us = LONG_AGO_US
        self._running = False

    # -- questions ---------------------------------------------------------------------------------------

    def status(self, node: bytes) -> Status | None:
        """None: not a member that this node knows of. This node itself is ALIVE."""
        if node == self._ctx.node_id:
            return Status.ALIVE
        member = self._members.get(node)
        return member.status if member else None

    def is_alive(self, node: bytes) -> bool:
        """ALIVE or SUSPECT: not given up."""
        status = self.status(node)
        return status is Status.ALIVE or status is Status.SUSPECT

    def alive(self) -> list[bytes]:
        """Members that are ALIVE or SUSPECT, without this node, sorted."""
        return sorted(member.node for member in self._members.values() if member.here)

    def take_changes(self) -> list[tuple[bytes, Status]]:
        """Changes of others' status since the last call, in order; a new member is a change to ALIVE."""
        changes, self._changes = self._changes, []
        return changes

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
        """The members that this node watches, at most `active_view_max`, sorted."""
        return list(self._view)

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

    def learn(self, node: bytes, incarnation: int, now_us: int, probed: bool = True) -> None:
        """A verified record by the node about itself.

        probed: False for clients, which come and go unwatched.
        """
        if node == self._ctx.node_id:
            return
        member = self._members.get(node)
        if member is None:
            member = self._admit(node, incarnation, now_us)
            if member is None:
                return
        elif incarnation > member.incarnation:
            self._renew(member, incarnation, now_us)
        if not member.here:
            return
        if probed != member.probed:
            member.probed = probed
            self._view_stale = True
        if self._running and len(self._view) < self._ctx.config.active_view_max:
            self._refresh_view()

    def connected(self, peer: bytes, now_us: int) -> None:
        """An admitted peer has a link."""
        if peer == self._ctx.node_id:
            return
        self._connected[peer] = None
        if peer not in self._members:
            self._admit(peer, 0, now_us)
        self.heard(peer, now_us)

    def lost(self, peer: bytes, reset: bool, now_us: int) -> None:
        """The link ended, or could not be made.

        reset: by the other side, as a killed process does: reason enough to suspect it and to ask others.
        """
        self._connected.pop(peer, None)
        self._probes.unreachable(peer, now_us)
        member = self._members.get(peer)
        if member is None or not reset or not member.probed or not self._running:
            return
        if member.status is Status.ALIVE:
            self._suspect(member, self._ctx.node_id, now_us, shortest=True)
        if member.status is Status.SUSPECT:
            self._probes.start(peer, now_us, at_once=True)

    def heard(self, peer: bytes, now_us: int) -> None:
        """Any message of a connected peer. Costs a look-up unless the peer was in doubt."""
        member = self._members.get(peer)
        if member is None or peer not in self._connected:
            return
        member.heard_us = now_us
        if member.status is Status.ALIVE:
            return
        doubt = _state_of(member)
        self._change(member, Finding.ANSWERED, now_us)
        # Others go on doubting it until it says so itself, under a new incarnation.
        self._tell(member, doubt, now_us)

    def answered(self, target: bytes, incarnation: int, direct: bool, now_us: int) -> None:
        """A probe's good end. direct: by its own word, else by a helper's."""
        member = self._members.get(target)
        if member is None:
            return
        if direct:
            member.heard_us = now_us
        known = member.incarnation
        if known < incarnation <= (INCARNATION_MAX if direct else known + INCARNATION_SLACK):
            self._renew(member, incarnation, now_us)
        elif member.status is Status.SUSPECT:
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
            self._change(member, Finding.DEPARTED, now_us)

    # -- rumours ------------------------------------------------------------------------------------------

    def rumours_for(self, peer: bytes, doubt: MemberState | None = None) -> tuple[MemberState, ...]:
        """What to tell a peer along with a message.

        doubt: what it must hear, by default what this node itself doubts of it.
        """
        member = self._members.get(peer)
        if doubt is None and member is not None and member.status is not Status.ALIVE:
            doubt = _state_of(member)
        return self._rumours.take(self._live_count, doubt)

    def _absorb(self, peer: bytes, rumours: tuple[MemberState, ...], now_us: int) -> None:
        if not self._running:
            return
        for rumour in rumours:
            member = self._members.get(rumour.node)
            if rumour.node == self._ctx.node_id:
                self._refute(rumour, now_us)
            elif member is not None:
                known = member.incarnation
                if known <= rumour.incarnation <= min(known + INCARNATION_SLACK, INCARNATION_MAX):
                    self._weigh(member, rumour, peer, now_us)

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
        if news and (member.node in self._connected or member.node in self._view):
            self._probes.start(member.node, now_us)

    def _refute(self, rumour: MemberState, now_us: int) -> None:
        """Answer a doubt about this node by a higher incarnation."""
        doubted = rumour.state != Status.ALIVE and rumour.incarnation == self.incarnation
        if not doubted and not self.incarnation < rumour.incarnation < INCARNATION_MAX:
            return
        self.incarnation = rumour.incarnation + 1
        self._refuted_count += 1
        # We may be slow; but accusers can't slow us by more than one step an interval.
        if now_us - self._blamed_us >= self._ctx.config.probe_interval_us:
            self._blamed_us = now_us
            self._probes.worsen()
        self._rumours.add(MemberState(self._ctx.node_id, self.incarnation, int(Status.ALIVE)))

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
        """Watched members with a link, that could help to reach another."""
        linked = [self._members[peer] for peer in self._connected if peer in self._members]
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
        self._schedule_probe(now_us + self._ctx.config.probe_interval_us * (1 + self.health))
        self._forget_old(now_us)
        self._refresh_view()
        target = self._next_target(now_us)
        if target is not None:
            self._probes.start(target, now_us)
        self._look_for_the_dead()

    def _look_for_the_dead(self) -> None:
        """Now and then a link to one that was given up: after a long partition each half takes the other for dead."""
        if self._ctx.rng.randrange(DEAD_EVERY) == 0:
            dead = [each.node for each in self._members.values() if each.status is Status.DEAD and each.probed]
            for node in self._ctx.sample(dead, 1):
                self._ctx.emit(Connect(node))

    def _schedule_probe(self, at_us: int) -> None:
        self._next_probe_us = at_us
        self._ctx.set_timer(("probe", b""), at_us)

    def _next_target(self, now_us: int) -> bytes | None:
        """Round-robin through the view, in a new order each round. Who has just spoken need not be asked."""
        for _ in range(2):
            while self._round:
                node = self._round.pop()
                if self.is_alive(node) and not self._need_not_ask(self._members[node], now_us):
                    return node
            self._round = self._ctx.sample(self._view, len(self._view))
        return None

    def _need_not_ask(self, member: Member, now_us: int) -> bool:
        """A member that sent anything within the interval lives; but probes also carry rumours, and show that this
        node itself is well again."""
        spoke = member.status is Status.ALIVE and now_us - member.heard_us < self._ctx.config.probe_interval_us
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

    def _admit(self, node: bytes, incarnation: int, now_us: int) -> Member | None:
        """A new member; None if the table is full of living ones."""
        if incarnation > INCARNATION_MAX or not self._make_room():
            return None
        own_place = sha256(self._ctx.node_id + node).digest()
        member = Member(node, incarnation, sha256(node).digest(), own_place, heard_us=now_us, changed_us=now_us)
        self._members[node] = member
        self._changes.append((node, Status.ALIVE))
        self._view_stale = True
        return member

    def _make_room(self) -> bool:
        """If the table is full, evict the one that is gone longest, else the client that was silent
        longest."""
        if len(self._members) < self._ctx.config.members_max:
            return True
        members = self._members.values()
        gone = [each for each in members if not each.here]
        silent = [each for each in members if not each.probed and each.node not in self._connected]
        evicted = min(gone or silent, key=lambda each: (each.changed_us, each.node), default=None)
        if evicted is None:
            return False
        self._forget(evicted)
        return True

    def _forget_old(self, now_us: int) -> None:
        """Members that are gone, and clients that were not heard of, for `dead_memory_us`."""
        before_us = now_us - self._ctx.config.dead_memory_us
        for member in list(self._members.values()):
            if member.node in self._connected:
                continue
            gone = not member.here and member.changed_us < before_us
            if gone or (not member.probed and member.heard_us < before_us):
                self._forget(member)

    def _forget(self, member: Member) -> None:
        if member.status is Status.SUSPECT:
            self._ctx.cancel_timer(("suspicion", member.node))
        if member.here:
            self._changes.append((member.node, Status.LEFT))
        del self._members[member.node]
        self._rumours.forget(member.node)
        self._view_stale = True

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
            self._rumours.add(MemberState(member.node, member.incarnation, int(Status.SUSPECT), accuser))
            self._set_deadline(member, now_us)

    def _set_deadline(self, member: Member, now_us: int) -> None:
        config = self._ctx.config
        timeout_us = suspicion_timeout_us(self._live_count, len(member.accusers) - 1, config)
        if member.shortest:
            timeout_us = config.suspicion_min_us
        member.deadline_us = max(now_us, member.suspected_us + timeout_us)
        self._ctx.set_timer(("suspicion", member.node), member.deadline_us)

    def _renew(self, member: Member, incarnation: int, now_us: int) -> None:
        """A higher incarnation: whatever was said of the one before is void."""
        if incarnation > INCARNATION_MAX:
            return
        member.incarnation = incarnation
        self._rumours.add(MemberState(member.node, incarnation, int(Status.ALIVE)))
        self._change(member, Finding.RENEWED, now_us)

    def _change(self, member: Member, finding: Finding, now_us: int) -> None:
        """Apply a finding; those that the table doesn't list change nothing."""
        status = TRANSITIONS.get((member.status, finding))
        if status is None:
            return
        if member.status is Status.SUSPECT:
            self._ctx.cancel_timer(("suspicion", member.node))
            member.accusers.clear()
        if finding is Finding.ANSWERED:
            self._rumours.forget(member.node)
        member.status = status
        member.changed_us = now_us
        self._changes.append((member.node, status))
        self._view_stale = True
        if not member.here:
            self._rumours.add(MemberState(member.node, member.incarnation, int(status)))

    def _refresh_view(self) -> None:
        """Choose whom to watch, and ask for links to those that are new."""
        if not self._view_stale:
            return
        self._view_stale = False
        watched = [member for member in self._members.values() if member.probed and member.here]
        self._live_count = 1 + len(watched)
        here = sha256(self._ctx.node_id).digest()
        chosen = choose_view(watched, here, self._ctx.config.active_view_max)
        before = dict.fromkeys(self._view)
        self._view = sorted(member.node for member in chosen)
        for node in self._view:
            if node not in before and node not in self._connected:
                self._ctx.emit(Connect(node))


def _state_of(member: Member) -> MemberState:
    accuser = next(iter(member.accusers), b"") if member.status is Status.SUSPECT else b""
    return MemberState(member.node, member.incarnation, int(member.status), accuser)
