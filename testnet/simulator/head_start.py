"""A head start: a mesh that has found itself, so that ten thousand nodes need not begin from nothing.

Nothing is put into a machine from outside. Each is told at first of neighbours instead of the founders of the mesh; a
linked neighbour then says how deep its cell is (`CellDigest`) and passes on the member records of the cell and of some
contacts (`TableRows`), as neighbours do in the long run. These messages cost no time and are not counted as traffic.
What a node makes of them is its own affair: it chooses whom to watch, and links to them over the network.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING
from zlib import crc32

from ...protocol.cells import DEPTH_MAX, PLACE_BITS, place_of
from ...protocol.codec import encode_message
from ...protocol.messages import CellDigest, Message, TableRows
from ...protocol.records import RecordKind
from ...protocol.rows import WANTED_MAX
from .dice import Stream
from .engine import MS

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

NEIGHBOURS = 3
# Looked at so often until there is a link to a neighbour: before its tables first tick, in most cases.
TOLD_AFTER_US = 50 * MS


class HeadStart:
    """Who stands where among all nodes of a world, and who is told of whom."""

    def __init__(self, world: World, dice: Stream) -> None:
        self._world = world
        self._dice = dice
        placed = sorted((place_of(machine.id), machine.index) for machine in world.nodes)
        self._places = [place for place, _ in placed]
        self._indices = [index for _, index in placed]

    @property
    def lasts_us(self) -> int:
        """From when all have started until each was told."""
        return 4 * self._world.config.sync_interval_us

    def joined(self, machine: Machine) -> None:
        """It has started: before it meets nodes of other cells it is told how deep its own is, or it would take in
        theirs."""
        self._world.engine.after(TOLD_AFTER_US, self._tell_depth, machine)

    def begin(self) -> None:
        """To be called when all have started."""
        interval_us = self._world.config.sync_interval_us
        for machine in self._world.nodes:
            self._world.engine.after(2 * interval_us + self._dice.below(interval_us), self._hand_over, machine)

    def neighbours(self, machine: Machine) -> list[int]:
        """Some of its cell that can be dialled."""
        machines, mates = self._world.machines, self._within(machine, self._depth_of(machine))
        return self._dice.some(
            [index for index in mates if index != machine.index and not machines[index].behind_nat], NEIGHBOURS
        )

    # -- who stands where --------------------------------------------------------------------------------------

    def _span(self, place: int, depth: int) -> tuple[int, int]:
        """Where those that share the place's first bits are in the order of places."""
        rest = PLACE_BITS - depth
        first = place >> rest << rest
        return bisect_left(self._places, first), bisect_left(self._places, first + (1 << rest))

    def _depth_of(self, machine: Machine) -> int:
        """Where a cell that splits while it is crowded comes to rest."""
        place = place_of(machine.id)
        for depth in range(DEPTH_MAX):
            lo, hi = self._span(place, depth)
            if hi - lo <= self._world.config.cell_split:
                return depth
        return DEPTH_MAX

    def _within(self, machine: Machine, depth: int) -> list[int]:
        lo, hi = self._span(place_of(machine.id), depth)
        return self._indices[lo:hi]

    def _contacts(self, machine: Machine, depth: int) -> list[int]:
        """Some of each sibling prefix."""
        found: list[int] = []
        for level in range(depth):
            lo, hi = self._span(place_of(machine.id) ^ (1 << (PLACE_BITS - 1 - level)), level + 1)
            count = min(self._world.config.contacts_a_level, hi - lo)
            chosen = dict.fromkeys(lo + self._dice.below(hi - lo) for _ in range(count))
            found.extend(self._indices[at] for at in chosen)
        return found

    # -- what is said ------------------------------------------------------------------------------------------

    def _tell_depth(self, machine: Machine) -> None:
        life = machine.life
        if life is None:
            return
        if not life.links:
            self.joined(machine)
            return
        for index in list(life.links):
            peer = self._world.machines[index]
            depth = self._depth_of(peer)
            self._say(life, peer, CellDigest(0, depth, len(self._within(peer, depth)), 0, 0, 0, 0, ()))

    def _hand_over(self, machine: Machine) -> None:
        life = machine.life
        if life is None or not life.links:
            return
        depth = self._depth_of(machine)
        peer = self._world.machines[next(iter(life.links))]
        rows: list[bytes] = []
        for index in self._within(machine, depth) + self._contacts(machine, depth):
            other = self._world.machines[index]
            own = other.life.mesh.tables.get(RecordKind.MEMBER, other.id) if other.life is not None else None
            # As in any exchange: only what it lacks.
            if own is not None and life.mesh.tables.get(RecordKind.MEMBER, other.id) is None:
                rows.append(own.raw)
        for at in range(0, len(rows), WANTED_MAX):
            self._say(life, peer, TableRows(0, False, tuple(rows[at : at + WANTED_MAX]), (), (), ()))

    def _say(self, life: Life, peer: Machine, message: Message) -> None:
        if peer.index in life.links:
            life.receive(peer.id, message, crc32(encode_message(message)))
