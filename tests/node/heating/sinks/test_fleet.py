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
