"""What Home Assistant is told, and obeyed in: every entity has its place in the state, and nonsense is refused."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.cli.heat_commands import status_lines
from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.kept import Kept, Moment, decode, encode
from hearthmesh.node.heating.mqtt.homeassistant import MODES, PRESETS, Topics, discovery_payload, obey, state_payload
from hearthmesh.node.heating.simulated import SimulatedHeater

TOPICS = Topics("homeassistant", "hearthmesh", "abc123")
SETTINGS = HeaterSettings(kind="simulated", cores=2, room=RoomSettings(start_c=20.2))


def heated() -> tuple[SimulatedHeater, HeatCommands]:
    heater = SimulatedHeater(SETTINGS, 0)
    return heater, HeatCommands(heater)


def state(heater: SimulatedHeater, commands: HeatCommands, now_us: int = 0, cpu_us: int = 0) -> dict[str, Any]:
    heater.advance(now_us, cpu_us)
    found: dict[str, Any] = json.loads(state_payload(commands.status(), 7_200_000_000_000, 3_600_000_000_000))
    return found


def test_every_entity_finds_its_value_in_the_state() -> None:
    told = json.loads(discovery_payload(TOPICS, "Kitchen", "1.0", 5.0, 25.0))
    wanted = set(re.findall(r"value_json\.(\w+)", json.dumps(told["components"])))
    assert wanted == set(state(*heated()))
    identities = [component["unique_id"] for component in told["components"].values()]
    assert len(set(identities)) == len(identities) == 24
    assert told["components"]["climate"]["modes"] == list(MODES)
    assert told["availability_topic"] == "hearthmesh/abc123/availability"


@pytest.mark.parametrize(
    ("what", "payload", "expected"),
    [
        ("mode", "off", {"mode": "off", "preset": "none", "action": "off", "setpoint_c": 7.0}),
        ("mode", "heat", {"mode": "heat", "preset": "comfort", "setpoint_c": 20.0}),
        ("mode", "auto", {"mode": "auto", "preset": "none", "action": "idle"}),
        ("preset", "boost", {"mode": "heat", "preset": "boost", "action": "idle", "setpoint_c": 22.0}),
        ("preset", "none", {"mode": "auto", "preset": "none"}),
        ("temperature", "21.5", {"mode": "heat", "preset": "none", "action": "idle", "setpoint_c": 21.5}),
        ("temperature", "99", {"setpoint_c": 25.0}),
        ("limit", '{"watts": 15, "for_s": 600}', {"limit_w": 15}),
        ("limit", "none", {"limit_w": 50}),
        ("tempo", "red", {"mode": "auto"}),
        ("window", "open", {"window": "ON", "setpoint_c": 7.0}),
        ("window", '{"contact": true}', {"window": "OFF", "setpoint_c": 20.0}),
        ("presence", "not_home", {"present": "OFF"}),
    ],
)
def test_command_shows_in_the_state_after_one_period(what: str, payload: str, expected: dict[str, Any]) -> None:
    heater, commands = heated()
    obey(TOPICS, commands, TOPICS.command(what), payload.encode())
    found = state(heater, commands)
    assert {key: found[key] for key in expected} == expected
    assert (found["energy_kwh"], found["useful_kwh"]) == (2.0, 1.0)


def test_action_tells_what_flows_not_what_is_granted() -> None:
    heater, commands = heated()
    obey(TOPICS, commands, TOPICS.command("temperature"), b"22")
    assert state(heater, commands)["granted_w"] > 0
    found = [state(heater, commands, at_s * 1_000_000, cpu_us)["action"] for at_s, cpu_us in ((1, 0), (2, 500_000))]
    assert found == ["idle", "heating"]
    assert state(heater, commands, 3_000_000, 500_000)["action"] == "idle"
    # What still ends when no heat is wanted any more.
    obey(TOPICS, commands, TOPICS.command("temperature"), b"15")
    assert state(heater, commands, 4_000_000, 600_000)["action"] == "idle"


def test_temperature_that_is_set_while_off_waits_until_it_is_on() -> None:
    heater, commands = heated()

    def says(what: str, payload: str) -> tuple[str, str, float]:
        obey(TOPICS, commands, TOPICS.command(what), payload.encode())
        found = state(heater, commands)
        return found["mode"], found["preset"], found["setpoint_c"]

    assert says("mode", "off") == ("off", "none", 7.0)
    for payload in ("21.5", "99"):
        assert says("temperature", payload) == ("off", "none", 7.0)
    assert says("mode", "off") == ("off", "none", 7.0)
    assert says("mode", "heat") == ("heat", "none", 25.0)
    # Once used it is over, and who wishes something else gets that.
    assert says("mode", "off") == ("off", "none", 7.0)
    assert says("mode", "heat") == ("heat", "comfort", 20.0)
    for what, payload, expected in (("mode", "auto", ("auto", "none", 20.0)), ("preset", "eco", ("heat", "eco", 17.0))):
        says("mode", "off")
        says("temperature", "21.5")
        assert says(what, payload) == expected


def test_temperature_that_is_set_while_off_outlives_a_restart() -> None:
    (heater, commands), (after, commands_after) = heated(), heated()
    obey(TOPICS, commands, TOPICS.command("mode"), b"off")
    obey(TOPICS, commands, TOPICS.command("temperature"), b"21.5")
    after.thermostat.recall(heater.thermostat.remember(heater.inputs()), after.inputs(), 60.0)
    obey(TOPICS, commands_after, TOPICS.command("mode"), b"heat")
    assert state(after, commands_after)["setpoint_c"] == 21.5


def test_what_an_app_shows_while_off_is_the_temperature_that_waits() -> None:
    heater, commands = heated()
    template = json.loads(discovery_payload(TOPICS, "Kitchen", "1.0", 5.0, 25.0))["components"]["climate"]

    def shown(what: str, payload: str) -> float:
        obey(TOPICS, commands, TOPICS.command(what), payload.encode())
        key = re.findall(r"value_json\.(\w+)", template["temperature_state_template"])[0]
        found: float = state(heater, commands)[key]
        return found

    told = [("mode", "off"), ("temperature", "20"), ("temperature", "99"), ("mode", "heat"), ("mode", "auto")]
    assert [shown(*each) for each in told] == [7.0, 20.0, 25.0, 25.0, 20.0]

    shown("mode", "off")
    shown("temperature", "21.5")
    assert status_lines(commands.status())[1].startswith("mode     off (21.5 °C was set meanwhile), ")


@pytest.mark.parametrize("older", [False, True])
def test_a_setpoint_that_changed_while_off_holds_when_it_is_on_again(older: bool) -> None:
    heater, commands = heated()
    obey(TOPICS, commands, TOPICS.command("mode"), b"off")
    kept = json.loads(encode(Kept(Moment("", 0.0, 0.0), "", heater.thermostat.remember(heater.inputs()))))
    if older:
        # As it was written before there was anything to wait.
        kept["wish"] = {"mode": "off", "manual_c": 20.0, "manual_until_s": None, "boost_left_s": None}
    found, problems = decode(json.dumps(kept).encode())
    after = SimulatedHeater(replace(SETTINGS, setpoint_c=21.5), 0)
    after.thermostat.recall(found.remembered, after.inputs(), 60.0)
    commands_after = HeatCommands(after)
    assert (commands_after.status()["set_while_off_c"], problems) == (None, ())
    obey(TOPICS, commands_after, TOPICS.command("mode"), b"heat")
    shown = state(after, commands_after)
    assert (shown["preset"], shown["setpoint_c"]) == ("comfort", 21.5)


@given(st.sampled_from([*TOPICS.commands, *TOPICS.observations, "elsewhere"]), st.binary(max_size=300))
def test_payload_of_anything_is_obeyed_or_refused(topic: str, payload: bytes) -> None:
    heater, commands = heated()
    try:
        obey(TOPICS, commands, topic, payload)
    except ValueError as error:
        assert str(error)
    found = state(heater, commands)
    assert found["mode"] in MODES
    assert found["preset"] in (*PRESETS, "none")


@pytest.mark.parametrize(
    ("what", "payload", "problem"),
    [
        ("limit", "lots", "no limit 'lots'"),
        ("limit", '{"watts": 5}', "needs watts and for_s"),
        ("limit", '{"watts": [], "for_s": 3}', "no limit"),
        ("limit", "[1]", "needs watts and for_s"),
        ("limit", '{"watts": -5, "for_s": 3}', "0 W or more"),
        ("tempo", "red 9", "0 to 7 days"),
        ("tempo", "red soon", "0 to 7 days"),
        ("tempo", "green", "no colour 'green'"),
        ("window", "ajar", "neither yes nor no"),
    ],
)
def test_command_that_makes_no_sense_is_refused_with_its_problem(what: str, payload: str, problem: str) -> None:
    _, commands = heated()
    with pytest.raises(ValueError, match=problem):
        obey(TOPICS, commands, TOPICS.command(what), payload.encode())
