"""The network: dials, links, gossip, and what goes wrong with them.

By default it is what TCP and a multiplexer make of a bad net: messages come in order or the link ends, and what is lost
below is late. Faults that no such link has (loss, doubles and overtaking of single messages) can be switched on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from zlib import crc32

from ...crypto.certificates import CertificateError
from ...protocol.codec import decode_message, encode_message
from ...protocol.messages import Message
from .circuits import Circuit, Circuits
from .dice import Stream
from .engine import MS, SECOND, Engine
from .links import (
    DIAL_RETRY_FIRST_US,
    DIAL_RETRY_MOST_US,
    DIAL_ROUND_TRIPS,
    DIAL_TIMEOUT_US,
    KEEPALIVE_LEAST_US,
    KEEPALIVE_MOST_US,
    WAITING_MESSAGES_MAX,
    Link,
    Nat,
    Parcel,
    one_way_us,
)

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

# Every so many messages one goes through the codec and back, and has to be the same.
CODEC_EVERY = 64
GOSSIP_DEGREE = 6
GOSSIP_SEEN_MAX = 4096
# A process that is frozen looks again so often.
ASLEEP_US = 100 * MS
# As the transport of real nodes allows: 512, of which 128 are kept.
LINKS_A_KEPT = 4


@dataclass(frozen=True, slots=True)
class Weather:
    """Faults that a link over TCP does not have: shares of all messages, and by how much one may be overtaken."""

    loss: float = 0.0
    doubled: float = 0.0
    jitter_us: int = 0


FAIR = Weather()


@dataclass(frozen=True, slots=True)
class Cut:
    """The machines of the island neither hear (`inward`) nor are heard by (`outward`) the rest."""

    island: frozenset[int]
    inward: bool = True
    outward: bool = True

    def blocks(self, source: int, target: int) -> bool:
        if source in self.island:
            return self.outward and target not in self.island
        return self.inward and target in self.island


@dataclass(slots=True)
class Traffic:
    """All that was sent: counts of messages and bytes, in all and by the kind of message."""

    counts: dict[type[Message] | None, list[int]] = field(default_factory=dict)

    def count(self, kind: type[Message] | None, size_bytes: int) -> None:
        """kind: None for bytes that no machine made."""
        row = self.counts.get(kind)
        if row is None:
            row = self.counts[kind] = [0, 0]
        row[0] += 1
        row[1] += size_bytes

    @property
    def messages(self) -> int:
        return sum(row[0] for row in self.counts.values())

    @property
    def bytes(self) -> int:
        return sum(row[1] for row in self.counts.values())

    @property
    def by_kind(self) -> dict[str, list[int]]:
        """[messages, bytes] by the name of the kind."""
        return {kind.__name__ if kind is not None else "raw bytes": row for kind, row in self.counts.items()}


class Network:
    def __init__(self, world: World, engine: Engine, dice: Stream) -> None:
        self._world = world
        self._engine = engine
        self._dice = dice
        self.weather = FAIR
        self.cuts: list[Cut] = []
        self.healed_us = 0
        self.traffic = Traffic()
        self._circuits = Circuits(world, self)
        self._links_max = LINKS_A_KEPT * world.config.links_kept
        self._gossip = count(1)
        self._sent = 0

    # -- messages ------------------------------------------------------------------------------------------

    def send(self, life: Life, peer: bytes, message: Message) -> None:
        """To a peer with a link; to another once it is dialled, or never."""
        target = self._world.by_id.get(peer)
        if target is None:
            life.unreachable(peer)
            return
        link = life.links.get(target.index)
        if link is not None:
            self._transmit(link, life, message, encode_message(message), 0)
            return
        waiting = life.waiting.setdefault(target.index, [])
        if len(waiting) < WAITING_MESSAGES_MAX:
            waiting.append(message)
        self.dial(life, target)

    def send_raw(self, life: Life, peer: bytes, payload: bytes) -> None:
        """Bytes that no machine made: over an existing link only."""
        target = self._world.by_id[peer]
        link = life.links.get(target.index)
        if link is not None:
            self._transmit(link, life, None, payload, 0)

    def publish(self, life: Life, message: Message) -> None:
        """Gossip: each node passes on what it hears for the first time to some of its peers."""
        number = next(self._gossip)
        life.gossip_seen[number] = None
        self._spread(life, life.machine.id, message, encode_message(message), number)

    def _spread(self, life: Life, source: bytes, message: Message, payload: bytes, number: int) -> None:
        for index in self._dice.some(list(life.links), GOSSIP_DEGREE):
            self._transmit(life.links[index], life, message, payload, number, source)

    def _transmit(
        self, link: Link, life: Life, message: Message | None, payload: bytes, gossip: int, source: bytes = b""
    ) -> None:
        self._sent += 1
        size_bytes = len(payload)
        self.traffic.count(type(message) if message is not None else None, size_bytes)
        life.machine.sent_bytes += size_bytes
        if message is None or self._sent % CODEC_EVERY == 0:
            message = self._through_codec(life, message, payload)
        side = 0 if link.ends[0] is life else 1
        parcel = (message, crc32(payload), size_bytes, gossip, source)
        times, jitter_us = 1, 0
        if self.weather is not FAIR and not gossip:
            if self._dice.chance(self.weather.loss):
                return
            times += self._dice.chance(self.weather.doubled)
            jitter_us = self.weather.jitter_us
        for _ in range(times):
            self._depart(link, side, parcel, jitter_us)

    def _depart(self, link: Link, side: int, parcel: Parcel, jitter_us: int) -> None:
        line, now_us, ends = link.ends[side].machine.line, self._engine.now_us, link.ends
        action: Callable[..., None] = self._arrive
        if isinstance(link, Circuit):
            at_us = line.crossed_us(link.carrier.machine.line, link.legs_us[side], parcel[2], now_us, self._dice)
            last_us, action = link.relayed_us, self._relay
        else:
            at_us = line.crossed_us(ends[1 - side].machine.line, link.latency_us, parcel[2], now_us, self._dice)
            last_us = link.last_us
        if at_us < last_us[side]:
            at_us = last_us[side]
        last_us[side] = at_us
        self._engine.at(at_us + self._dice.below(jitter_us) if jitter_us else at_us, action, link, side, parcel)

    def _through_codec(self, life: Life, message: Message | None, payload: bytes) -> Message | None:
        try:
            decoded = decode_message(payload)
        except Exception as error:  # boundary: of bytes that a liar made; an honest message must decode
            if message is not None:
                self._world.checkers.fail("codec", f"{type(message).__name__} does not decode: {error}")
            return None
        if message is not None and decoded != message:
            self._world.checkers.fail("codec", f"{type(message).__name__} came back from the codec as another")
        return decoded

    def _relay(self, circuit: Circuit, side: int, parcel: Parcel) -> None:
        """A message of a circuit has come to the relay, which passes it on as it is."""
        carrier, held = circuit.carrier, circuit.held[side]
        relay = carrier.machine
        if not carrier.runs or not circuit.open[1 - side]:
            return
        if held or relay.frozen or (self.cuts and self._is_cut(circuit.ends[side].machine.index, relay.index)):
            held.append(parcel)
            return
        size_bytes, other = parcel[2], circuit.ends[1 - side].machine
        relay.sent_bytes += size_bytes
        from_us = relay.line.taken_at_us(size_bytes, self._engine.now_us)
        at_us = relay.line.crossed_us(other.line, circuit.legs_us[1 - side], size_bytes, from_us, self._dice)
        circuit.last_us[side] = at_us = max(at_us, circuit.last_us[side])
        self._engine.at(at_us, self._arrive, circuit, side, parcel)

    def _arrive(self, link: Link, side: int, parcel: Parcel) -> None:
        if not link.open[1 - side]:
            return
        machine, stalled = link.ends[1 - side].machine, link.stalled[side]
        # Behind what waits for a partition to heal everything else waits too.
        if stalled or (self.cuts and self._is_cut(link.hops[side], machine.index)):
            stalled.append(parcel)
            return
        now_us = self._engine.now_us
        taken_us = machine.line.taken_at_us(parcel[2], now_us)
        if taken_us > now_us:
            self._engine.at(taken_us, self._hand_over, link, side, parcel)
        else:
            self._hand_over(link, side, parcel)

    def _hand_over(self, link: Link, side: int, parcel: Parcel) -> None:
        if not link.open[1 - side]:
            return
        target = link.ends[1 - side]
        message, checksum, _, gossip, source = parcel
        if not gossip:
            target.receive(link.ends[side].machine.id, message, checksum)
            return
        if gossip in target.gossip_seen or message is None:
            return
        target.gossip_seen[gossip] = None
        while len(target.gossip_seen) > GOSSIP_SEEN_MAX:
            del target.gossip_seen[next(iter(target.gossip_seen))]
        target.receive(source, message, checksum)
        if target.runs:
            self._spread(target, source, message, encode_message(message), gossip)

    # -- links ---------------------------------------------------------------------------------------------

    def dial(self, life: Life, target: Machine) -> None:
        if target.index in life.dialling or target.index in life.links or target is life.machine:
            return
        retry_us, _ = life.failed_dials.get(target.index, (0, 0))
        life.dialling[target.index] = None
        after = self._engine.after
        if self._engine.now_us < retry_us or target.index not in life.book:
            after(0, self._not_dialled, life, target)
            return
        if target.nat is Nat.HOUSE and target.site != life.machine.site:
            # A private address, which nobody has here.
            after(DIAL_TIMEOUT_US, self._dial_relays, life, target)
            return
        if target.nat is Nat.RELAYED or target.nat is Nat.OUTWARD:
            self._dial_relays(life, target)
            return
        other = target.life
        round_trip_us = 2 * one_way_us(life.machine, target) if other is not None else 20_000
        if other is None and not target.powerless:
            after(round_trip_us, self._dial_relays, life, target)
        elif other is None or target.frozen or self._is_cut_either(life.machine.index, target.index):
            after(DIAL_TIMEOUT_US, self._dial_relays, life, target)
        else:
            after(DIAL_ROUND_TRIPS * round_trip_us, self.dialled, life, target, other, None, ())

    def _dial_relays(self, life: Life, target: Machine) -> None:
        """No address of its own answers: over the relays that the life heard of, one after the other."""
        known = (self._world.by_id.get(relay) for relay in life.book[target.index][1])
        self._circuits.dial(life, target, tuple(relay.index for relay in known if relay is not None))

    def dialled(self, life: Life, target: Machine, other: Life, carrier: Life | None, relays: tuple[int, ...]) -> None:
        """The handshake's end. carrier: a relay, if it was made over one.  relays: what is left to try."""
        if not life.runs:
            return
        if life.machine.frozen:
            self._engine.after(ASLEEP_US, self.dialled, life, target, other, carrier, relays)
            return
        if target.index in life.links:
            self.dial_ended(life, target)
            return
        reached = other.runs and not target.frozen
        if carrier is not None:
            reached = reached and self._circuits.stands(life, target, carrier)
        else:
            reached = reached and not self._is_cut_either(life.machine.index, target.index)
        full = len(life.links) >= self._links_max or len(other.links) >= self._links_max
        if not reached or full or not (self._admits(life, target) and self._admits(other, life.machine)):
            self._circuits.dial(life, target, relays)
            return
        self._retire(other, life.machine)
        link = Link(life, other, self._engine.now_us) if carrier is None else self._circuits.make(life, other, carrier)
        life.links[target.index] = link
        other.links[life.machine.index] = link
        other.failed_dials.pop(life.machine.index, None)
        life.connected(target)
        other.connected(life.machine)
        self._flush(other, life.machine)
        self.dial_ended(life, target)

    def dial_ended(self, life: Life, target: Machine) -> None:
        """With a link, or without one."""
        if target.index not in life.links:
            self._not_dialled(life, target)
            return
        life.dialling.pop(target.index, None)
        life.failed_dials.pop(target.index, None)
        self._flush(life, target)
        self._wake(life, target)

    def when_linked(self, life: Life, target: Machine, action: Callable[[], None]) -> None:
        """Do it once there is a link, or none can be made."""
        if target.index in life.links or target is life.machine:
            action()
            return
        life.awaited.setdefault(target.index, []).append(action)
        self.dial(life, target)

    def _wake(self, life: Life, target: Machine) -> None:
        for action in life.awaited.pop(target.index, ()):
            action()

    def _retire(self, life: Life, peer: Machine) -> None:
        """The peer would not make another link if it still had this one."""
        old = life.links.pop(peer.index, None)
        if old is not None:
            side = old.side(life)
            old.open[side] = False
            life.lost(peer, True)
            self._circuits.ended(old, side)

    def _flush(self, life: Life, target: Machine) -> None:
        for message in life.waiting.pop(target.index, ()):
            link = life.links.get(target.index)
            if link is not None:
                self._transmit(link, life, message, encode_message(message), 0)

    def _not_dialled(self, life: Life, target: Machine) -> None:
        life.dialling.pop(target.index, None)
        if not life.runs:
            return
        if target.index in life.links:
            self._wake(life, target)
            return
        now_us = self._engine.now_us
        retry_us, delay_us = life.failed_dials.get(target.index, (0, 0))
        if now_us >= retry_us:
            delay_us = min(DIAL_RETRY_MOST_US, 2 * delay_us) if delay_us else DIAL_RETRY_FIRST_US
            life.failed_dials[target.index] = (now_us + delay_us, delay_us)
        life.waiting.pop(target.index, None)
        life.unreachable(target.id)
        self._wake(life, target)

    def _admits(self, life: Life, other: Machine) -> bool:
        """The handshake: a stranger, or one whose certificate was revoked, is sent away."""
        ctx = life.mesh.ctx
        wall_s = ctx.wall_us(life.machine.clock.local_us(self._engine.now_us)) // SECOND
        try:
            ctx.policy.check(other.certificate, other.id, wall_s)
        except CertificateError:
            return False
        return life.banned_until_us.get(other.index, 0) <= self._engine.now_us

    def close(self, life: Life, peer_index: int, *, silently: bool = False, reset: bool = True) -> None:
        """This end closes the link. The other end hears of it, or silently has to find out by its keepalive.

        reset: as a process's end does it; else it says goodbye.
        """
        link = life.links.pop(peer_index, None)
        if link is None:
            return
        side = link.side(life)
        link.open[side] = False
        if silently or reset:
            delay_us = self._keepalive_us() if silently else link.latency_us
            self._engine.after(delay_us, self._tell_end, link, 1 - side, reset and not silently)
        else:
            # The goodbye goes after what was sent.
            at_us = max(link.last_us[side], self._engine.now_us + link.latency_us)
            self._engine.at(at_us, self._tell_end, link, 1 - side, False)
        self._circuits.ended(link, side)

    def _tell_end(self, link: Link, side: int, reset: bool) -> None:
        """The other end hears of it, or finds out by its keepalive."""
        if link.open[side] and self.cuts and self._is_cut(link.hops[1 - side], link.ends[side].machine.index):
            self._engine.after(self._keepalive_us(), self.end, link, side, False)
        else:
            self.end(link, side, reset)

    def end(self, link: Link, side: int, reset: bool) -> None:
        """This end of it is no more, by nothing that it did itself."""
        if not link.open[side]:
            return
        link.open[side] = False
        life, other = link.ends[side], link.ends[1 - side].machine
        if life.links.get(other.index) is link:
            del life.links[other.index]
            life.lost(other, reset)
        self._circuits.ended(link, side)

    def unanswered(self, machine: Machine) -> None:
        """It fell silent: whoever has a link with it notices at the next keepalive, if it still is."""
        if machine.life is not None:
            for link in [*machine.life.links.values(), *self._circuits.of(machine.index)]:
                self._engine.after(self._keepalive_us(), self._if_silent, link, machine, machine.silences)

    def _if_silent(self, link: Link, machine: Machine, silence: int) -> None:
        if machine.frozen and machine.silences == silence:
            for side in (0, 1):
                self.end(link, side, False)

    def answers(self, machine: Machine) -> None:
        """It goes on, and with it what it carries."""
        for circuit in self._circuits.of(machine.index):
            self._resume(circuit)

    # -- partitions ----------------------------------------------------------------------------------------

    def cut(self, cut: Cut) -> None:
        self.cuts.append(cut)
        for link in self._links_across(cut):
            self._engine.after(self._keepalive_us(), self._if_cut, link, cut)

    def heal(self, cut: Cut) -> None:
        """What waited in links that still stand goes on."""
        if cut not in self.cuts:
            return
        self.cuts.remove(cut)
        self.healed_us = self._engine.now_us
        for link in self._links_across(cut):
            self._engine.after(link.latency_us, self._resume, link)

    @property
    def disturbed(self) -> bool:
        """Whether anything is cut, or messages get lost."""
        return bool(self.cuts) or self.weather is not FAIR

    def clear_up(self) -> None:
        """No message is lost from now on."""
        self.weather = FAIR
        self.healed_us = self._engine.now_us

    def _resume(self, link: Link) -> None:
        for side in (0, 1):
            for waiting, action in self._stops(link, side):
                parcels = waiting.copy()
                waiting.clear()
                for parcel in parcels:
                    action(link, side, parcel)

    def _stops(self, link: Link, side: int) -> list[tuple[list[Parcel], Callable[..., None]]]:
        """Where messages wait, the nearest to their end first."""
        stops: list[tuple[list[Parcel], Callable[..., None]]] = [(link.stalled[side], self._arrive)]
        if isinstance(link, Circuit):
            stops.append((link.held[side], self._relay))
        return stops

    def _if_cut(self, link: Link, cut: Cut) -> None:
        if cut in self.cuts:
            for side in (0, 1):
                self.end(link, side, False)

    def _links_across(self, cut: Cut) -> list[Link]:
        found: dict[int, Link] = {}
        for index in sorted(cut.island):
            life = self._world.machines[index].life
            if life is not None:
                for peer, link in life.links.items():
                    if peer not in cut.island and not isinstance(link, Circuit):
                        found[id(link)] = link
        return [*found.values(), *self._circuits.crossing(cut.island)]

    def _is_cut(self, source: int, target: int) -> bool:
        return any(cut.blocks(source, target) for cut in self.cuts)

    def _is_cut_either(self, a: int, b: int) -> bool:
        return bool(self.cuts) and (self._is_cut(a, b) or self._is_cut(b, a))

    def _keepalive_us(self) -> int:
        return self._dice.between(KEEPALIVE_LEAST_US, KEEPALIVE_MOST_US)

    def is_silent(self, link: Link) -> bool:
        """Whether one of its ends, or the relay, stands still or is cut off, so that nothing comes over it now."""
        ends = [life.machine for life in link.ends]
        if isinstance(link, Circuit):
            relay = link.carrier.machine
            return relay.frozen or any(end.frozen or not self.reaches(end.index, relay.index) for end in ends)
        return any(end.frozen for end in ends) or not self.reaches(ends[0].index, ends[1].index)

    def reaches(self, source: int, target: int) -> bool:
        """Whether no partition lies between them, in either direction."""
        return not self._is_cut_either(source, target)
