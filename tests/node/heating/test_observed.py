"""Presence and open windows: whoever tells, it reaches the setpoint; what nobody tells any more is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control_settings import ScheduleSettings
from hearthmesh.node.heating.observed import SOURCES_MAX, Observed, What, parse_observed
from hearthmesh.node.heating.simulated import SimulatedHeater

SECOND_US = 1_000_000
SETTINGS = HeaterSettings(
    kind="simulated",
    cores=2,
    room=RoomSettings(start_c=19.0),
    schedule=ScheduleSettings(away_after_s=60.0, believe_s=3600.0),
)


@pytest.mark.parametrize(
    ("what", "payload", "expected"),
    [
        (What.PRESENCE, b"ON", True),
        (What.PRESENCE, b"not_home", False),
        (What.PRESENCE, b"unavailable", None),
        (What.PRESENCE, b'{"battery": 97, "occupancy": true}', True),
        (What.WINDOW, b"open", True),
        (What.WINDOW, b"closed", False),
        (What.WINDOW, b'{"contact": true, "voltage": 3000}', False),
        (What.WINDOW, b'{"contact": false}', True),
        (What.WINDOW, b'{"contact": null}', None),
        (What.WINDOW, b'{"contact": "open"}', True),
        (What.WINDOW, b'{"contact": "Closed"}', False),
        (What.WINDOW, b'{"contact": "ON"}', False),
        (What.WINDOW, b'{"contact": 0}', True),
        (What.WINDOW, b'"off"', False),
    ],
)
def test_words_and_objects_are_understood(what: What, payload: bytes, expected: bool | None) -> None:
    assert parse_observed(what, payload) is expected


@pytest.mark.parametrize("payload", [b"maybe", b"{", b'{"battery": 3}', b"[" * 5000, b"\xff\xfe", b'{"contact": [1]}'])
def test_nonsense_is_refused_in_one_line(payload: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        parse_observed(What.WINDOW, payload)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(What), st.binary(max_size=300))
def test_payload_of_anything_is_understood_or_refused(what: What, payload: bytes) -> None:
    try:
        found = parse_observed(what, payload)
    except ValueError:
        return
    assert found in (True, False, None)


def test_one_open_window_of_many_counts_and_old_news_does_not() -> None:
    now_s = 0.0
    observed = Observed(lambda: now_s, believe_s=100.0)
    assert observed.found(What.WINDOW) is None
    observed.tell(What.WINDOW, "kitchen", False)
    assert observed.found(What.WINDOW) is False
    now_s = 50.0
    observed.tell(What.WINDOW, "bath", True)
    assert observed.found(What.WINDOW) is True
    observed.tell(What.WINDOW, "bath", None)
    assert observed.found(What.WINDOW) is False
    assert observed.found(What.PRESENCE) is None
    now_s = 101.0
    assert observed.found(What.WINDOW) is None
    observed.tell(What.WINDOW, "owner", True, ages=False)
    now_s = 1e9
    assert observed.found(What.WINDOW) is True


def test_what_a_broker_kept_is_as_old_as_when_it_was_heard_first() -> None:
    now_s = 0.0
    observed = Observed(lambda: now_s, believe_s=100.0)

    def hears(at_s: float, words: bytes, *, retained: bool) -> bool | None:
        nonlocal now_s
        now_s = at_s
        value = parse_observed(What.WINDOW, words)
        observed.tell(What.WINDOW, "kitchen", value, words=words, retained=retained)
        return observed.found(What.WINDOW)

    # Again at each connection, and unknown in the end all the same.
    assert [hears(at_s, b"open", retained=True) for at_s in (0.0, 60.0, 101.0, 160.0)] == [True, True, None, None]
    # What was said anew is news, and so is what differs: it was said meanwhile.
    assert hears(200.0, b"open", retained=False) is True
    assert hears(301.0, b"open", retained=True) is None
    assert hears(302.0, b'{"contact": false, "battery": 80}', retained=True) is True
    assert hears(403.0, b'{"contact": false, "battery": 80}', retained=True) is None
    assert hears(404.0, b"closed", retained=True) is False


def test_sources_beyond_the_bound_are_not_heard() -> None:
    observed = Observed(lambda: 0.0, believe_s=1.0)
    for number in range(2 * SOURCES_MAX):
        observed.tell(What.WINDOW, str(number), number >= SOURCES_MAX)
    assert observed.found(What.WINDOW) is False


def heated() -> tuple[SimulatedHeater, HeatCommands]:
    heater = SimulatedHeater(SETTINGS, 0)
    return heater, HeatCommands(heater)


def test_open_window_stops_the_heat_within_one_period_and_a_closed_one_brings_it_back() -> None:
    heater, commands = heated()
    assert heater.advance(SECOND_US, 0).slots == 2
    commands.run({"what": "window", "value": "open"})
    assert heater.advance(2 * SECOND_US, 0).slots == 0
    status = commands.status()
    assert (status["window_open"], status["reason"], status["setpoint_c"]) == (True, "a window is open", 7.0)
    commands.run({"what": "window", "value": "closed"})
    heater.advance(60 * SECOND_US, 0)
    assert heater.reading().slots == 2


def test_absence_lowers_the_setpoint_after_its_time_and_presence_raises_it_at_once() -> None:
    heater, commands = heated()
    commands.run({"what": "presence", "value": "away"})
    found = []
    for second in (1, 60, 62):
        heater.advance(second * SECOND_US, 0)
        found.append((commands.status()["setpoint_c"], commands.status()["present"]))
    assert found == [(20.0, False), (20.0, False), (16.0, False)]
    commands.run({"what": "presence", "value": "home"})
    heater.advance(63 * SECOND_US, 0)
    assert commands.status()["setpoint_c"] == 20.0


def test_owner_is_told_what_was_not_understood() -> None:
    with pytest.raises(ValueError, match="neither yes nor no: 'ajar'"):
        heated()[1].run({"what": "window", "value": "ajar"})


def test_whoever_runs_the_loop_is_woken_by_each_command() -> None:
    _, commands = heated()
    woken: list[str] = []
    commands.on_change = lambda: woken.append("!")
    commands.wish("eco")
    commands.limit(10.0, in_s=0.0, for_s=60.0)
    commands.withdraw_limits()
    commands.tempo("red")
    commands.observe(What.WINDOW, True)
    assert len(woken) == 5
