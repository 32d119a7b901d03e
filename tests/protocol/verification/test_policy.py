"""Policies: what a text means, and how much it checks."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.verification.policy import AUDIT_FLOOR, PROVEN_AFTER, parse_policy


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
