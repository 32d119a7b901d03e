"""What comes before comfort: an owner's off, frost, and a sink that is too hot, whatever its sensor is worth."""

from dataclasses import replace

import pytest

from hearthmesh.node.heating.assembly import idle_reason
from hearthmesh.node.heating.control.season import SeasonSettings
from hearthmesh.node.heating.control.sensor import Sample, SensorSettings, Trust
from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.control.thermostat import Decision, Inputs, Thermostat
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


@pytest.mark.parametrize("wish", [Wish.OFF, Wish.AUTO])
@pytest.mark.parametrize(
    ("outside_c", "seen_hours", "lost_hours", "kept_c"),
    [
        (22.0, 49, 3, 7.0),
        (22.0, 49, 9 * 24, 17.0),
        (22.0, 20, 3, 17.0),
        (22.0, 0, 49, 17.0),
        (5.0, 49, 3, 17.0),
    ],
    ids=["summer", "summer, long ago", "summer, too little seen", "never seen", "winter"],
)
def test_a_rack_that_is_off_is_heated_for_its_building_without_weather_unless_it_was_summer_lately(
    wish: Wish, outside_c: float, seen_hours: int, lost_hours: int, kept_c: float
) -> None:
    rack = Rack(Thermostat(replace(SETTINGS, sensor=SensorSettings(frozen_s=0.0))), 22.0, outside_c)
    rack.thermostat.wish(wish, rack.inputs())
    rack.contact_open = wish is Wish.AUTO
    rack.sees_outside = seen_hours > 0
    if seen_hours:
        assert rack.pass_hours(seen_hours)[-1].aim_c == 17.0
    rack.sees_outside = False
    assert rack.pass_hours(lost_hours)[-1].aim_c == kept_c


@pytest.mark.parametrize(
    "readings_c", [(60.0, 63.0), (115.0, 115.0), (40.0, 45.0)], ids=["jumps", "out of range", "both"]
)
def test_sink_that_reads_too_hot_is_not_heated_though_its_sensor_is_not_believed(
    readings_c: tuple[float, float],
) -> None:
    """Of the first such reading nobody knows whether it is a glitch: the open loop is what heats."""
    house = House(Thermostat(SETTINGS), 15.0, 5.0)
    assert house.pass_hours(0.2)[-1].work.slots == 5
    for minute in range(180):
        house.sees = lambda _, minute=minute: readings_c[minute % 2]  # type: ignore[misc]
        decision = house.minute()
        if minute:
            assert (decision.blocked, decision.granted_w, decision.work.slots) == (True, 0.0, 0)
        else:
            assert (decision.blocked, decision.granted_w) == (False, 100.0)
    assert "too hot: everything is stopped" in decision.alarms
    # Nothing but a reading that is believed lifts it.
    house.sees = lambda _: None
    assert house.minute().blocked
    house.sees = lambda temperature_c: temperature_c
    assert [each.blocked for each in house.pass_hours(0.1)][-1] is False


class Pair:
    """Two sensors in a cold room, read every five seconds."""

    def __init__(self) -> None:
        self.thermostat = Thermostat(replace(SETTINGS, sensors=2))
        self.house = House(self.thermostat, 2.0, 0.0)

    def update(self, *readings_c: float | None) -> Decision:
        """None: no new one since."""
        now_s = self.house.now_s
        samples = tuple(None if value_c is None else Sample(value_c, now_s) for value_c in readings_c)
        decision = self.thermostat.update(replace(self.house.inputs(), samples=samples))
        self.house.now_s += 5.0
        return decision


def test_one_of_two_sensors_that_reads_too_hot_stops_everything() -> None:
    pair = Pair()
    assert pair.update(2.0, 2.0).granted_w == 500.0
    assert not pair.update(2.0, 90.0).blocked
    found = pair.update(2.0, 90.0)
    assert (found.blocked, found.granted_w) == (True, 0.0)
    assert idle_reason(found, 2.0, 20.0) == "overheated: 90.0 °C, everything is stopped"
    assert not pair.update(2.0, 2.0).blocked


@pytest.mark.parametrize("broken_c", [327.67, float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_a_reading_that_no_sink_can_have_stops_nothing_while_another_sensor_is_believed(
    broken_c: float, place: int
) -> None:
    """A shorted sensor would take its frost protection from a room for good."""
    pair = Pair()
    for _ in range(100):
        found = pair.update(*((broken_c, 2.0) if place == 0 else (2.0, broken_c)))
        assert (found.blocked, found.granted_w, found.work.slots) == (False, 500.0, 5)
        assert found.alarms == (f"sensor {place + 1} is implausible",)
    # Without the other nobody knows.
    both = [pair.update(broken_c, broken_c) for _ in range(2)][-1]
    assert (both.blocked, both.work.slots) == (True, 0)
    ends = [pair.update(*((broken_c, 2.0) if place == 0 else (2.0, broken_c))) for _ in range(20)]
    assert (ends[0].blocked, ends[-1].blocked, ends[-1].granted_w) == (True, False, 500.0)


def test_a_single_reading_that_is_too_hot_and_not_believed_stops_nothing_and_opens_no_window() -> None:
    one = Thermostat(SETTINGS)
    house = House(one, 15.0, 5.0)
    decisions = []
    for step in range(60):
        house.sees = lambda _, step=step: 85.0 if step == 10 else 15.0  # type: ignore[misc]
        # A control period is shorter than a sensor's.
        for _ in range(3):
            decisions.append(one.update(house.inputs()))
        house.now_s += 5.0
    assert not any(each.blocked or each.window_open for each in decisions)
    assert min(each.granted_w for each in decisions) == 100.0
    assert decisions[-1].granted_w == 500.0


def test_a_first_reading_that_was_too_hot_and_falls_is_no_open_window() -> None:
    """85 °C, as 1-wire shows at its start: believed, as nothing speaks against it."""
    thermostat = Thermostat(SETTINGS)
    house = House(thermostat, 15.0, 5.0)
    decisions = []
    for step in range(60):
        house.sees = lambda _, step=step: 85.0 if step == 0 else 15.0  # type: ignore[misc]
        decisions.append(thermostat.update(house.inputs()))
        house.now_s += 5.0
    assert decisions[0].blocked
    assert not any(each.window_open for each in decisions)
    assert decisions[-1].granted_w == 500.0


def test_another_sensor_that_takes_over_is_no_open_window() -> None:
    pair = Pair()
    pair.update(19.0, 17.0)
    taken = pair.update(None, 17.0)
    assert (taken.believed.trust, taken.window_open) == (Trust.SECOND, False)


def test_the_reason_names_the_surface_that_is_too_hot() -> None:
    thermostat = Thermostat(replace(SETTINGS, surface=True))
    house = House(thermostat, 15.0, 5.0)
    found = thermostat.update(replace(house.inputs(), surface=Sample(90.0, 0.0)))
    assert idle_reason(found, 15.0, 20.0) == "overheated: 90.0 °C, everything is stopped"
