"""Connections over a relay: each rests on two links of its relay, and is as slow, cut off, frozen or gone as they are.

As the transport of real nodes makes them: the dialler links with the relay first, the relay carries for whoever has a
place with it and a link, and each end has the circuit's keepalive beside that of its link with the relay.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .engine import MS
from .links import DIAL_ROUND_TRIPS, DIAL_TIMEOUT_US, Link, Parcel, one_way_us

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .network import Network
    from .world import World

# As `RelayLimits` of the transport.
RESERVATIONS_MAX = 128
CIRCUITS_MAX = 64
CIRCUITS_TO_ONE_MAX = 16
# A circuit's end that cannot be told yet: how long until it is tried again.
TOLD_AGAIN_US = 500 * MS


class Circuit(Link):
    """carrier: the relay, in the life that made it.  held: what waits at the relay, by direction.

    legs_us: one way, between the relay and each end.  relayed_us: when the latest of a direction comes to the relay.
    """

    __slots__ = ("carrier", "held", "legs_us", "relayed_us")

    def __init__(self, a: Life, b: Life, now_us: int, carrier: Life) -> None:
        super().__init__(a, b, now_us)
        relay = carrier.machine
        self.carrier = carrier
        self.hops = (relay.index, relay.index)
        self.legs_us = (one_way_us(a.machine, relay), one_way_us(relay, b.machine))
        self.latency_us = self.legs_us[0] + self.legs_us[1]
        self.relayed_us = [now_us, now_us]
        self.held: tuple[list[Parcel], list[Parcel]] = ([], [])


class Circuits:
    """All that relays carry."""

    def __init__(self, world: World, network: Network) -> None:
        self._world = world
        self._network = network
        self._carried: dict[int, dict[Circuit, None]] = {}

    def of(self, relay: int) -> list[Circuit]:
        """What a machine carries, an end of which still stands."""
        return list(self._carried.get(relay, ()))

    def crossing(self, machines: frozenset[int]) -> list[Circuit]:
        """Those that have a leg from one of these machines to another."""
        found = []
        for relay, carried in self._carried.items():
            inside = relay in machines
            found += [each for each in carried if any((end.machine.index in machines) != inside for end in each.ends)]
        return found

    # -- dialling ------------------------------------------------------------------------------------------

    def dial(self, life: Life, target: Machine, relays: tuple[int, ...]) -> None:
        """Over the first of these that leads there."""
        network = self._network
        if not life.runs:
            return
        if target.index in life.links or not relays:
            network.dial_ended(life, target)
            return
        relay = self._world.machines[relays[0]]
        life.knows(relay.index)
        network.when_linked(life, relay, partial(self._ask, life, target, relay, relays[1:]))

    def _ask(self, life: Life, target: Machine, relay: Machine, others: tuple[int, ...]) -> None:
        if not life.runs or relay.index not in life.links:
            self.dial(life, target, others)
            return
        after, carrier, other = self._world.engine.after, relay.life, target.life
        first_us = one_way_us(life.machine, relay)
        if carrier is None or self._is_silent(life.machine, relay):
            after(DIAL_TIMEOUT_US, self.dial, life, target, others)
        elif other is None or not self._takes(carrier, target):
            after(2 * first_us, self.dial, life, target, others)
        elif self._is_silent(relay, target):
            after(DIAL_TIMEOUT_US, self.dial, life, target, others)
        else:
            dial_us = 2 * DIAL_ROUND_TRIPS * (first_us + one_way_us(relay, target))
            after(dial_us, self._network.dialled, life, target, other, carrier, others)

    def _is_silent(self, machine: Machine, other: Machine) -> bool:
        return other.frozen or not self._network.reaches(machine.index, other.index)

    def _takes(self, carrier: Life, target: Machine) -> bool:
        carried = self._carried.get(carrier.machine.index, {})
        return (
            target.index in carrier.places
            and len(carried) < CIRCUITS_MAX
            and sum(each.ends[1].machine is target for each in carried) < CIRCUITS_TO_ONE_MAX
        )

    def stands(self, life: Life, target: Machine, carrier: Life) -> bool:
        """Whether a circuit can be made now."""
        relay = carrier.machine
        silent = relay.frozen or self._is_silent(life.machine, relay) or self._is_silent(relay, target)
        return carrier.runs and not silent and relay.index in life.links and self._takes(carrier, target)

    def make(self, life: Life, other: Life, carrier: Life) -> Circuit:
        circuit = Circuit(life, other, self._world.engine.now_us, carrier)
        self._carried.setdefault(carrier.machine.index, {})[circuit] = None
        return circuit

    # -- ends ----------------------------------------------------------------------------------------------

    def ended(self, link: Link, side: int) -> None:
        """One end of a link, or of a circuit, is no more: what it carried is over too."""
        if not self._carried:
            return
        if isinstance(link, Circuit):
            carried = self._carried.get(link.hops[0], {})
            if not any(link.open):
                carried.pop(link, None)
            return
        life, other = link.ends[side], link.ends[1 - side]
        for circuit in self.of(other.machine.index):
            # The muxer of a circuit sees that its connection is lost, however that came.
            if circuit.carrier is other and life in circuit.ends:
                self._network.end(circuit, circuit.side(life), True)
        for circuit in self.of(life.machine.index):
            if circuit.carrier is life and other in circuit.ends:
                far = 1 - circuit.side(other)
                self._world.engine.after(circuit.legs_us[far], self._tell, circuit, far)

    def _tell(self, circuit: Circuit, side: int) -> None:
        """The relay resets the stream to this end, once it can."""
        relay, machine = circuit.carrier.machine, circuit.ends[side].machine
        if not circuit.open[side] or not circuit.carrier.runs:
            return
        if relay.frozen or not self._network.reaches(relay.index, machine.index):
            self._world.engine.after(TOLD_AGAIN_US, self._tell, circuit, side)
            return
        self._network.end(circuit, side, True)
