"""Laws that a sink of any kind keeps: energy, steps that divide, order, bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.weather.conditions import Weather
from tests.node.heating.sinks.kinds import KINDS, durations, powers, temperatures, weathers

every_kind = pytest.mark.parametrize("kind", KINDS)
EXAMPLES = 12


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_energy_in_is_energy_out_and_stored(kind: str, data: st.DataObject) -> None:
    sink = HeatSink(data.draw(KINDS[kind]), data.draw(temperatures))
    weather = data.draw(weathers)
    for power_w, duration_s in data.draw(st.lists(st.tuples(powers, durations), min_size=1, max_size=3)):
        flows = sink.step(power_w, weather, duration_s)
        assert abs(flows.imbalance_j) <= 1e-12 * flows.turnover_j
        weather = weather.later(duration_s)


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_stored_is_what_the_temperatures_hold(kind: str, data: st.DataObject) -> None:
    sink = HeatSink(data.draw(KINDS[kind]), data.draw(temperatures))
    weather, before = data.draw(weathers), sink.state.temperatures_c
    capacities = sink.model.drive(sink.state, weather).circuit.capacities_j_per_k
    flows = sink.step(data.draw(powers), weather, data.draw(durations))
    after = sink.state.temperatures_c
    held_j = math.fsum(c * (b - a) for c, a, b in zip(capacities, before, after, strict=True))
    # A temperature has 53 bits, and each minute of a layered tank rounds it anew.
    scale_j = math.fsum(c * (abs(a) + abs(b) + 1) for c, a, b in zip(capacities, before, after, strict=True))
    assert abs(held_j - flows.stored_j) <= 1e-12 * flows.turnover_j + 1e-12 * scale_j


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_one_step_is_two_halves(kind: str, data: st.DataObject) -> None:
    whole = HeatSink(data.draw(KINDS[kind]), data.draw(temperatures))
    halves, weather = whole.copy(), data.draw(weathers)
    power_w, half_s = data.draw(powers), data.draw(durations)
    done = whole.step(power_w, weather, 2 * half_s)
    first = halves.step(power_w, weather, half_s)
    second = halves.step(power_w, weather.later(half_s), half_s)
    # A layered tank goes by the minute, and mixes in each: one that is cut in two mixes otherwise, by less than 1e-6 K.
    assert halves.state.temperatures_c == pytest.approx(whole.state.temperatures_c, rel=1e-9, abs=1e-6)
    assert halves.state.memory == pytest.approx(whole.state.memory, rel=1e-9, abs=1e-6)
    for name in ("heater_j", "gains_j", "lost_j", "delivered_j", "stored_j"):
        together = getattr(first, name) + getattr(second, name)
        assert together == pytest.approx(getattr(done, name), abs=1e-9 * done.turnover_j)


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_more_heat_or_warmer_weather_never_makes_it_colder(kind: str, data: st.DataObject) -> None:
    sink, weather = HeatSink(data.draw(KINDS[kind]), data.draw(temperatures)), data.draw(weathers)
    low_w, high_w = sorted(data.draw(st.tuples(powers, powers)))
    duration_s = data.draw(durations)
    cool, warm = sink.copy(), sink.copy()
    cool.step(low_w, weather, duration_s)
    warm.step(high_w, weather, duration_s)
    later = weather.later(duration_s)
    for name, temperature_c in cool.temperatures_c(later, low_w).items():
        assert warm.temperatures_c(later, high_w)[name] >= temperature_c - 1e-7


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_wanted_heat_is_within_its_bounds_and_falls_with_the_setpoint(kind: str, data: st.DataObject) -> None:
    sink, weather = HeatSink(data.draw(KINDS[kind]), data.draw(temperatures)), data.draw(weathers)
    low_c, high_c = sorted(data.draw(st.tuples(temperatures, temperatures)))
    most_w, horizon_s = data.draw(st.floats(1.0, 1e5)), data.draw(st.floats(60, 7200))
    before = sink.state
    less_j, more_j = (sink.wanted_j(each, weather, horizon_s, most_w) for each in (low_c, high_c))
    assert 0 <= less_j <= more_j <= most_w * horizon_s * (1 + 1e-12)
    assert sink.state is before
    if not sink.model.wants_heat:
        assert more_j == 0


@every_kind
@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_holding_power_holds(kind: str, data: st.DataObject) -> None:
    """In weather that stays, the controlled temperature ends at the setpoint, however long it takes."""
    sink = HeatSink(data.draw(KINDS[kind]), 25.0)
    weather = Weather(outside_c=data.draw(st.floats(-10, 15)), humidity=0.5)
    setpoint_c = data.draw(st.floats(20, 30))
    circuit = sink.model.drive(sink.state, weather).circuit
    power_w = sink.hold_w(setpoint_c, weather)
    if not (sink.model.wants_heat and power_w and len(circuit.a)):
        return
    drive = sink.model.drive(sink.state, weather)
    steady = circuit.steady(drive.inputs(power_w))
    rates = circuit.rates(steady, drive.inputs(power_w))
    temperatures_c = [*steady, *circuit.massless(steady, drive.inputs(power_w))]
    assert temperatures_c[sink.model.controlled] == pytest.approx(setpoint_c, abs=1e-5)
    assert max(abs(rate) for rate in rates) * 3600 < 1e-5


@every_kind
@given(st.data())
@settings(max_examples=8, deadline=None)
def test_time_below_a_limit_agrees_with_small_steps(kind: str, data: st.DataObject) -> None:
    sink = HeatSink(data.draw(KINDS[kind]), before_c := data.draw(st.floats(15, 25)))
    weather = data.draw(weathers)
    power_w, duration_s, limit_c = data.draw(st.floats(0, 5000)), 1800.0, 20.0
    below_s = sink.seconds_below(limit_c, power_w, weather, duration_s)
    discomfort_k_s = sink.discomfort_k_s(limit_c, power_w, weather, duration_s)
    counted_s = summed_k_s = steepest_k = 0.0
    for _ in range(180):
        mean_c = sink.step(power_w, weather, 10.0).mean_c
        weather = weather.later(10.0)
        counted_s += 10.0 if mean_c <= limit_c else 0.0
        summed_k_s += max(0.0, limit_c - mean_c) * 10.0
        steepest_k = max(steepest_k, abs(mean_c - before_c))
        before_c = mean_c
    assert below_s == pytest.approx(counted_s, abs=21.0)
    # In the step that crosses the limit the mean hides up to an eighth of its change times its length; twice that,
    # since the change within a step is only known by the one to the next.
    assert discomfort_k_s == pytest.approx(summed_k_s, rel=1e-3, abs=0.5 + 10.0 * steepest_k / 4)
