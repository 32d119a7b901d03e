"""Pings on their way: direct ones, those through others, and those for others.

A probe has two halves. First the target is pinged; if it is silent, a few others are asked to ping it, who
answer yes or no. Silence of the target and of those that should at least have said no is a sign that this
node itself is slow: its health gets worse, and all its waits longer (Lifeguard's local health multiplier).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .context import Context
from .effects import TimerKey
from .messages import Ack, IndirectAck, MemberState, Ping, PingRequest

# Probes for others: in all, and for one of them.
RELAYED_MAX = 64
RELAYED_A_PEER = 8


class ProbeOwner(Protocol):
    """What `Probes` asks of `Membership`, and tells it."""

    def rumours_for(self, peer: bytes, doubt: MemberState | None = None) -> tuple[MemberState, ...]: ...

    def helpers_beside(self, target: bytes) -> list[bytes]: ...

    def answered(self, target: bytes, incarnation: int, direct: bool, now_us: int) -> None: ...

    def measured(self, target: bytes, rtt_us: int) -> None: ...

    def silent(self, target: bytes, since_us: int, now_us: int) -> None: ...


@dataclass(slots=True)
class _Probe:
    """asker: for whom (empty: for ourselves), under which number of theirs.  helpers: who have yet to say
    no."""

    target: bytes
    started_us: int
    deadline_us: int
    asker: bytes = b""
    asker_request: int = 0
    indirect: bool = False
    helpers: dict[bytes, None] = field(default_factory=dict)


class Probes:
    """At most one probe a target for ourselves, and a bounded number for others."""

    def __init__(self, ctx: Context, owner: ProbeOwner) -> None:
        self._ctx = ctx
        self._owner = owner
        self._probes: dict[int, _Probe] = {}
        # 0 is well; timeouts and intervals grow by a factor of 1 + health.
        self.health = 0

    @property
    def timeout_us(self) -> int:
        """Of one half of a probe."""
        return self._ctx.config.probe_timeout_us * (1 + self.health)

    def worsen(self) -> None:
        self.health = min(self._ctx.config.local_health_max - 1, self.health + 1)

    def start(self, target: bytes, now_us: int, *, at_once: bool = False, doubt: MemberState | None = None) -> None:
        """Probe it, unless that is under way.

        at_once: through others at the same time.  doubt: what it must hear of itself; a ping on its way did not say it.
        """
        under_way = [at for at, probe in self._probes.items() if probe.target == target and not probe.asker]
        if under_way and doubt is None:
            return
        for request in under_way:
            self._end(request)
        probe = _Probe(target, now_us, now_us + self.timeout_us)
        request = self._ping(probe, doubt)
        if at_once:
            self._ask_others(request, probe, now_us)

    def void(self) -> None:
        """End all probes without an outcome."""
        for request in list(self._probes):
            self._end(request)

    def unreachable(self, target: bytes, now_us: int) -> None:
        """No address of it answered: whoever waits for its ack need not wait on."""
        waiting = [(request, probe) for request, probe in self._probes.items() if probe.target == target]
        for request, probe in waiting:
            if probe.asker:
                self._refuse(request, probe)
            elif not probe.indirect:
                self._ask_others(request, probe, now_us)

    def due_us(self, request: int) -> int | None:
        """When the probe is to be looked at; None if it ended."""
        probe = self._probes.get(request)
        return probe.deadline_us if probe else None

    def on_timeout(self, request: int, now_us: int) -> None:
        """The time of `due_us` has come."""
        probe = self._probes[request]
        if probe.asker:
            self._refuse(request, probe)
        elif not probe.indirect:
            self._ask_others(request, probe, now_us)
        else:
            self._end(request)
            if probe.helpers:
                self.worsen()
            self._owner.silent(probe.target, probe.started_us, now_us)

    # -- messages -----------------------------------------------------------------------------------------

    def on_ack(self, peer: bytes, ack: Ack, now_us: int) -> None:
        probe = self._probes.get(ack.request)
        if probe is None or probe.target != peer:
            return
        self._end(ack.request)
        if probe.asker:
            self._ctx.send(probe.asker, IndirectAck(probe.asker_request, peer, ack.incarnation, True))
        else:
            self.health = max(0, self.health - 1)
        self._owner.measured(peer, now_us - probe.started_us)
        self._owner.answered(peer, ack.incarnation, True, now_us)

    def on_indirect_ack(self, peer: bytes, answer: IndirectAck, now_us: int) -> None:
        probe = self._probes.get(answer.request)
        if probe is None or probe.target != answer.target or peer not in probe.helpers:
            return
        if answer.reached:
            self._end(answer.request)
            self._owner.answered(answer.target, answer.incarnation, False, now_us)
        else:
            del probe.helpers[peer]

    def on_ping_request(self, peer: bytes, request: PingRequest, known: bool, now_us: int) -> None:
        """known: whether the target is a member."""
        askers = [probe.asker for probe in self._probes.values() if probe.asker]
        if not known or len(askers) >= RELAYED_MAX or askers.count(peer) >= RELAYED_A_PEER:
            self._ctx.send(peer, IndirectAck(request.request, request.target, 0, False))
            return
        # A no must arrive before the asker gives up.
        due_us = now_us + self._ctx.config.probe_timeout_us * 4 // 5
        self._ping(_Probe(request.target, now_us, due_us, peer, request.request))

    # -- halves -------------------------------------------------------------------------------------------

    def _ping(self, probe: _Probe, doubt: MemberState | None = None) -> int:
        request = self._ctx.next_request()
        self._probes[request] = probe
        self._ctx.set_timer(_timer_key(request), probe.deadline_us)
        self._ctx.send(probe.target, Ping(request, self._owner.rumours_for(probe.target, doubt)))
        return request

    def _ask_others(self, request: int, probe: _Probe, now_us: int) -> None:
        probe.indirect = True
        probe.deadline_us = now_us + self.timeout_us
        self._ctx.set_timer(_timer_key(request), probe.deadline_us)
        helpers = self._ctx.sample(self._owner.helpers_beside(probe.target), self._ctx.config.indirect_probes)
        for helper in helpers:
            probe.helpers[helper] = None
            self._ctx.send(helper, PingRequest(request, probe.target, self._owner.rumours_for(helper)))

    def _refuse(self, request: int, probe: _Probe) -> None:
        self._end(request)
        self._ctx.send(probe.asker, IndirectAck(probe.asker_request, probe.target, 0, False))

    def _end(self, request: int) -> None:
        del self._probes[request]
        self._ctx.cancel_timer(_timer_key(request))


def _timer_key(request: int) -> TimerKey:
    return ("probe-timeout", request.to_bytes(8, "big"))
