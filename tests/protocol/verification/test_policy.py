"""Policies: what a text means, and how much it checks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.verification.policy import AUDIT_FLOOR, PROVEN_AFTER, parse_policy, stretch_to_check


@pytest.mark.parametrize("text", ["none", "adaptive", "spot(0.05)", "spot(1)", "quorum(2)", "quorum(8)"])
def test_a_policy_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_policy(text)) == text


@pytest.mark.parametrize(
    "text", ["", "None", "spot", "spot(2)", "spot(.5)", "quorum(1)", "quorum(9)", "quorum(2) ", "9"]
)
def test_anything_else_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_policy(text)


def test_adaptive_checks_all_then_ever_less_but_never_nothing() -> None:
    policy = parse_policy("adaptive")
    shares = [policy.share_to_check(streak) for streak in range(200)]
    assert shares[:PROVEN_AFTER] == [1.0] * PROVEN_AFTER
    assert shares[PROVEN_AFTER] == 0.1 and shares == sorted(shares, reverse=True) and shares[-1] == AUDIT_FLOOR


@given(st.integers(1, 1024), st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_stretch_lies_within_the_batch(count: int, share: float, chance: float, place: float) -> None:
    found = stretch_to_check(count, share, chance, place)
    assert found is None or 0 <= found[0] < found[1] <= count


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_each_task_is_checked_with_about_the_share_asked_for(count: int) -> None:
    dice = random.Random(7)
    checked = 0
    rounds = 40_000
    for _ in range(rounds):
        found = stretch_to_check(count, 0.05, dice.random(), dice.random())
        checked += found[1] - found[0] if found is not None else 0
    assert 0.04 <= checked / (rounds * count) <= 0.055
