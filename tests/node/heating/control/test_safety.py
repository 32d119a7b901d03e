"""What comes before comfort: an owner's off, frost, and a sink that is too hot, whatever its sensor is worth."""

from dataclasses import replace

import pytest

from hearthmesh.node.heating.control.season import SeasonSettings
from hearthmesh.node.heating.control.sensor import SensorSettings, Trust
from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.control.thermostat import Inputs, Thermostat
from tests.node.heating.control.test_thermostat import SETTINGS, House


class Rack(House):
    """Its sink is a supply, which has to be 10 K above the setpoint of the building."""

    def inputs(self) -> Inputs:
        return replace(
            super().inputs(), aim=lambda setpoint_c: setpoint_c + 10.0, curve=lambda setpoint_c: setpoint_c + 10.0
        )


@pytest.mark.parametrize("wish", [Wish.OFF, Wish.AUTO])
def test_summers_floor_runs_neither_where_it_is_off_nor_where_a_window_is_open(wish: Wish) -> None:
    house = House(Thermostat(replace(SETTINGS, sensor=SensorSettings(frozen_s=0.0))), 24.0, 26.0)
    house.pass_hours(49)
    assert (house.minute().granted_w, house.minute().work.slots) == (50.0, 1)
    house.thermostat.wish(wish, house.inputs())
    house.contact_open = wish is Wish.AUTO
    unwanted = house.minute()
    assert (unwanted.granted_w, unwanted.work.slots) == (0.0, 0)
    house.thermostat.wish(Wish.AUTO, house.inputs())
    house.contact_open = False
    assert house.minute().granted_w == 50.0


def test_lost_sensor_leaves_a_supply_as_warm_as_its_curve_asks_for() -> None:
    """Eco, which is the most that is kept unseen, is 17 °C in the building, and 27 °C in the water."""
    rack = Rack(Thermostat(replace(SETTINGS, open_loop_share=1.0, season=SeasonSettings(block_c=60.0))), 28.0, 10.0)
    rack.pass_hours(5 * 24)
    assert rack.thermostat.estimate.confidence > 0.5
    rack.room.temperature_c = 26.0
    rack.sees = lambda _: None
    blind = rack.pass_hours(0.2)[-1]
    assert blind.believed.trust is Trust.OPEN_LOOP
    # 20 W/K, and 17 K.
    assert blind.granted_w == pytest.approx(340.0, rel=0.03)


@pytest.mark.parametrize(
    "readings_c", [(60.0, 63.0), (115.0, 115.0), (40.0, 45.0)], ids=["jumps", "out of range", "both"]
)
def test_sink_that_reads_too_hot_is_not_heated_though_its_sensor_is_not_believed(
    readings_c: tuple[float, float],
) -> None:
    house = House(Thermostat(SETTINGS), 15.0, 5.0)
    assert house.pass_hours(0.2)[-1].work.slots == 5
    for minute in range(180):
        house.sees = lambda _, minute=minute: readings_c[minute % 2]  # type: ignore[misc]
        decision = house.minute()
        assert (decision.blocked, decision.granted_w, decision.work.slots) == (True, 0.0, 0)
    assert "too hot: everything is stopped" in decision.alarms
    # Nothing but a reading that is believed lifts it.
    house.sees = lambda _: None
    assert house.minute().blocked
    house.sees = lambda temperature_c: temperature_c
    assert [each.blocked for each in house.pass_hours(0.1)][-1] is False


def test_one_of_two_sensors_that_reads_too_hot_stops_everything() -> None:
    thermostat = Thermostat(replace(SETTINGS, sensors=2))
    house = House(thermostat, 15.0, 5.0)

    def update(second_c: float) -> tuple[bool, float]:
        inputs = house.inputs()
        first = inputs.samples[0]
        assert first is not None
        decision = thermostat.update(replace(inputs, samples=(first, replace(first, value=second_c))))
        house.now_s += 60.0
        return decision.blocked, decision.granted_w

    assert update(15.0) == (False, 500.0)
    assert update(115.0) == (True, 0.0)
    assert update(15.0)[0] is False
