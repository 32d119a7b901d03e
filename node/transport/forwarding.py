"""How much news is checked and passed on: of each neighbour, and over all of them of authors that nobody here knows.

Gossip carries no certificate, and whoever is admitted may sign what it likes with keys that it makes up. An author
that is linked, or in the tables of this cell, is known; one of another cell is not, and is heard like the invented
ones: from a share that all neighbours have together, and a little of each neighbour's own, so that one who floods does
not silence what others bring.
"""

from __future__ import annotations

from collections.abc import Callable

from ...protocol.budget import Budget
from ...protocol.limits import Limit

SECOND_US = 1_000_000
# News that one peer may bring: each takes 2 to 3 ms, so at its full rate it has a fifth of a core.
FORWARDS_BURST = 256
FORWARDS_A_SECOND = 64
# Of unknown authors: by all together another fifth, and beside that by each.
STRANGERS_BURST = 256
STRANGERS_A_SECOND = 64
STRANGERS_EACH_BURST = 8
STRANGERS_EACH_A_SECOND = 1


class Forwarding:
    """is_linked: whether a neighbour is one still; what is kept of others goes when a new one comes."""

    def __init__(self, is_linked: Callable[[bytes], bool]) -> None:
        self._is_linked = is_linked
        self._neighbours: dict[bytes, tuple[Budget, Budget]] = {}
        self._strangers: Budget | None = None

    def refusal(self, forwarder: bytes, author_is_known: bool, now_us: int) -> Limit | None:
        """Which limit a message is over; None if it is to be checked, and then it is counted."""
        if self._strangers is None:
            self._strangers = Budget(STRANGERS_BURST, STRANGERS_A_SECOND, SECOND_US, now_us)
        if forwarder not in self._neighbours:
            self._neighbours = {peer: held for peer, held in self._neighbours.items() if self._is_linked(peer)}
            self._neighbours[forwarder] = (
                Budget(FORWARDS_BURST, FORWARDS_A_SECOND, SECOND_US, now_us),
                Budget(STRANGERS_EACH_BURST, STRANGERS_EACH_A_SECOND, SECOND_US, now_us),
            )
        everything, own_strangers = self._neighbours[forwarder]
        if not everything.spend(1, now_us):
            return Limit.GOSSIP_FORWARDER
        if author_is_known or own_strangers.spend(1, now_us) or self._strangers.spend(1, now_us):
            return None
        return Limit.GOSSIP_STRANGERS
