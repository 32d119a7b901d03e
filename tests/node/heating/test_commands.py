"""What an owner tells a running thermostat: it holds from the next period on, and nonsense is refused in one line."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.cli.heat_commands import status_lines
from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.assembly import overheat_c
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control_settings import LimitTable, ScheduleSettings
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.simulated import SimulatedHeater

SECOND_US = 1_000_000
SETTINGS = HeaterSettings(
    kind="simulated",
    cores=4,
    watts_per_core=100.0,
    setpoint_c=20.0,
    room=RoomSettings(start_c=20.2),
    limits=LimitTable(tempo_red_percent=25.0),
)
# A Monday, noon.
NOON = LocalTime(4.5 * 86_400)


def heated(settings: HeaterSettings = SETTINGS) -> tuple[SimulatedHeater, HeatCommands]:
    heater = SimulatedHeater(settings, now_us=0, local=NOON)
    return heater, HeatCommands(heater)


def test_temperature_set_by_hand_reaches_the_power_at_the_next_period() -> None:
    heater, commands = heated()
    assert heater.advance(SECOND_US, 0).slots == 0
    commands.wish("manual", 22.0)
    assert heater.advance(2 * SECOND_US, 0).slots == 4
    commands.wish("off")
    assert heater.advance(3 * SECOND_US, 0).slots == 0
    assert commands.status()["reason"] == "off, protected from frost"


def test_limit_and_its_end_hold_by_the_clock_of_the_room() -> None:
    heater, commands = heated(replace(SETTINGS, room=RoomSettings(start_c=18.0)))
    commands.limit(150.0, in_s=60.0, for_s=600.0, name="evening peak")
    granted = [
        (heater.advance(second * SECOND_US, 0), commands.status()["granted_w"])[1] for second in (59, 60, 659, 661)
    ]
    assert granted == [400.0, 140.0, 140.0, 280.0]


@pytest.mark.parametrize(("mode", "sink_c"), [("eco", 16.5), ("away", 15.5)])
def test_limit_holds_where_the_owner_is_content_with_less(mode: str, sink_c: float) -> None:
    heater, commands = heated(replace(SETTINGS, room=RoomSettings(start_c=sink_c)))
    commands.wish(mode)
    commands.limit(50.0, in_s=0.0, for_s=600.0)
    heater.advance(SECOND_US, 0)
    assert commands.status()["limit_reason"] == "demand response"
    assert commands.status()["granted_w"] <= 50.0


def test_nodes_of_others_that_use_a_zones_name_are_a_notice_and_no_alarm() -> None:
    heater, commands = heated(SETTINGS)
    heater.advance(SECOND_US, 0)
    assert commands.status()["notices"] == []
    names = ["bob's attic"]
    commands.zone_strangers = lambda: names
    said = "nodes of another owner or site use this zone's name, and share nothing with it: "
    assert commands.status()["notices"] == [said + "bob's attic"]
    assert f"notice   {said}bob's attic" in status_lines(commands.status())
    names += ["c", "d", "e\x1b[2J", "a\n"]
    status = commands.status()
    assert (status["notices"], status["alarms"]) == ([said + "a\\n, bob's attic, c and 2 more"], [])


def test_limit_gives_way_at_night_only_below_the_nights_own_floor() -> None:
    week = ScheduleSettings(week=("daily 06:00 20", "daily 11:00 16"))
    heater, commands = heated(replace(SETTINGS, schedule=week, room=RoomSettings(start_c=15.0)))
    commands.limit(0.0, in_s=0.0, for_s=600.0)
    heater.advance(SECOND_US, 0)
    assert commands.status()["granted_w"] == 0.0


def test_limit_does_not_let_freeze_what_is_switched_off() -> None:
    heater, commands = heated(replace(SETTINGS, room=RoomSettings(start_c=6.5)))
    commands.wish("off")
    commands.limit(10.0, in_s=0.0, for_s=600.0)
    heater.advance(SECOND_US, 0)
    assert commands.status()["limit_reason"] == "demand response, lifted to keep 7 °C"
    assert commands.status()["granted_w"] > 0.0


def test_limit_counts_what_the_machine_draws_at_rest() -> None:
    heater, commands = heated(replace(SETTINGS, idle_watts=180.0, room=RoomSettings(start_c=18.0)))
    commands.limit(300.0, in_s=0.0, for_s=600.0)
    heater.advance(SECOND_US, 0)
    status = commands.status()
    assert (status["granted_w"], status["idle_w"], status["limit_w"]) == (120.0, 180.0, 300.0)


def test_limit_that_the_idle_machine_alone_exceeds_is_said_to_be_so() -> None:
    heater, commands = heated(replace(SETTINGS, idle_watts=180.0, room=RoomSettings(start_c=18.0)))
    commands.limit(100.0, in_s=0.0, for_s=600.0)
    reading = heater.advance(SECOND_US, 0)
    status = commands.status()
    assert (reading.slots, status["granted_w"], status["limit_w"]) == (0, 0.0, 180.0)
    assert reading.reason == (
        "no power now: demand response (100 W, which cannot be kept: the idle machine draws 180 W)"
    )


def test_red_day_leaves_its_share_in_peak_hours() -> None:
    heater, commands = heated(replace(SETTINGS, room=RoomSettings(start_c=18.0)))
    commands.tempo("red")
    heater.advance(SECOND_US, 0)
    assert commands.status()["limit_w"] == 110.0
    assert commands.status()["limit_reason"] == "peak hours of a red day"


def test_schedule_follows_the_clock_of_the_room() -> None:
    week = ScheduleSettings(week=("daily 06:00 20", "daily 13:00 16"))
    heater, commands = heated(replace(SETTINGS, schedule=week, time_scale=3600.0))
    found = []
    for second in (0.5, 0.9, 1.1):
        heater.advance(round(second * SECOND_US), 0)
        found.append(commands.status()["setpoint_c"])
    assert found == [20.0, 20.0, 16.0]


def test_heater_of_nothing_takes_no_commands() -> None:
    commands = HeatCommands(NoHeater(SETTINGS, 0))
    assert commands.status() == {}
    with pytest.raises(ValueError, match="heats nothing"):
        commands.wish("auto")


def test_no_setpoint_that_may_be_chosen_is_blocked_as_too_hot() -> None:
    for setpoint_c in (-30.0, 20.0, 60.0, 120.0):
        settings = replace(SETTINGS, setpoint_c=setpoint_c)
        assert overheat_c(settings) >= setpoint_c + settings.schedule.highest_above_k + settings.band_c


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"what": "set", "mode": "hot"}, "no mode 'hot'"),
        ({"what": "set", "mode": "manual"}, "not a temperature"),
        ({"what": "set", "mode": "manual", "setpoint_c": math.nan}, "not a temperature"),
        ({"what": "limit", "watts": -1, "for_s": 1}, "0 W or more"),
        ({"what": "limit", "watts": math.inf, "for_s": 1}, "0 W or more"),
        ({"what": "limit", "watts": 1, "for_s": 0}, "more than 0 s"),
        ({"what": "limit", "watts": 1, "for_s": math.nan}, "more than 0 s"),
        ({"what": "limit", "watts": 1, "for_s": 1, "in_s": 1e9}, "within eight days"),
        ({"what": "tempo", "colour": "green"}, "no colour 'green'"),
        ({"what": "tempo", "colour": "red", "days_ahead": 8}, "0 to 7"),
        ({"what": "dance"}, "no such request: dance"),
    ],
)
def test_nonsense_is_refused_with_its_problem(request_: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        heated()[1].run(request_)


junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.none()))


@given(
    st.fixed_dictionaries(
        {"what": st.sampled_from(["set", "limit", "tempo", "no-limit", "status"])},
        optional={name: junk for name in ("mode", "setpoint_c", "watts", "for_s", "in_s", "colour", "days_ahead")},
    )
)
def test_request_of_anything_is_done_or_refused(request_: dict[str, Any]) -> None:
    heater, commands = heated()
    try:
        commands.run(request_)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        assert str(error)
    heater.advance(SECOND_US, 0)
    assert 0 <= commands.status()["granted_w"] <= 400
