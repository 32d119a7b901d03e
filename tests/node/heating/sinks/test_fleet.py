"""Many sinks at once answer as each would alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.node.heating.sinks.fleet import Fleet, is_steady
from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.weather.conditions import Weather
from tests.node.heating.sinks.kinds import KINDS, models, temperatures, weathers

STEADY = {"room-1r1c", "room-2r2c", "room-5r1c", "room-vdi6007", "boiler-rack", "data-centre"}


@given(
    st.lists(st.tuples(models, temperatures, st.integers(0, 1), st.floats(0, 1e5)), min_size=1, max_size=8),
    st.tuples(weathers, weathers),
    st.floats(1.0, 4000.0),
)
@settings(max_examples=25, deadline=None)
def test_fleet_does_what_each_sink_does_alone(
    drawn: list[tuple[object, float, int, float]], at: tuple[Weather, Weather], duration_s: float
) -> None:
    sinks = [HeatSink(model, start_c) for model, start_c, _, _ in drawn]  # type: ignore[arg-type]
    sites, powers_w = [site for _, _, site, _ in drawn], np.array([power_w for *_, power_w in drawn])
    fleet = Fleet(sinks, sites)
    for _ in range(2):
        flows = fleet.step(powers_w, at, duration_s)
        for index, sink in enumerate(sinks):
            done = sink.step(float(powers_w[index]), at[sites[index]], duration_s)
            scale_j = 1e-9 * (done.turnover_j + 1.0)
            assert flows.mean_c[index] == pytest.approx(done.mean_c, rel=1e-9, abs=1e-8)
            assert flows.stored_j[index] == pytest.approx(done.stored_j, abs=scale_j)
            assert flows.lost_j[index] == pytest.approx(done.lost_j, abs=scale_j)
            assert flows.delivered_j[index] == pytest.approx(done.delivered_j, abs=scale_j)
            assert flows.gains_j[index] == pytest.approx(done.gains_j, abs=scale_j)
    found_c = fleet.temperatures_c(at, powers_w)
    for index, sink in enumerate(sinks):
        expected_c = sink.temperature_c(at[sites[index]], float(powers_w[index]))
        assert found_c[index] == pytest.approx(expected_c, rel=1e-9, abs=1e-8)


@given(
    st.lists(st.tuples(models, temperatures, temperatures, st.floats(1, 1e5)), min_size=1, max_size=5),
    weathers,
    st.floats(60.0, 4000.0),
)
@settings(max_examples=25, deadline=None)
def test_fleet_foresees_what_each_sink_does(
    drawn: list[tuple[object, float, float, float]], weather: Weather, horizon_s: float
) -> None:
    sinks = [HeatSink(model, start_c) for model, start_c, _, _ in drawn]  # type: ignore[arg-type]
    targets_c, powers_w = np.array([each[2] for each in drawn]), np.array([each[3] for each in drawn])
    fleet = Fleet(sinks)
    before_c = fleet.temperatures_c([weather], powers_w)
    wanted_j = fleet.wanted_j(targets_c, [weather], horizon_s, powers_w)
    after_c = fleet.after_c([weather], powers_w, horizon_s)
    for index, sink in enumerate(sinks):
        power_w, target_c = float(powers_w[index]), float(targets_c[index])
        limit_w = sink.limits(weather).power_max_w
        if limit_w >= power_w:
            expected_j = sink.wanted_j(target_c, weather, horizon_s, power_w)
            assert wanted_j[index] == pytest.approx(expected_j, rel=1e-6, abs=1e-6 * power_w * horizon_s)
        ahead = sink.copy()
        ahead.step(power_w, weather, horizon_s)
        expected_c = ahead.temperature_c(weather.later(horizon_s), power_w)
        assert after_c[index] == pytest.approx(expected_c, rel=1e-9, abs=1e-7)
    # Nothing has changed, and another weather is not taken for the one that was seen last.
    assert (fleet.temperatures_c([weather], powers_w) == before_c).all()
    colder = Weather(weather.outside_c - 5.0 if weather.outside_c > -90 else weather.outside_c + 5.0)
    fresh_c = Fleet(sinks).after_c([colder], powers_w, horizon_s)
    assert fleet.after_c([colder], powers_w, horizon_s) == pytest.approx(fresh_c, nan_ok=False)


@pytest.mark.parametrize("kind", KINDS)
def test_sinks_whose_circuit_never_changes_are_stepped_together(kind: str) -> None:
    model = next(iter(_examples(kind)))
    assert is_steady(HeatSink(model, 20.0)) == (kind in STEADY)  # type: ignore[arg-type]


def _examples(kind: str) -> list[object]:
    found: list[object] = []

    @given(KINDS[kind])
    @settings(max_examples=1, database=None)
    def take(model: object) -> None:
        found.append(model)

    take()
    return found


def test_wrong_number_of_powers_or_sites_is_refused() -> None:
    sink = HeatSink(_examples("room-1r1c")[0], 20.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 sites for 1 sinks"):
        Fleet([sink], [0, 0])
    for powers_w in (np.zeros(2), np.array([np.nan])):
        with pytest.raises(ValueError, match="one finite power"):
            Fleet([sink]).step(powers_w, [Weather(5.0)], 60.0)
