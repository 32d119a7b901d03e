"""Which nodes' votes count on a task: each node has one, and each copy brings one.

A copy may have been run by several: its lease ran out, a replica lost its disk, two of them were parted, or one lies.
All but one of these results are votes too many: who is quick to ask could let its lease run out and leave the copy to
an accomplice, and that one to the next, though the salt chose but one of them. But where a node has run two copies it
needs one of them only, and the other is for whoever has run that as well: no copy is lost as long as anybody has one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from .verdict import Vote


def counted(votes: Sequence[Vote], caught: Container[bytes]) -> list[Vote]:
    """Of a task's votes, as they came: first results, and of each later copy one; none of those who were caught."""
    good = [vote for vote in votes if vote.node not in caught]
    if len({vote.copy for vote in good}) == len({vote.node for vote in good}) == len(good):
        return good
    first = {vote.node for vote in good if not vote.copy}
    seats = seated((vote.copy, vote.node) for vote in good if vote.node not in first)
    return [vote for vote in good if vote.node in (seats if vote.copy else first)]


def seated(runs: Iterable[tuple[int, bytes]]) -> dict[bytes, int]:
    """Of as many nodes as possible, the copy that each votes with.

    runs: (copy, node), as results came: earlier nodes first, and whoever has a seat keeps one as more results come.
    """
    ran: dict[bytes, list[int]] = {}
    taken: dict[int, bytes] = {}
    standing: dict[bytes, None] = {}
    for copy, node in runs:
        ran.setdefault(node, []).append(copy)
        if node not in taken.values():
            standing[node] = None
        # One more result gives a seat to one at most: to its node, or to whoever has what that one can leave now.
        for each in standing:
            if _find_seat(each, ran, taken, {}):
                del standing[each]
                break
    return {node: copy for copy, node in taken.items()}


def _find_seat(node: bytes, ran: dict[bytes, list[int]], taken: dict[int, bytes], tried: dict[int, None]) -> bool:
    """Give the node a copy; whoever has it moves to another that it ran, if it can."""
    for copy in ran[node]:
        if copy in tried:
            continue
        tried[copy] = None
        if copy not in taken or _find_seat(taken[copy], ran, taken, tried):
            taken[copy] = node
            return True
    return False
