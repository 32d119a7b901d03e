"""Sensors: lost, implausible and frozen ones are told; without any the power is bounded, then off."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.sensor import (
    TRANSITIONS,
    Believed,
    Found,
    Sample,
    SensorSettings,
    SensorSupervisor,
    Trust,
)
from tests.docs_diagrams import documented_diagram, render_table

SETTINGS = SensorSettings(lost_s=120.0, recover_s=60.0, open_loop_s=3600.0)
CAPACITY_J_PER_K = 4.62e6


def told(supervisor: SensorSupervisor, now_s: float, *values: float | None, power_w: float = 0.0) -> Believed:
    samples = tuple(None if value is None else Sample(value, now_s) for value in values)
    return supervisor.update(samples, now_s, power_w, CAPACITY_J_PER_K)


def test_every_trust_knows_every_finding() -> None:
    assert set(TRANSITIONS) == {(trust, found) for trust in Trust for found in Found}
    assert all(after is not Trust.OPEN_LOOP for (before, _), after in TRANSITIONS.items() if before is Trust.OFF)


def test_page_has_the_diagram_of_the_table() -> None:
    assert documented_diagram("thermostat.md", 0) == render_table(TRANSITIONS)


def test_nothing_heats_before_something_was_measured() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    assert told(supervisor, 0, None) == Believed(Trust.OFF, None, ("sensor 1 is lost",))
    assert told(supervisor, 7000, None).trust is Trust.OFF


def test_first_word_of_a_sensor_is_believed_at_once_and_a_broken_ones_is_not() -> None:
    """Waiting for a driver to be loaded is no fault to recover from."""
    quiet, broken = SensorSupervisor(SETTINGS), SensorSupervisor(SETTINGS)
    waited = [told(quiet, at_s, value).temperature_c for at_s, value in ((0, None), (5, None), (6, 18.0))]
    assert waited == [None, None, 18.0]
    doubted = [told(broken, at_s, value).temperature_c for at_s, value in ((0, -127.0), (6, 18.0), (59, 18.0))]
    assert doubted == [None, None, None]
    assert told(broken, 60, 18.0).temperature_c == 18.0


def test_second_sensor_stands_in_for_the_first() -> None:
    supervisor = SensorSupervisor(SETTINGS, sensors=2)
    assert told(supervisor, 0, 20.0, 20.5) == Believed(Trust.FIRST, 20.0)
    assert told(supervisor, 10, None, 20.5) == Believed(Trust.SECOND, 20.5, ("sensor 1 is lost",))
    assert told(supervisor, 60, 20.0, 20.5).trust is Trust.SECOND
    assert told(supervisor, 120, 20.0, 20.5) == Believed(Trust.FIRST, 20.0)


def test_without_any_sensor_it_is_blind_for_a_while_and_then_off() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, 0, 20.0)
    blind = [told(supervisor, at_s, None) for at_s in (10, 3609, 3610, 90_000)]
    assert [each.trust for each in blind] == [Trust.OPEN_LOOP, Trust.OPEN_LOOP, Trust.OFF, Trust.OFF]
    assert all(each.temperature_c is None for each in blind)
    assert told(supervisor, 90_100, 15.0).trust is Trust.FIRST


@pytest.mark.parametrize("broken_c", [math.nan, math.inf, -127.0, 850.0, 40.0])
def test_what_cannot_be_is_not_believed(broken_c: float) -> None:
    """Beyond the range, or a jump that no room makes."""
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, 0, 20.0)
    assert told(supervisor, 10, broken_c) == Believed(Trust.OPEN_LOOP, None, ("sensor 1 is implausible",))


def test_sample_that_is_too_old_counts_as_lost() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    sample = (Sample(20.0, 0.0),)
    assert supervisor.update(sample, 120.0, 0.0, CAPACITY_J_PER_K).trust is Trust.FIRST
    assert supervisor.update(sample, 120.5, 0.0, CAPACITY_J_PER_K).trust is Trust.OPEN_LOOP


def test_value_that_never_moves_is_frozen() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    trusts = [told(supervisor, hour * 3600.0, 20.0).trust for hour in range(13)]
    assert trusts == [Trust.FIRST] * 12 + [Trust.OPEN_LOOP]


def test_value_that_stands_still_under_full_power_is_frozen_sooner() -> None:
    supervisor, minutes = SensorSupervisor(SETTINGS), 0
    told(supervisor, 0, 18.0, power_w=100.0)
    while told(supervisor, minutes * 60.0, 18.0, power_w=500.0).trust is Trust.FIRST:
        minutes += 1
    # 400 W more than when it stood still first, into 4.62 MJ/K, are 2 K in 6.4 hours.
    assert 6.3 < minutes / 60 < 6.6


def test_two_sensors_that_differ_are_told_of_and_the_warmer_is_believed() -> None:
    supervisor = SensorSupervisor(SETTINGS, sensors=2)
    found = told(supervisor, 0, 18.0, 24.0)
    assert found.temperature_c == 24.0
    assert found.alarms == ("the sensors differ by 6.0 K; the warmer one is believed",)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4000),
            st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(15, 25)),
            st.one_of(st.none(), st.floats(15, 25)),
        ),
        max_size=30,
    )
)
def test_temperature_is_one_that_was_just_read_or_none(path: list[tuple[int, float | None, float | None]]) -> None:
    """Never the last value."""
    supervisor, now_s = SensorSupervisor(SETTINGS, sensors=2), 0
    for wait_s, first_c, second_c in path:
        now_s += wait_s
        found = told(supervisor, now_s, first_c, second_c)
        assert (found.temperature_c is None) == (found.trust in (Trust.OPEN_LOOP, Trust.OFF))
        assert found.temperature_c is None or found.temperature_c in (first_c, second_c)
