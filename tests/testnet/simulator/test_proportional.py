"""The simulated rooms' law: within its bounds, monotone, with hysteresis, and silent above the band."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.mode import Mode
from hearthmesh.node.heating.control.power import DUTY_MIN
from hearthmesh.testnet.simulator.proportional import Controller, ControlSettings, Demand, demand

FOUR_CORES = ControlSettings(setpoint_c=20.0, band_c=0.5, gain_w_per_k=80.0, slots=4, watts_per_slot=20.0)

controls = st.builds(
    ControlSettings,
    setpoint_c=st.floats(5, 90),
    band_c=st.floats(0.05, 5),
    gain_w_per_k=st.floats(0.1, 1e5),
    slots=st.integers(1, 256),
    watts_per_slot=st.floats(0.5, 500),
)
temperatures = st.floats(-50, 150)


@pytest.mark.parametrize(
    ("temperature_c", "expected"),
    [
        (10.0, Demand(80.0, 4, 1.0)),
        (19.0, Demand(80.0, 4, 1.0)),
        (19.25, Demand(60.0, 3, 1.0)),
        (19.5, Demand(40.0, 2, 1.0)),
        (19.625, Demand(30.0, 2, 0.75)),
        (19.875, Demand(10.0, 1, 0.5)),
        (20.0, Demand(0.0, 1, DUTY_MIN)),
        (20.5, Demand(-40.0, 1, DUTY_MIN)),
    ],
)
def test_cold_becomes_as_few_slots_as_can_make_the_watts(temperature_c: float, expected: Demand) -> None:
    assert demand(FOUR_CORES, Mode.HEATING, temperature_c) == expected


def test_work_stops_above_the_band_and_resumes_below_the_setpoint() -> None:
    controller = Controller(FOUR_CORES)
    path = [20.2, 19.9, 20.2, 20.5, 20.6, 20.4, 20.0, 19.9]
    assert [controller.update(temperature_c).slots for temperature_c in path] == [0, 1, 1, 1, 0, 0, 0, 1]


@given(controls, st.lists(temperatures, min_size=1, max_size=20))
def test_demand_stays_within_its_bounds(control: ControlSettings, path: list[float]) -> None:
    controller = Controller(control)
    for temperature_c in path:
        found = controller.update(temperature_c)
        assert 0 <= found.slots <= control.slots
        assert DUTY_MIN <= found.duty <= 1
        assert abs(found.deficit_w) <= control.capacity_w
        assert found.slots == 0 or temperature_c <= control.limit_c
        assert found.slots > 0 or temperature_c >= control.setpoint_c


@given(controls, st.sampled_from(Mode), temperatures, temperatures)
def test_demand_never_grows_with_the_temperature(
    control: ControlSettings, mode: Mode, first_c: float, second_c: float
) -> None:
    cold, warm = (demand(control, mode, each) for each in sorted((first_c, second_c)))
    assert cold.deficit_w >= warm.deficit_w
    assert cold.slots >= warm.slots
    assert cold.slots * cold.duty >= warm.slots * warm.duty * (1 - 1e-12)


@given(controls, temperatures)
def test_slots_and_duty_make_the_watts_that_are_wanted(control: ControlSettings, temperature_c: float) -> None:
    found = demand(control, Mode.HEATING, temperature_c)
    least_w = DUTY_MIN * control.watts_per_slot
    made_w = found.slots * found.duty * control.watts_per_slot
    assert made_w == pytest.approx(max(least_w, found.deficit_w), rel=1e-9)


@pytest.mark.parametrize("broken_c", [math.nan, math.inf, -math.inf])
def test_temperature_that_is_no_number_is_refused(broken_c: float) -> None:
    with pytest.raises(ValueError, match="not a temperature"):
        Controller(FOUR_CORES).update(broken_c)
