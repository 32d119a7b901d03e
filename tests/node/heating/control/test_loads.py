"""Paid and volunteer work are metered apart, and add up to their receipts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.loads import Load, LoadMeter, load_of


def test_only_the_lowest_priority_is_volunteer_work() -> None:
    assert [load_of(priority) for priority in range(10)] == [Load.VOLUNTEER] + [Load.PAID] * 9


@given(st.lists(st.tuples(st.sampled_from([Load.PAID, Load.VOLUNTEER]), st.integers(0, 1 << 40))))
def test_meters_add_up_to_the_receipts(charges: list[tuple[Load, int]]) -> None:
    meter = LoadMeter()
    for load, energy_mj in charges:
        meter.charge(load, energy_mj)
    assert meter.total_mj == sum(energy_mj for _, energy_mj in charges)
    assert meter.paid_mj == sum(energy_mj for load, energy_mj in charges if load is Load.PAID)


def test_what_is_burnt_comes_last_and_is_on_no_receipt() -> None:
    assert list(Load) == [Load.PAID, Load.VOLUNTEER, Load.BURN]
    with pytest.raises(AssertionError, match="no job's energy is burnt"):
        LoadMeter().charge(Load.BURN, 1)
