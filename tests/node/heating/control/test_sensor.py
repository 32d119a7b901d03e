"""Sensors: lost, implausible and frozen ones are told; without any the power is bounded, then off."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.identify import Estimate
from hearthmesh.node.heating.control.sensor import (
    TRANSITIONS,
    Believed,
    Found,
    Heating,
    Sample,
    SensorSettings,
    SensorSupervisor,
    Trust,
)
from tests.docs_diagrams import documented_diagram, render_table

SETTINGS = SensorSettings(lost_s=120.0, recover_s=60.0, open_loop_s=3600.0)
SINK = Estimate(resistance_k_per_w=0.05, capacity_j_per_k=4.62e6, gain_w=0.0, confidence=0.9)
TAU_H = 0.05 * 4.62e6 / 3600.0


def told(
    supervisor: SensorSupervisor,
    now_s: float,
    *values: float | None,
    power_w: float = 0.0,
    outside_c: float | None = None,
    doubt: float = 1.0,
) -> Believed:
    samples = tuple(None if value is None else Sample(value, now_s) for value in values)
    return supervisor.update(samples, now_s, Heating(power_w, SINK, outside_c, doubt))


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
    assert told(supervisor, 0, 20.0, 20.5) == Believed(Trust.FIRST, 20.0, coldest_c=20.0)
    assert told(supervisor, 10, None, 20.5) == Believed(Trust.SECOND, 20.5, ("sensor 1 is lost",))
    assert told(supervisor, 60, 20.0, 20.5).trust is Trust.SECOND
    assert told(supervisor, 120, 20.0, 20.5) == Believed(Trust.FIRST, 20.0, coldest_c=20.0)


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


def test_jump_that_stays_is_believed_after_its_time() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, 0, 19.0)
    found = [told(supervisor, at_s, 5.0) for at_s in (5, 10, 64, 65)]
    assert [each.temperature_c for each in found] == [None, None, None, 5.0]
    assert [len(each.alarms) for each in found] == [1, 1, 1, 0]


def test_sample_that_is_too_old_counts_as_lost() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    sample = (Sample(20.0, 0.0),)
    assert supervisor.update(sample, 120.0, Heating(0.0, SINK)).trust is Trust.FIRST
    assert supervisor.update(sample, 120.5, Heating(0.0, SINK)).trust is Trust.OPEN_LOOP


def test_value_that_never_moves_is_frozen() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    trusts = [told(supervisor, hour * 3600.0, 20.0).trust for hour in range(13)]
    assert trusts == [Trust.FIRST] * 12 + [Trust.OPEN_LOOP]


def hours_believed(
    supervisor: SensorSupervisor, value: float, power_w: float, outside_c: float | None = None, doubt: float = 1.0
) -> float:
    """From its first minute on, in which it has stood still for a second at most."""
    minutes = 0
    while (
        told(supervisor, minutes * 60.0, value, power_w=power_w, outside_c=outside_c, doubt=doubt).trust is Trust.FIRST
    ):
        minutes += 1
    return minutes / 60


def test_value_that_stands_still_under_full_power_is_frozen_sooner() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, -1, 18.0, power_w=100.0)
    # 400 W more than when it stood still first are 20 K in the end, and the first 2 K of them soon.
    assert hours_believed(supervisor, 18.0, 500.0) == pytest.approx(TAU_H * math.log(20 / 18), abs=0.05)


@pytest.mark.parametrize("outside_c", [-25.0, 15.0])
def test_value_that_stands_still_where_the_sink_cannot_stay_is_frozen_sooner(outside_c: float) -> None:
    """Whatever the power was before: 500 W settle 25 K above what is outside."""
    hours = hours_believed(SensorSupervisor(SETTINGS), 20.0, 500.0, outside_c)
    assert hours == pytest.approx(TAU_H * math.log(20 / 18), abs=0.05)


def test_what_is_learnt_from_a_value_that_stands_still_is_no_excuse_for_it() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, 0, 18.0, power_w=500.0, outside_c=10.0)
    # 500 W settle at 35 °C, and would at 18 with 340 W less from elsewhere.
    heating = Heating(500.0, replace(SINK, gain_w=-340.0), 10.0)
    found = [supervisor.update((Sample(18.0, hour * 3600.0),), hour * 3600.0, heating) for hour in range(10)]
    assert found[-1].alarms == ("sensor 1 is frozen",)


def test_coarse_sensor_is_frozen_only_when_it_should_have_moved_by_a_step_more() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, -10, 17.5)
    told(supervisor, -1, 18.0, power_w=100.0)
    assert hours_believed(supervisor, 18.0, 500.0) == pytest.approx(TAU_H * math.log(20 / 17.5), abs=0.05)


def test_sink_that_was_not_learnt_may_be_heavier_than_guessed() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, -1, 18.0, doubt=4.0)
    hours = hours_believed(supervisor, 18.0, 2000.0, doubt=4.0)
    assert hours == pytest.approx(4 * TAU_H * math.log(100 / 98), abs=0.05)


@pytest.mark.parametrize(("outside_c", "hours"), [(15.125, 150), (None, 24)])
def test_coarse_sensor_may_stand_still_for_longer(outside_c: float | None, hours: int) -> None:
    """Of an eighth of a kelvin: where the sink stays at that by what was learnt, twelve times as long as a fine one."""
    supervisor = SensorSupervisor(SETTINGS)
    told(supervisor, 0, 20.0)
    trusts = [
        told(supervisor, 10 + hour * 3600.0, 20.125, power_w=100.0, outside_c=outside_c).trust
        for hour in range(hours + 2)
    ]
    assert trusts == [Trust.FIRST] * hours + [Trust.OPEN_LOOP, Trust.OFF]


@pytest.mark.parametrize("glitch_k", [0.01, -0.01])
def test_digit_that_came_and_went_makes_no_fine_sensor(glitch_k: float) -> None:
    supervisor = SensorSupervisor(SETTINGS)
    for second, value in enumerate((20.0, 20.5, 20.0, 20.5, 20.0, 20.0 + glitch_k, 20.0, 20.5)):
        told(supervisor, second, value, power_w=100.0)
    assert supervisor.steps_k == (0.5,)
    assert told(supervisor, 13 * 3600.0, 20.5, power_w=100.0).trust is Trust.FIRST


def test_steps_of_a_sensor_that_was_exchanged_are_forgotten() -> None:
    supervisor = SensorSupervisor(SETTINGS)
    for second in range(100):
        told(supervisor, second, 20.0 + second % 2 / 100)
    assert supervisor.steps_k == (pytest.approx(0.01),)
    for second in range(100, 132):
        told(supervisor, second, 20.0 + second % 2 / 2)
    assert supervisor.steps_k == (0.5,)


def test_restart_makes_no_fine_sensor_of_a_coarse_one() -> None:
    before, after = SensorSupervisor(SETTINGS, 2), SensorSupervisor(SETTINGS, 2)
    for second, value in enumerate((20.0, 20.5, 20.0)):
        told(before, second, value, None)
    assert before.steps_k == (0.5, None)
    after.recall(before.steps_k)
    # Longer than a fine one may stand still; as long as this one, and no longer.
    assert [told(after, hour * 3600.0, 20.0, None).trust for hour in (0, 12, 23, 24)] == [
        *[Trust.FIRST] * 3,
        Trust.OPEN_LOOP,
    ]
    # Of another number of sensors nothing is known.
    single = SensorSupervisor(SETTINGS)
    single.recall(before.steps_k)
    assert single.steps_k == (None,)


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
