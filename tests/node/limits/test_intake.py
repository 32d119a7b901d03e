"""Budgets of peers and of the addresses behind which they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.intake import KEPT_MAX, Intake, IntakeLimits
from hearthmesh.node.limits import LimitMeter
from hearthmesh.protocol.budget import Budget
from hearthmesh.protocol.limits import Limit

SECOND_US = 1_000_000


def intake(source: str = "192.0.2.1", **rates: int) -> Intake:
    return Intake(IntakeLimits(**rates), LimitMeter(lambda: 0.0), lambda peer: source if peer != b"far" else "far")


def test_who_is_over_its_budget_waits_and_others_do_not() -> None:
    account = intake("", signatures_burst=10, signatures_a_second=5)
    account.charge(b"greedy", 1, 20, 0)
    assert account.overdrawn_us(b"greedy", 0) == 2 * SECOND_US
    assert account.overdrawn_us(b"greedy", 2 * SECOND_US) == 0
    assert account.overdrawn_us(b"modest", 0) == 0


def test_many_identities_behind_one_address_have_no_more_than_four() -> None:
    account = intake(signatures_burst=10, signatures_a_second=5)
    for number in range(41):
        account.charge(bytes([number]), 1, 1, 0)
    assert account.overdrawn_us(bytes([0]), 0) > 0 and account.overdrawn_us(b"new", 0) > 0
    assert account.overdrawn_us(b"far", 0) == 0


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 3 * SECOND_US)), max_size=40))
def test_over_any_time_no_more_is_read_than_burst_and_rate_and_one_message(cast: list[tuple[int, int]]) -> None:
    """A peer that sends whenever it may."""
    budget, spent, now_us = Budget(1_000, 500, SECOND_US, 0), 0, 0
    for amount, pause_us in cast:
        now_us += pause_us
        if budget.overdrawn_us(now_us):
            continue
        assert spent <= 1_000 + 500 * now_us // SECOND_US
        budget.charge(amount, now_us)
        spent += amount


def test_accounts_are_bounded_and_the_busy_ones_stay() -> None:
    account = intake("", gossip_burst=2)
    for number in range(3 * KEPT_MAX):
        account.charge(number.to_bytes(4), 1, 1, 0)
        account.takes_gossip(number.to_bytes(4), 0)
        account.takes_gossip(b"busy", 0)
    assert len(account._peers) == len(account._gossip) == KEPT_MAX
    assert not account.takes_gossip(b"busy", 0)
    assert account._meter.counts[Limit.GOSSIP_SOURCE] == 3 * KEPT_MAX - 1
