"""Rumours about members on their way: each is told a bounded number of times, the least told first."""

from __future__ import annotations

from .messages import MemberState

# What one ping or ack carries: at most 8 * 110 bytes.
RUMOURS_PER_MESSAGE = 8
# SWIM's lambda: a rumour is told lambda * log2(n) times by each node, which reaches all of n with high
# probability.
TELLINGS = 3


class Rumours:
    """Bounded by what is added: at most one rumour a member, or one a member and accuser.

    The owner adds only rumours of members that it knows, with at most `suspicion_accusers` + 1 accusers each.
    """

    def __init__(self) -> None:
        self._by_node: dict[bytes, dict[bytes, _Rumour]] = {}

    def __len__(self) -> int:
        """Members that there is something to say of."""
        return len(self._by_node)

    def add(self, state: MemberState) -> None:
        """Begin to tell it. A rumour replaces all of its member's, except that accusers add up."""
        told = self._by_node.setdefault(state.node, {})
        if not state.accuser:
            told.clear()
        told[state.accuser] = _Rumour(state)

    def forget(self, node: bytes) -> None:
        self._by_node.pop(node, None)

    def take(self, live_members: int, first: MemberState | None = None) -> tuple[MemberState, ...]:
        """Rumours for one message.

        live_members: >= 1, how many should hear them.  first: what the recipient must hear in any case.
        """
        limit = TELLINGS * max(1, live_members).bit_length()
        waiting = [rumour for told in self._by_node.values() for rumour in told.values()]
        if len(waiting) > RUMOURS_PER_MESSAGE:
            waiting.sort(key=lambda rumour: rumour.told)
            del waiting[RUMOURS_PER_MESSAGE:]
        taken = [first] if first else []
        for rumour in waiting:
            rumour.told += 1
            if rumour.told >= limit:
                self._drop(rumour.state)
            if rumour.state != first:
                taken.append(rumour.state)
        return tuple(taken[:RUMOURS_PER_MESSAGE])

    def _drop(self, state: MemberState) -> None:
        told = self._by_node[state.node]
        del told[state.accuser]
        if not told:
            del self._by_node[state.node]


class _Rumour:
    __slots__ = ("state", "told")

    def __init__(self, state: MemberState) -> None:
        self.state = state
        self.told = 0
