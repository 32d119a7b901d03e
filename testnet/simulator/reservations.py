"""A place at each of a machine's relays, as the transport of real nodes keeps it: who has none is not reached there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...protocol.events import AddressesChanged
from .circuits import RESERVATIONS_MAX
from .engine import MS, SECOND
from .links import Nat

if TYPE_CHECKING:
    from .life import Life
    from .links import Link

RETRY_FIRST_US = 500 * MS
RETRY_MOST_US = 30 * SECOND
# For one exchange with a relay that is silent.
CONTROL_US = 10 * SECOND
ASLEEP_US = 100 * MS


class Reservations:
    """Of one life. Renewals cost nothing here: a place lasts as long as the link with the relay."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._engine = life.world.engine
        self._held: dict[int, None] = {}

    def begin(self) -> None:
        for relay in self._life.machine.relays:
            self._keep(relay, RETRY_FIRST_US)

    def lost(self, relay: int) -> None:
        """The link with it ended, if it is a relay of ours at all."""
        if relay in self._held:
            del self._held[relay]
            self.tell()
            self._engine.after(0, self._keep, relay, RETRY_FIRST_US)

    def tell(self) -> None:
        """Where this life can be reached."""
        life, machine = self._life, self._life.machine
        direct = () if machine.nat in (Nat.RELAYED, Nat.OUTWARD) else (f"/sim/{machine.index}",)
        held = [relay for relay in machine.relays if relay in self._held]
        circuits = tuple(f"/sim/{relay}/p2p-circuit" for relay in held)
        relays = tuple(life.world.machines[relay].id for relay in held)
        life.feed(AddressesChanged(direct + circuits, relays))

    def _keep(self, relay: int, delay_us: int) -> None:
        life = self._life
        if not life.runs:
            return
        if life.machine.frozen:
            self._engine.after(ASLEEP_US, self._keep, relay, delay_us)
            return
        life.knows(relay)
        life.world.network.when_linked(life, life.world.machines[relay], partial(self._ask, relay, delay_us))

    def _again(self, relay: int, delay_us: int) -> None:
        self._engine.after(delay_us, self._keep, relay, min(RETRY_MOST_US, 2 * delay_us))

    def _ask(self, relay: int, delay_us: int) -> None:
        life = self._life
        link = life.links.get(relay)
        if link is None:
            self._again(relay, delay_us)
            return
        machine = life.world.machines[relay]
        silent = machine.frozen or not life.world.network.reaches(life.machine.index, relay)
        answer_us = CONTROL_US if silent else 2 * link.latency_us
        self._engine.after(answer_us, self._answered, relay, link, silent, delay_us)

    def _answered(self, relay: int, link: Link, silent: bool, delay_us: int) -> None:
        life = self._life
        if not life.runs:
            return
        carrier = link.ends[1 - link.side(life)]
        full = len(carrier.places) >= RESERVATIONS_MAX and life.machine.index not in carrier.places
        if silent or full or not all(link.open):
            self._again(relay, delay_us)
            return
        carrier.places[life.machine.index] = None
        self._held[relay] = None
        self.tell()
