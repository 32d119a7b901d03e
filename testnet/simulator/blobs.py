"""Blobs by their digest: who has which, and how long it takes to bring one over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ...protocol.effects import FetchBlobs
from ...protocol.events import BlobsFailed, BlobsFetched
from .circuits import Circuit
from .dice import Stream
from .engine import MS, SECOND
from .links import Link

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

# Until a source that is silent is given up, and until nobody else is found who has it.
SILENT_US = NOBODY_US = 10 * SECOND
# Between two of these other things get their turn on a line.
PIECE_BYTES = 65_536


class _Fetch:
    """digests: what still lacks.  size_bytes, left_bytes, lacking_bytes: of the first of them, once a source said how
    long it is: all of it, what the present source has not sent yet, and what has not come.  attempt: counts sources.

    No dataclass: compiled, its annotations would be looked up before `Life` is there.
    """

    __slots__ = ("attempt", "digests", "lacking_bytes", "left_bytes", "life", "size_bytes", "wanted")

    def __init__(self, life: Life, wanted: FetchBlobs, digests: list[bytes]) -> None:
        self.life = life
        self.wanted = wanted
        self.digests = digests
        self.size_bytes = self.left_bytes = self.lacking_bytes = -1
        self.attempt = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """On its way, from one side of a link. attempt: of its fetch.  others: sources that are left, if it is lost."""

    fetch: _Fetch
    attempt: int
    link: Link
    side: int
    size_bytes: int
    others: tuple[bytes, ...]


class Blobs:
    """Held per machine, also over restarts; a disk that is replaced loses them."""

    def __init__(self, world: World, dice: Stream) -> None:
        self._world = world
        self._engine = world.engine
        self._dice = dice
        self._held: dict[int, dict[bytes, int]] = {}

    def put(self, machine: int, digest: bytes, size_bytes: int) -> None:
        self._held.setdefault(machine, {})[digest] = size_bytes

    def wipe(self, machine: int) -> None:
        self._held.pop(machine, None)

    def holds(self, machine: int, digest: bytes) -> bool:
        return digest in self._held.get(machine, {})

    def fetch(self, life: Life, wanted: FetchBlobs) -> None:
        """One after the other; each source goes on where the last one broke off, and with the last the fetch fails."""
        lacking = [digest for digest in wanted.digests if not self.holds(life.machine.index, digest)]
        self._next(_Fetch(life, wanted, lacking))

    def _next(self, fetch: _Fetch) -> None:
        if not fetch.digests:
            self._engine.after(MS, fetch.life.feed, BlobsFetched(fetch.wanted.token))
            return
        fetch.lacking_bytes = -1
        self._try(fetch, tuple(fetch.wanted.sources))

    def _try(self, fetch: _Fetch, sources: tuple[bytes, ...]) -> None:
        life, world = fetch.life, self._world
        if not life.runs:
            return
        if not sources:
            failed = BlobsFailed(fetch.wanted.token, "no source has the blob")
            self._engine.after(NOBODY_US, life.feed, failed)
            return
        fetch.attempt += 1
        fetch.left_bytes = fetch.lacking_bytes
        source = world.by_id.get(sources[0])
        if source is None:
            self._try(fetch, sources[1:])
            return
        world.network.when_linked(life, source, partial(self._ask, fetch, source, sources[1:]))

    def _ask(self, fetch: _Fetch, source: Machine, others: tuple[bytes, ...]) -> None:
        link = fetch.life.links.get(source.index)
        if link is None:
            self._try(fetch, others)
        else:
            self._engine.after(link.latency_us, self._serve, fetch, fetch.attempt, link, source, others)

    def _serve(self, fetch: _Fetch, attempt: int, link: Link, source: Machine, others: tuple[bytes, ...]) -> None:
        """A piece leaves, and the next one when the uplink is through with it."""
        if attempt != fetch.attempt:
            return
        digest, network = fetch.digests[0], self._world.network
        side = 1 - link.side(fetch.life)
        if network.is_silent(link):
            self._break_off(fetch, SILENT_US, others)
            return
        if not all(link.open) or not self.holds(source.index, digest):
            self._break_off(fetch, link.latency_us, others)
            return
        if fetch.left_bytes < 0:
            fetch.size_bytes = fetch.left_bytes = fetch.lacking_bytes = self._held[source.index][digest]
        size_bytes = min(PIECE_BYTES, fetch.left_bytes)
        fetch.left_bytes -= size_bytes
        source.sent_bytes += size_bytes
        piece = _Piece(fetch, attempt, link, side, size_bytes, others)
        if isinstance(link, Circuit):
            relay = link.carrier.machine
            at_us = source.line.crossed_us(relay.line, link.legs_us[side], size_bytes, self._engine.now_us, self._dice)
            self._engine.at(at_us, self._relay, piece, link)
        else:
            line = fetch.life.machine.line
            at_us = source.line.crossed_us(line, link.latency_us, size_bytes, self._engine.now_us, self._dice)
            self._engine.at(at_us, self._arrive, piece)
        if fetch.left_bytes:
            self._engine.at(source.line.sent_us, self._serve, fetch, attempt, link, source, others)

    def _relay(self, piece: _Piece, circuit: Circuit) -> None:
        relay, size_bytes = circuit.carrier.machine, piece.size_bytes
        source, machine = circuit.ends[piece.side].machine, piece.fetch.life.machine
        silent = relay.frozen or not self._world.network.reaches(source.index, relay.index)
        if not self._goes_on(piece, silent=silent, stands=circuit.carrier.runs):
            return
        relay.sent_bytes += size_bytes
        from_us = relay.line.taken_at_us(size_bytes, self._engine.now_us)
        leg_us = circuit.legs_us[1 - piece.side]
        at_us = relay.line.crossed_us(machine.line, leg_us, size_bytes, from_us, self._dice)
        self._engine.at(at_us, self._arrive, piece)

    def _arrive(self, piece: _Piece) -> None:
        fetch, machine = piece.fetch, piece.fetch.life.machine
        if not self._goes_on(piece, silent=not self._world.network.reaches(piece.link.hops[piece.side], machine.index)):
            return
        taken_us = machine.line.taken_at_us(piece.size_bytes, self._engine.now_us)
        fetch.lacking_bytes -= piece.size_bytes
        if not fetch.lacking_bytes:
            self._engine.at(taken_us, self._came, fetch)

    def _goes_on(self, piece: _Piece, *, silent: bool, stands: bool = True) -> bool:
        """Or else it is lost, and what follows it: another source is asked. silent: nothing comes over its link now.
        stands: whether that is still there, where the piece is."""
        fetch = piece.fetch
        if piece.attempt != fetch.attempt:
            return False
        if not stands or not piece.link.open[1 - piece.side]:
            self._break_off(fetch, 0, piece.others)
            return False
        if silent:
            self._break_off(fetch, SILENT_US, piece.others)
        return not silent

    def _break_off(self, fetch: _Fetch, after_us: int, others: tuple[bytes, ...]) -> None:
        """What is still on its way counts no more."""
        fetch.attempt += 1
        self._engine.after(after_us, self._try, fetch, others)

    def _came(self, fetch: _Fetch) -> None:
        if fetch.life.runs:
            self.put(fetch.life.machine.index, fetch.digests.pop(0), fetch.size_bytes)
            self._next(fetch)
