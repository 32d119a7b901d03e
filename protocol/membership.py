"""Who is alive: SWIM's probes and rumours, with Lifeguard's care for slow nodes.

Every probe interval one member of the view is pinged, directly and then through others. Silence makes it
suspect, and a suspect that doesn't speak up in time is dead. Any word from it clears it here; a higher
incarnation, which only it gives out, clears it everywhere. Rumours ride on pings and acks. A rumour never
adds a member: only `learn` (a verified record) and `connected` do. What a rumour says of a peer that can be
asked directly is checked, not believed.

Sources: Das et al., SWIM (2002); Dadgar et al., Lifeguard (2017).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256
from math import log, log10

from .config import ProtocolConfig
from .context import Context
from .effects import Connect, TimerKey
from .messages import Ack, IndirectAck, Leaving, MemberState, Ping, PingRequest
from .rumours import Rumours


class Status(IntEnum):
    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Finding(StrEnum):
    """What this node found out about a member."""

    ANSWERED = "answered"  # it spoke to us, or to one that we asked
    SILENT = "silent"  # no probe was answered, or its link broke
    ACCUSED = "accused"  # another suspects it, and we can't tell
    RENEWED = "renewed"  # it has a higher incarnation than the one that was in doubt
    EXPIRED = "expired"  # it didn't clear itself in time
    BURIED = "buried"  # another declared it dead
    DEPARTED = "departed"  # it left in order


TRANSITIONS: dict[tuple[Status, Finding], Status] = {
    (Status.ALIVE, Finding.SILENT): Status.SUSPECT,
    (Status.ALIVE, Finding.ACCUSED): Status.SUSPECT,
    (Status.ALIVE, Finding.BURIED): Status.DEAD,
    (Status.ALIVE, Finding.DEPARTED): Status.LEFT,
    (Status.SUSPECT, Finding.ANSWERED): Status.ALIVE,
    (Status.SUSPECT, Finding.RENEWED): Status.ALIVE,
    (Status.SUSPECT, Finding.EXPIRED): Status.DEAD,
    (Status.SUSPECT, Finding.BURIED): Status.DEAD,
    (Status.SUSPECT, Finding.DEPARTED): Status.LEFT,
    (Status.DEAD, Finding.RENEWED): Status.ALIVE,
    (Status.DEAD, Finding.DEPARTED): Status.LEFT,
    (Status.LEFT, Finding.RENEWED): Status.ALIVE,
}

INCARNATION_MAX = 1 << 62
# How far a rumour may raise what we know of another's incarnation; its own word has no such bound.
INCARNATION_SLACK = 64
RELAYED_PROBES_MAX = 64
RELAYED_PROBES_A_PEER = 8
# Suspicions that we found ourselves are told to so many at once, instead of with the next pings.
ALARMS = 3


def suspicion_timeout_us(live_members: int, confirmations: int, config: ProtocolConfig) -> int:
    """Wait before a suspect is declared dead.

    live_members: known, this node included, >= 1.  confirmations: accusers beside the first, >= 0.
    Returns microseconds within [config.suspicion_min_us, config.suspicion_max_us].
    Raises ValueError if live_members < 1.
    Source: Dadgar et al., Lifeguard (2017), section IV-B.
    """
    if live_members < 1:
        raise ValueError(f"live_members is {live_members}, must be at least 1")
    longest = config.suspicion_max_us
    shortest = min(longest, int(config.suspicion_min_us * max(1.0, log10(live_members))))
    # The suspect and this node can't confirm.
    possible = min(config.suspicion_accusers, live_members - 2)
    if possible < 1:
        return shortest
    waited = log(min(confirmations, possible) + 1) / log(possible + 1)
    return max(shortest, int(longest - (longest - shortest) * waited))


@dataclass(slots=True)
class _Member:
    node: bytes
    incarnation: int
    # Places on two rings: one that all nodes share, one of this node's own. They make up the view.
    shared_place: bytes
    own_place: bytes
    status: Status = Status.ALIVE
    probed: bool = False
    heard_us: int = 0
    changed_us: int = 0
    told_us: int = -(1 << 62)
    suspected_us: int = 0
    deadline_us: int = 0
    shortest: bool = False
    accusers: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Probe:
    """A ping on its way. asker: for whom (empty: for ourselves), under which number of theirs."""

    target: bytes
    started_us: int
    deadline_us: int
    asker: bytes = b""
    asker_request: int = 0
    indirect: bool = False
    helpers: dict[bytes, None] = field(default_factory=dict)
    refusals: int = 0


class Membership:
    """One node's opinion of the others. See the module's docstring; `learn` and `connected` are the only ways
    in."""

    def __init__(self, ctx: Context, incarnation: int) -> None:
        """incarnation: higher than in any earlier life of this node."""
        self._ctx = ctx
        self.incarnation = incarnation
        self.refuted_count = 0
        self._members: dict[bytes, _Member] = {}
        self._connected: dict[bytes, None] = {}
        self._rumours = Rumours()
        self._changes: list[tuple[bytes, Status]] = []
        self._probes: dict[int, _Probe] = {}
        self._round: list[bytes] = []
        self._view: list[bytes] = []
        self._view_stale = False
        self._alive_count = 1
        self._health = 0
        self._next_probe_us = 0
        self._blamed_us = -(1 << 62)
        self._running = False

    # -- questions ---------------------------------------------------------------------------------------

    def status(self, node: bytes) -> Status | None:
        """None: not a member that this node knows of."""
        if node == self._ctx.node_id:
            return Status.ALIVE
        member = self._members.get(node)
        return member.status if member else None

    def is_alive(self, node: bytes) -> bool:
        """ALIVE or SUSPECT: not given up yet."""
        status = self.status(node)
        return status is Status.ALIVE or status is Status.SUSPECT

    def alive(self) -> list[bytes]:
        """Members that are ALIVE or SUSPECT, without this node, sorted."""
        return sorted(each.node for each in self._members.values() if each.status <= Status.SUSPECT)

    def take_changes(self) -> list[tuple[bytes, Status]]:
        """Changes of others' status since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    @property
    def health(self) -> int:
        """Lifeguard's score of this node itself: 0 is well; timeouts and intervals grow by a factor of 1 +
        health."""
        return self._health

    @property
    def view(self) -> list[bytes]:
        """The members that this node watches, at most `active_view_max`."""
        return list(self._view)

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        self._running = True
        # A random phase, so that nodes that start together don't probe together.
        phase_us = 1 + self._ctx.rng.randrange(self._ctx.config.probe_interval_us)
        self._schedule_probe(now_us + phase_us)

    def stop(self, now_us: int) -> None:
        """No more timers; questions are still answered."""
        self._running = False
        self._ctx.cancel_timer(("probe", b""))
        for request in self._probes:
            self._ctx.cancel_timer(_probe_key(request))
        self._probes.clear()
        for member in self._members.values():
            if member.status is Status.SUSPECT:
                self._ctx.cancel_timer(("suspicion", member.node))

    def leave(self, now_us: int) -> None:
        """Tell all connected peers, and stop."""
        for peer in self._connected:
            self._ctx.send(peer, Leaving(self.incarnation))
        self.stop(now_us)

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
        elif member.status > Status.SUSPECT:
            return
        member.heard_us = max(member.heard_us, now_us)
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
        """The link ended. reset: by the other side, as a killed process does: a reason to suspect it at
        once."""
        self._connected.pop(peer, None)
        member = self._members.get(peer)
        if member is None or not reset or not member.probed or not self._running:
            return
        if member.status is Status.ALIVE:
            self._suspect(member, self._ctx.node_id, now_us, shortest=True)
        if member.status is Status.SUSPECT:
            self._probe(member, now_us, at_once=True)

    def unreachable(self, peer: bytes, now_us: int) -> None:
        """No address of it answered: what waits for its ack need not wait on."""
        for request, probe in list(self._probes.items()):
            if probe.target == peer and request in self._probes:
                if probe.asker:
                    self._refuse(request, probe)
                elif not probe.indirect:
                    self._ask_others(request, probe, now_us)

    def heard(self, peer: bytes, now_us: int) -> None:
        """Any message of a connected peer. Costs a look-up unless the peer was in doubt."""
        member = self._members.get(peer)
        if member is None or peer not in self._connected:
            return
        member.heard_us = now_us
        if member.status is Status.ALIVE:
            return
        doubt = self._state_of(member)
        if member.status is Status.SUSPECT:
            self._change(member, Finding.ANSWERED, now_us)
        # Others go on doubting it until it says so itself, under a new incarnation.
        self._tell(member, doubt, now_us)

    # -- messages -----------------------------------------------------------------------------------------

    def on_message(
        self, peer: bytes, message: Ping | Ack | PingRequest | IndirectAck | Leaving, now_us: int
    ) -> None:
        match message:
            case Ping():
                self._absorb(peer, message.rumours, now_us)
                if self._running:
                    rumours = self._rumours.take(self._alive_count, self._doubt_of(peer))
                    self._ctx.send(peer, Ack(message.request, self.incarnation, rumours))
            case Ack():
                self._on_ack(peer, message, now_us)
            case PingRequest():
                self._absorb(peer, message.rumours, now_us)
                self._on_ping_request(peer, message, now_us)
            case IndirectAck():
                self._on_indirect_ack(peer, message, now_us)
            case Leaving():
                self._on_leaving(peer, message.incarnation, now_us)

    def _on_ack(self, peer: bytes, ack: Ack, now_us: int) -> None:
        probe = self._probes.get(ack.request)
        if probe is None or probe.target != peer:
            return
        self._end_probe(ack.request)
        member = self._members.get(peer)
        if member is not None and ack.incarnation <= INCARNATION_MAX:
            if ack.incarnation > member.incarnation:
                self._renew(member, ack.incarnation, now_us)
            elif member.status is Status.SUSPECT:
                self._change(member, Finding.ANSWERED, now_us)
            member.heard_us = now_us
        if probe.asker:
            reply = IndirectAck(probe.asker_request, peer, ack.incarnation, True)
            self._ctx.send(probe.asker, reply)
        else:
            self._health = max(0, self._health - 1)
        self._absorb(peer, ack.rumours, now_us)

    def _on_ping_request(self, peer: bytes, request: PingRequest, now_us: int) -> None:
        if not self._running:
            return
        askers = [probe.asker for probe in self._probes.values() if probe.asker]
        full = len(askers) >= RELAYED_PROBES_MAX or askers.count(peer) >= RELAYED_PROBES_A_PEER
        target = self._members.get(request.target)
        if target is None or full:
            self._ctx.send(peer, IndirectAck(request.request, request.target, 0, False))
            return
        # Answers no are due before the asker gives up.
        timeout_us = self._ctx.config.probe_timeout_us * 4 // 5
        probe = _Probe(request.target, now_us, now_us + timeout_us, peer, request.request)
        self._ping(target, probe)

    def _on_indirect_ack(self, peer: bytes, answer: IndirectAck, now_us: int) -> None:
        probe = self._probes.get(answer.request)
        if probe is None or probe.target != answer.target or peer not in probe.helpers:
            return
        if not answer.reached:
            del probe.helpers[peer]
            probe.refusals += 1
            return
        self._end_probe(answer.request)
        member = self._members.get(answer.target)
        if member is None:
            return
        if member.incarnation < answer.incarnation <= member.incarnation + INCARNATION_SLACK:
            self._renew(member, answer.incarnation, now_us)
        elif member.status is Status.SUSPECT:
            self._change(member, Finding.ANSWERED, now_us)

    def _on_leaving(self, peer: bytes, incarnation: int, now_us: int) -> None:
        member = self._members.get(peer)
        if member is None or not member.incarnation <= incarnation <= INCARNATION_MAX:
            return
        member.incarnation = incarnation
        self._change(member, Finding.DEPARTED, now_us)

    # -- rumours ------------------------------------------------------------------------------------------

    def _absorb(self, peer: bytes, rumours: tuple[MemberState, ...], now_us: int) -> None:
        for rumour in rumours:
            if rumour.node == self._ctx.node_id:
                self._refute(rumour, now_us)
                continue
            member = self._members.get(rumour.node)
            if member is None or not self._running:
                continue
            if member.incarnation <= rumour.incarnation <= member.incarnation + INCARNATION_SLACK:
                self._believe(member, rumour, peer, now_us)

    def _believe(self, member: _Member, rumour: MemberState, peer: bytes, now_us: int) -> None:
        """A rumour of this incarnation or a later one."""
        if rumour.incarnation > member.incarnation:
            self._renew(member, rumour.incarnation, now_us)
        state = Status(rumour.state)
        if state is Status.ALIVE or member.status > Status.SUSPECT or member.node == peer:
            return
        own_echo = rumour.accuser == self._ctx.node_id
        if member.status is Status.ALIVE and (own_echo or self._heard_lately(member, now_us)):
            self._tell(member, rumour, now_us)
        elif state is Status.SUSPECT or (member.status is Status.ALIVE and member.node in self._connected):
            self._check(member, rumour, peer, now_us)
        else:
            self._change(member, Finding.BURIED if state is Status.DEAD else Finding.DEPARTED, now_us)

    def _check(self, member: _Member, rumour: MemberState, peer: bytes, now_us: int) -> None:
        """Take up a suspicion, and look for ourselves. A death that we can check is a strong one."""
        accuser = rumour.accuser if self.is_alive(rumour.accuser) else peer
        strong = rumour.state != Status.SUSPECT
        news = member.status is Status.ALIVE
        self._suspect(member, accuser, now_us, shortest=strong)
        if news and (member.node in self._connected or member.node in self._view):
            self._probe(member, now_us)

    def _heard_lately(self, member: _Member, now_us: int) -> bool:
        """Whether its own word, over its own link, outweighs what others say."""
        fresh_us = self._ctx.config.probe_interval_us + self._ctx.config.probe_timeout_us
        return member.node in self._connected and now_us - member.heard_us < fresh_us

    def _refute(self, rumour: MemberState, now_us: int) -> None:
        """Answer a doubt about this node by a higher incarnation."""
        doubted = rumour.state != Status.ALIVE and rumour.incarnation == self.incarnation
        if not self._running or not (doubted or self.incarnation < rumour.incarnation < INCARNATION_MAX):
            return
        self.incarnation = rumour.incarnation + 1
        self.refuted_count += 1
        # We may be slow; but accusers can't slow us further than one step an interval.
        if now_us - self._blamed_us >= self._ctx.config.probe_interval_us:
            self._blamed_us = now_us
            self._worsen()
        self._rumours.add(MemberState(self._ctx.node_id, self.incarnation, Status.ALIVE))

    def _tell(self, member: _Member, doubt: MemberState, now_us: int) -> None:
        """Tell a member what is said of it, so that it can refute it; at most once an interval."""
        if self._running and now_us - member.told_us >= self._ctx.config.probe_interval_us:
            member.told_us = now_us
            request = self._ctx.next_request()
            self._start_probe(request, _Probe(member.node, now_us, now_us + self._timeout_us()))
            self._ctx.send(member.node, Ping(request, self._rumours.take(self._alive_count, doubt)))

    def _doubt_of(self, node: bytes) -> MemberState | None:
        member = self._members.get(node)
        return self._state_of(member) if member and member.status is not Status.ALIVE else None

    def _state_of(self, member: _Member) -> MemberState:
        accuser = next(iter(member.accusers), b"") if member.status is Status.SUSPECT else b""
        return MemberState(member.node, member.incarnation, int(member.status), accuser)

    # -- timers -------------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        """Keys: ("probe", b""), ("probe-timeout", number of the request), ("suspicion", node)."""
        if not self._running:
            return
        name, argument = key
        if name == "probe":
            self._on_probe_due(now_us)
        elif name == "probe-timeout":
            self._on_probe_timeout(int.from_bytes(argument, "big"), now_us)
        elif name == "suspicion":
            self._on_suspicion_due(argument, now_us)

    def _on_probe_due(self, now_us: int) -> None:
        if now_us < self._next_probe_us:
            return
        self._excuse_if_late(self._next_probe_us, now_us)
        self._schedule_probe(now_us + self._ctx.config.probe_interval_us * (1 + self._health))
        self._forget_old(now_us)
        self._refresh_view()
        target = self._next_target()
        if target is not None:
            self._probe(target, now_us)

    def _on_probe_timeout(self, request: int, now_us: int) -> None:
        probe = self._probes.get(request)
        if probe is None or now_us < probe.deadline_us:
            return
        if self._excuse_if_late(probe.deadline_us, now_us):
            return
        if probe.asker:
            self._refuse(request, probe)
        elif not probe.indirect:
            self._ask_others(request, probe, now_us)
        else:
            self._give_up(request, probe, now_us)

    def _on_suspicion_due(self, node: bytes, now_us: int) -> None:
        member = self._members.get(node)
        if member is None or member.status is not Status.SUSPECT or now_us < member.deadline_us:
            return
        if not self._excuse_if_late(member.deadline_us, now_us):
            self._change(member, Finding.EXPIRED, now_us)

    def _excuse_if_late(self, due_us: int, now_us: int) -> bool:
        """Whether this node itself slept (frozen, or starved of CPU); then nobody else is to blame for
        silence.

        All waits begin anew, and the probes on their way are void.
        """
        if now_us - due_us <= 2 * self._ctx.config.probe_interval_us:
            return False
        self._worsen()
        for request in list(self._probes):
            self._end_probe(request)
        for member in self._members.values():
            if member.status is Status.SUSPECT:
                member.suspected_us = now_us
                self._set_deadline(member, now_us)
        return True

    # -- probing ------------------------------------------------------------------------------------------

    def _schedule_probe(self, at_us: int) -> None:
        self._next_probe_us = at_us
        self._ctx.set_timer(("probe", b""), at_us)

    def _timeout_us(self) -> int:
        return self._ctx.config.probe_timeout_us * (1 + self._health)

    def _next_target(self) -> _Member | None:
        """Round-robin through the view, in a new order each round."""
        for _ in range(2):
            while self._round:
                member = self._members.get(self._round.pop())
                if member is not None and member.status <= Status.SUSPECT:
                    return member
            self._round = self._ctx.sample(self._view, len(self._view))
        return None

    def _probe(self, member: _Member, now_us: int, *, at_once: bool = False) -> None:
        """Ping it. at_once: through others at the same time."""
        if any(each.target == member.node and not each.asker for each in self._probes.values()):
            return
        probe = _Probe(member.node, now_us, now_us + self._timeout_us())
        request = self._ping(member, probe)
        if at_once:
            self._ask_others(request, probe, now_us)

    def _ping(self, member: _Member, probe: _Probe) -> int:
        request = self._ctx.next_request()
        self._start_probe(request, probe)
        rumours = self._rumours.take(self._alive_count, self._doubt_of(member.node))
        self._ctx.send(member.node, Ping(request, rumours))
        return request

    def _ask_others(self, request: int, probe: _Probe, now_us: int) -> None:
        """Second half of a probe: a few peers ping it for us, and answer yes or no."""
        probe.indirect = True
        probe.deadline_us = now_us + self._timeout_us()
        self._ctx.set_timer(_probe_key(request), probe.deadline_us)
        for helper in self._ctx.sample(self._peers_beside(probe.target), self._ctx.config.indirect_probes):
            probe.helpers[helper] = None
            rumours = self._rumours.take(self._alive_count, self._doubt_of(helper))
            self._ctx.send(helper, PingRequest(request, probe.target, rumours))

    def _give_up(self, request: int, probe: _Probe, now_us: int) -> None:
        self._end_probe(request)
        # Helpers that didn't even say no: perhaps the fault is ours (Lifeguard's missing nacks).
        if probe.helpers:
            self._worsen()
        member = self._members.get(probe.target)
        if member is None or not member.probed or member.heard_us > probe.started_us:
            return
        known = self._ctx.node_id in member.accusers
        self._suspect(member, self._ctx.node_id, now_us)
        if member.status is Status.SUSPECT and not known:
            self._alarm(member)

    def _alarm(self, suspect: _Member) -> None:
        """Tell a few at once, so that they look for themselves and confirm or deny it soon."""
        for peer in self._ctx.sample(self._peers_beside(suspect.node), ALARMS):
            rumours = self._rumours.take(self._alive_count, self._state_of(suspect))
            self._ctx.send(peer, Ping(self._ctx.next_request(), rumours))

    def _refuse(self, request: int, probe: _Probe) -> None:
        self._end_probe(request)
        self._ctx.send(probe.asker, IndirectAck(probe.asker_request, probe.target, 0, False))

    def _start_probe(self, request: int, probe: _Probe) -> None:
        self._probes[request] = probe
        self._ctx.set_timer(_probe_key(request), probe.deadline_us)

    def _end_probe(self, request: int) -> None:
        del self._probes[request]
        self._ctx.cancel_timer(_probe_key(request))

    def _peers_beside(self, target: bytes) -> list[bytes]:
        """Watched members with a link, that could help to reach another."""
        linked = [self._members[peer] for peer in self._connected if peer in self._members]
        return [
            each.node
            for each in linked
            if each.node != target and each.probed and each.status is Status.ALIVE
        ]

    def _worsen(self) -> None:
        self._health = min(self._ctx.config.local_health_max - 1, self._health + 1)

    # -- changes ------------------------------------------------------------------------------------------

    def _admit(self, node: bytes, incarnation: int, now_us: int) -> _Member | None:
        """A new member; None if the table is full of living ones."""
        if incarnation > INCARNATION_MAX or not self._make_room():
            return None
        own_place = sha256(self._ctx.node_id + node).digest()
        member = _Member(
            node, incarnation, sha256(node).digest(), own_place, heard_us=now_us, changed_us=now_us
        )
        self._members[node] = member
        self._changes.append((node, Status.ALIVE))
        self._view_stale = True
        return member

    def _make_room(self) -> bool:
        """Evict the longest gone, else the client that was silent longest, if the table is full."""
        if len(self._members) < self._ctx.config.members_max:
            return True
        gone = [each for each in self._members.values() if each.status > Status.SUSPECT]
        silent = [
            each for each in self._members.values() if not each.probed and each.node not in self._connected
        ]
        evicted = min(
            gone or silent, key=lambda each: (each.changed_us, each.heard_us, each.node), default=None
        )
        if evicted is None:
            return False
        self._forget(evicted)
        return True

    def _forget(self, member: _Member) -> None:
        if member.status is Status.SUSPECT:
            self._ctx.cancel_timer(("suspicion", member.node))
        if member.status <= Status.SUSPECT:
            self._changes.append((member.node, Status.LEFT))
        del self._members[member.node]
        self._rumours.forget(member.node)
        self._view_stale = True

    def _forget_old(self, now_us: int) -> None:
        """Members that are gone, and clients that were not heard of, for `dead_memory_us`."""
        before_us = now_us - self._ctx.config.dead_memory_us
        for member in list(self._members.values()):
            if member.node in self._connected:
                continue
            gone = member.status > Status.SUSPECT and member.changed_us < before_us
            if gone or (not member.probed and member.heard_us < before_us):
                self._forget(member)

    def _suspect(self, member: _Member, accuser: bytes, now_us: int, *, shortest: bool = False) -> None:
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

    def _set_deadline(self, member: _Member, now_us: int) -> None:
        config = self._ctx.config
        timeout_us = suspicion_timeout_us(self._alive_count, len(member.accusers) - 1, config)
        if member.shortest:
            timeout_us = config.suspicion_min_us
        member.deadline_us = max(now_us, member.suspected_us + timeout_us)
        self._ctx.set_timer(("suspicion", member.node), member.deadline_us)

    def _renew(self, member: _Member, incarnation: int, now_us: int) -> None:
        """A higher incarnation: whatever was said of the one before is void."""
        if incarnation > INCARNATION_MAX:
            return
        member.incarnation = incarnation
        self._rumours.add(MemberState(member.node, incarnation, int(Status.ALIVE)))
        self._change(member, Finding.RENEWED, now_us)

    def _change(self, member: _Member, finding: Finding, now_us: int) -> None:
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
        if status > Status.SUSPECT:
            self._rumours.add(MemberState(member.node, member.incarnation, int(status)))

    # -- view ---------------------------------------------------------------------------------------------

    def _refresh_view(self) -> None:
        """Choose whom to watch, and ask for links to them.

        All, if they are few. Else half of the view are the successors on a ring that all nodes share, so that
        everyone is watched by as many; half are the nearest on a ring of our own, which makes the whole an
        expander.
        """
        if not self._view_stale:
            return
        self._view_stale = False
        watched = [each for each in self._members.values() if each.probed and each.status <= Status.SUSPECT]
        self._alive_count = 1 + len(watched)
        size = self._ctx.config.active_view_max
        if len(watched) > size:
            here = sha256(self._ctx.node_id).digest()
            watched.sort(key=lambda each: (each.shared_place <= here, each.shared_place))
            successors, others = watched[: size // 2], watched[size // 2 :]
            others.sort(key=lambda each: each.own_place)
            watched = successors + others[: size - len(successors)]
        before = dict.fromkeys(self._view)
        self._view = sorted(each.node for each in watched)
        for node in self._view:
            if node not in before and node not in self._connected:
                self._ctx.emit(Connect(node))


def _probe_key(request: int) -> TimerKey:
    return ("probe-timeout", request.to_bytes(8, "big"))
