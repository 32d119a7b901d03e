"""The network: dials, links, gossip, and what goes wrong with them.

By default it is what TCP and a multiplexer make of a bad net: messages come in order or the link ends, and what is lost
below is late. Faults that no such link has (loss, doubles and overtaking of single messages) can be switched on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from zlib import crc32

from ...crypto.certificates import CertificateError
from ...protocol.codec import decode_message, encode_message
from ...protocol.messages import Message
from .dice import Stream
from .engine import SECOND, Engine
from .links import (
    DIAL_RETRY_FIRST_US,
    DIAL_RETRY_MOST_US,
    DIAL_ROUND_TRIPS,
    DIAL_TIMEOUT_US,
    KEEPALIVE_LEAST_US,
    KEEPALIVE_MOST_US,
    WAITING_MESSAGES_MAX,
    Link,
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
        self.traffic = Traffic()
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
        engine, dice = self._engine, self._dice
        side = 0 if link.ends[0] is life else 1
        checksum = crc32(payload)
        if self.weather is FAIR or gossip:
            at_us = link.arrival_us(side, size_bytes, engine.now_us, dice)
            engine.at(at_us, self._arrive, link, side, message, checksum, gossip, source)
            return
        weather = self.weather
        if dice.chance(weather.loss):
            return
        for _ in range(1 + dice.chance(weather.doubled)):
            at_us = link.arrival_us(side, size_bytes, engine.now_us, dice)
            if weather.jitter_us:
                at_us += dice.below(weather.jitter_us)
            engine.at(at_us, self._arrive, link, side, message, checksum, gossip, source)

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

    def _arrive(
        self, link: Link, side: int, message: Message | None, checksum: int, gossip: int, source: bytes
    ) -> None:
        if not link.open[1 - side]:
            return
        target, sender = link.ends[1 - side], link.ends[side].machine
        if self.cuts and self._is_cut(sender.index, target.machine.index):
            link.stalled[side].append((message, checksum, gossip, source))
            return
        if not gossip:
            target.receive(sender.id, message, checksum)
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
        if self._engine.now_us < retry_us:
            self._engine.after(0, self._not_dialled, life, target)
            return
        relay = self._way(life, target)
        if relay is None:
            self._engine.after(0, self._not_dialled, life, target)
            return
        other = target.life
        round_trip_us = 2 * one_way_us(life, other) if other is not None else 20_000
        if other is None and not target.powerless:
            self._engine.after(round_trip_us, self._not_dialled, life, target)
        elif other is None or target.frozen or self._is_cut_either(life.machine.index, target.index):
            self._engine.after(DIAL_TIMEOUT_US, self._not_dialled, life, target)
        else:
            dial_us = DIAL_ROUND_TRIPS * round_trip_us
            self._engine.after(dial_us, self._dialled, life, target, other, relay)

    def _way(self, life: Life, target: Machine) -> int | None:
        """-1: directly; else the index of a relay; None: no address is known that could be dialled."""
        if target.index not in life.book:
            return None
        if not target.behind_nat:
            return -1
        for index in target.relays:
            relay = self._world.machines[index]
            cut = self._is_cut_either(life.machine.index, index) or self._is_cut_either(index, target.index)
            if relay.life is not None and not relay.frozen and not cut and relay is not life.machine:
                return index
        return None

    def _dialled(self, life: Life, target: Machine, other: Life, relay: int) -> None:
        reached = other.runs and not target.frozen and not self._is_cut_either(life.machine.index, target.index)
        if relay >= 0:
            reached = reached and self._world.machines[relay].life is not None
        if not life.runs or life.machine.frozen:
            life.dialling.pop(target.index, None)
            return
        full = len(life.links) >= self._links_max or len(other.links) >= self._links_max
        if not reached or full or not (self._admits(life, target) and self._admits(other, life.machine)):
            self._not_dialled(life, target)
            return
        life.dialling.pop(target.index, None)
        life.failed_dials.pop(target.index, None)
        if target.index not in life.links:
            self._retire(other, life.machine)
            link = Link(life, other, self._engine.now_us, relay)
            life.links[target.index] = link
            other.links[life.machine.index] = link
            other.failed_dials.pop(life.machine.index, None)
            life.connected(target)
            other.connected(life.machine)
            self._flush(other, life.machine)
        self._flush(life, target)

    def _retire(self, life: Life, peer: Machine) -> None:
        """The peer would not make another link if it still had this one."""
        old = life.links.pop(peer.index, None)
        if old is not None:
            old.open[old.side(life)] = False
            life.lost(peer, True)

    def _flush(self, life: Life, target: Machine) -> None:
        for message in life.waiting.pop(target.index, ()):
            link = life.links.get(target.index)
            if link is not None:
                self._transmit(link, life, message, encode_message(message), 0)

    def _not_dialled(self, life: Life, target: Machine) -> None:
        life.dialling.pop(target.index, None)
        if not life.runs or target.index in life.links:
            return
        now_us = self._engine.now_us
        retry_us, delay_us = life.failed_dials.get(target.index, (0, 0))
        if now_us >= retry_us:
            delay_us = min(DIAL_RETRY_MOST_US, 2 * delay_us) if delay_us else DIAL_RETRY_FIRST_US
            life.failed_dials[target.index] = (now_us + delay_us, delay_us)
        life.waiting.pop(target.index, None)
        life.unreachable(target.id)

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
            self._engine.after(delay_us, self._end, link, 1 - side, reset and not silently)
        else:
            # The goodbye goes after what was sent.
            at_us = max(link.last_us[side], self._engine.now_us + link.latency_us)
            self._engine.at(at_us, self._end, link, 1 - side, False)

    def _end(self, link: Link, side: int, reset: bool) -> None:
        if not link.open[side]:
            return
        link.open[side] = False
        life, other = link.ends[side], link.ends[1 - side].machine
        if life.links.get(other.index) is link:
            del life.links[other.index]
            life.lost(other, reset)

    def unanswered(self, machine: Machine) -> None:
        """It fell silent: whoever has a link with it notices at the next keepalive, if it still is."""
        if machine.life is not None:
            for link in list(machine.life.links.values()):
                self._engine.after(self._keepalive_us(), self._if_silent, link, machine, machine.silences)

    def _if_silent(self, link: Link, machine: Machine, silence: int) -> None:
        if machine.frozen and machine.silences == silence:
            for side in (0, 1):
                self._end(link, side, False)

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
        for link in self._links_across(cut):
            for side in (0, 1):
                parcels = list(link.stalled[side])
                link.stalled[side].clear()
                for parcel in parcels:
                    at_us = link.arrival_us(side, 100, self._engine.now_us, self._dice)
                    self._engine.at(at_us, self._arrive, link, side, *parcel)

    def _if_cut(self, link: Link, cut: Cut) -> None:
        if cut in self.cuts:
            for side in (0, 1):
                self._end(link, side, False)

    def _links_across(self, cut: Cut) -> list[Link]:
        found: dict[int, Link] = {}
        for index in sorted(cut.island):
            life = self._world.machines[index].life
            if life is not None:
                for peer, link in life.links.items():
                    if peer not in cut.island:
                        found[id(link)] = link
        return list(found.values())

    def _is_cut(self, source: int, target: int) -> bool:
        return any(cut.blocks(source, target) for cut in self.cuts)

    def _is_cut_either(self, a: int, b: int) -> bool:
        return bool(self.cuts) and (self._is_cut(a, b) or self._is_cut(b, a))

    def _keepalive_us(self) -> int:
        return self._dice.between(KEEPALIVE_LEAST_US, KEEPALIVE_MOST_US)

    def reaches(self, source: int, target: int) -> bool:
        """Whether no partition lies between them, in either direction."""
        return not self._is_cut_either(source, target)
