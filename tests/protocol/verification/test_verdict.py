"""Verdicts are a pure function of the votes, and a doubt asks for more than one vote to settle it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.verification.verdict import Vote, decide


def vote(node: int, answer: int, copy: int = 0) -> Vote:
    return Vote(copy, 1, bytes([node]) * 32, bytes([node]), 0, bytes([answer]))


def test_two_that_agree_settle_it_and_the_first_copy_is_canonical() -> None:
    verdict = decide([vote(2, 1, copy=1), vote(1, 1)], 2)
    assert verdict.winner == vote(1, 1) and set(verdict.agreeing) == {b"\x01", b"\x02"}


def test_a_single_vote_waits_for_the_second() -> None:
    assert decide([vote(1, 1)], 2)[:2] == (None, 1)
    assert decide([], 3)[:2] == (None, 3)


def test_each_dissenter_raises_what_is_needed_by_one() -> None:
    votes = [vote(1, 1), vote(2, 2, 1)]
    assert decide(votes, 2)[:2] == (None, 2)
    votes.append(vote(3, 1, 2))
    assert decide(votes, 2)[:2] == (None, 1)
    votes.append(vote(4, 1, 3))
    verdict = decide(votes, 2)
    assert verdict.winner == vote(1, 1) and verdict.dissenting == (b"\x02",)


def test_a_node_has_one_vote_however_often_it_speaks() -> None:
    assert decide([vote(1, 1), vote(1, 1, 1), vote(1, 1, 2)], 2)[:2] == (None, 1)


votes_of = st.lists(st.builds(vote, st.integers(0, 8), st.integers(0, 3), st.integers(0, 15)), max_size=12)


@given(votes_of, st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_of_votes_changes_nothing(votes: list[Vote], quorum: int, dice: object) -> None:
    shuffled = list(votes)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(votes, quorum) == decide(shuffled, quorum)


@given(votes_of, st.integers(1, 4))
def test_a_winner_has_the_quorum_and_a_lead_over_all_dissent(votes: list[Vote], quorum: int) -> None:
    verdict = decide(votes, quorum)
    if verdict.winner is None:
        assert verdict.more > 0
    else:
        assert len(verdict.agreeing) >= quorum + len(verdict.dissenting)


@given(votes_of, st.sets(st.integers(0, 8)), st.integers(1, 4))
def test_spoiled_votes_change_nothing_for_the_others_and_dissent(votes: list[Vote], bad: set[int], quorum: int) -> None:
    nodes = {bytes([node]) for node in bad}
    mixed = [vote._replace(spoiled=True) if vote.node in nodes else vote for vote in votes]
    verdict, without = decide(mixed, quorum), decide([vote for vote in mixed if not vote.spoiled], quorum)
    assert verdict[:3] == without[:3]
    if verdict.winner is not None:
        assert {vote.node for vote in mixed if vote.spoiled} == set(verdict.dissenting) - set(without.dissenting)
