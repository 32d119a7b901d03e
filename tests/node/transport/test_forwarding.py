"""What neighbours may make a node check: a rate each, and one over all of them for authors that nobody knows."""

from __future__ import annotations

import pytest

from hearthmesh.node.transport.forwarding import (
    FORWARDS_A_SECOND,
    FORWARDS_BURST,
    SECOND_US,
    STRANGERS_A_SECOND,
    STRANGERS_BURST,
    STRANGERS_EACH_A_SECOND,
    STRANGERS_EACH_BURST,
    Forwarding,
)
from hearthmesh.protocol.limits import Limit

NEIGHBOURS = [bytes([number]) * 32 for number in range(20)]


def heard(forwarding: Forwarding, neighbour: bytes, count: int, *, known: bool, now_us: int) -> int:
    """How many of so many messages are checked."""
    return sum(forwarding.refusal(neighbour, known, now_us) is None for _ in range(count))


def test_authors_that_nobody_knows_are_bounded_over_all_neighbours() -> None:
    forwarding = Forwarding(lambda _peer: True)
    at_once = sum(heard(forwarding, peer, 200, known=False, now_us=0) for peer in NEIGHBOURS)
    assert at_once == STRANGERS_BURST + len(NEIGHBOURS) * STRANGERS_EACH_BURST
    seconds = 10
    later = sum(
        heard(forwarding, peer, 30, known=False, now_us=second * SECOND_US)
        for second in range(1, seconds + 1)
        for peer in NEIGHBOURS
    )
    assert later == seconds * (STRANGERS_A_SECOND + len(NEIGHBOURS) * STRANGERS_EACH_A_SECOND)


def test_one_who_floods_silences_neither_known_authors_nor_what_others_bring() -> None:
    forwarding = Forwarding(lambda _peer: True)
    flooder, honest = NEIGHBOURS[:2]
    assert heard(forwarding, flooder, 10_000, known=False, now_us=0) <= FORWARDS_BURST
    heard(forwarding, NEIGHBOURS[2], 10_000, known=False, now_us=0)
    assert forwarding.refusal(flooder, True, 0) is Limit.GOSSIP_FORWARDER
    assert heard(forwarding, honest, 100, known=True, now_us=0) == 100
    assert heard(forwarding, honest, 100, known=False, now_us=0) == STRANGERS_EACH_BURST
    assert forwarding.refusal(honest, False, 0) is Limit.GOSSIP_STRANGERS


def test_a_known_author_is_bounded_by_who_forwards_it_alone() -> None:
    forwarding = Forwarding(lambda _peer: True)
    assert [heard(forwarding, peer, 1_000, known=True, now_us=0) for peer in NEIGHBOURS[:3]] == [FORWARDS_BURST] * 3
    assert heard(forwarding, NEIGHBOURS[0], 1_000, known=True, now_us=SECOND_US) == FORWARDS_A_SECOND


@pytest.mark.parametrize("linked", [True, False])
def test_of_who_has_no_link_any_more_nothing_is_kept(linked: bool) -> None:
    forwarding = Forwarding(lambda _peer: linked)
    for peer in NEIGHBOURS:
        forwarding.refusal(peer, True, 0)
    assert len(forwarding._neighbours) == (len(NEIGHBOURS) if linked else 1)
