"""Which of a task's results is right: a pure function of the votes and of how many must agree.

Each dissenting vote raises what is needed by one: a doubt is not settled by one more vote, as it would be if only
another copy were run, but by a majority that grows with the doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

Same = Callable[["Vote", "Vote"], bool]


class Vote(NamedTuple):
    """One worker's signed result of one task. Votes compare in the order in which they become canonical.

    copy, epoch, batch_id: where it is.  exit_code, digest: what it says.  output: the bytes, if they came along.
    spoiled: its worker sealed what cannot be opened; it says nothing of the task.
    """

    copy: int
    epoch: int
    batch_id: bytes
    node: bytes
    exit_code: int
    digest: bytes
    output: bytes | None = None
    spoiled: bool = False


class Verdict(NamedTuple):
    """winner: the canonical vote, None while open.  more: votes that are still to come.

    agreeing, dissenting: nodes, once there is a winner.
    """

    winner: Vote | None
    more: int
    agreeing: tuple[bytes, ...] = ()
    dissenting: tuple[bytes, ...] = ()


def identical(a: Vote, b: Vote) -> bool:
    """The comparison of runtimes that are deterministic: exit code and every byte."""
    return a.exit_code == b.exit_code and a.digest == b.digest


def decide(votes: Sequence[Vote], quorum: int, same: Same = identical) -> Verdict:
    """The verdict on one task. quorum: votes that must agree when nobody dissents, > 0.

    A node's first vote counts, others of it do not. same: must be reflexive and symmetric; it need not be transitive
    (tolerances are not): votes are grouped around the earliest one that they are the same as.
    A spoiled vote never wins, and is no doubt about the others; whoever cast it dissents.
    """
    first: dict[bytes, Vote] = {}
    for vote in sorted(votes, key=lambda vote: vote[:6]):
        first.setdefault(vote.node, vote)
    groups: list[list[Vote]] = []
    sound = [vote for vote in first.values() if not vote.spoiled]
    for vote in sound:
        for group in groups:
            if same(group[0], vote):
                group.append(vote)
                break
        else:
            groups.append([vote])
    if not groups:
        return Verdict(None, quorum)
    largest = max(groups, key=len)
    dissent = len(sound) - len(largest)
    needed = quorum + dissent
    if len(largest) < needed:
        return Verdict(None, needed - len(largest))
    agreeing = tuple(vote.node for vote in largest)
    return Verdict(largest[0], 0, agreeing, tuple(node for node in first if node not in agreeing))
