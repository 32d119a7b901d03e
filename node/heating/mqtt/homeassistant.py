"""What Home Assistant is told of a heater, and what it may say: topics and payloads, no I/O.

Source: Home Assistant, MQTT discovery (device form) and MQTT HVAC, as of 2026.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..commands import HeatCommands
from ..control.setpoint import Wish
from ..observed import What, parse_observed

PAYLOAD_BYTES_MAX = 256
ONLINE, OFFLINE = "online", "offline"
MODES = ("auto", "heat", "off")
COMMANDS = ("mode", "temperature", "preset", "limit", "tempo")
PRESETS = (Wish.COMFORT.value, Wish.ECO.value, Wish.AWAY.value, Wish.BOOST.value)
# Busy cores that are heat: less is a task that waits.
LOAD_LEAST = 0.02
# Home Assistant's own word for "no preset".
NO_PRESET = "none"


@dataclass(frozen=True, slots=True)
class Topics:
    """Of one heater. prefix: Home Assistant's for discovery.  base: ours.  device: letters, digits, - and _."""

    prefix: str
    base: str
    device: str

    @property
    def discovery(self) -> str:
        return f"{self.prefix}/device/{self.device}/config"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.prefix}/status"

    @property
    def availability(self) -> str:
        return f"{self.base}/{self.device}/availability"

    @property
    def state(self) -> str:
        return f"{self.base}/{self.device}/state"

    def command(self, what: str) -> str:
        """what: one of COMMANDS, "presence" or "window"."""
        return f"{self.base}/{self.device}/set/{what}"

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(self.command(what) for what in COMMANDS)

    @property
    def observations(self) -> dict[str, What]:
        """Where this heater may be told of presence and windows; these are states, so one that was kept counts."""
        return {self.command(what.value): what for what in What}


def discovery_payload(topics: Topics, name: str, version: str, low_c: float, high_c: float) -> str:
    """The device with all its entities. low_c, high_c: what may be set."""
    return json.dumps(
        {
            "device": {
                "identifiers": [topics.device],
                "name": name,
                "manufacturer": "Hearthmesh",
                "model": "heater",
                "sw_version": version,
            },
            "origin": {"name": "hearthmesh", "sw_version": version},
            "availability_topic": topics.availability,
            "state_topic": topics.state,
            "qos": 1,
            "components": {"climate": _climate(topics, low_c, high_c)} | _sensors(topics),
        }
    )


def _climate(topics: Topics, low_c: float, high_c: float) -> dict[str, Any]:
    return {
        "platform": "climate",
        "unique_id": f"{topics.device}_climate",
        "name": None,
        "modes": list(MODES),
        "mode_state_topic": topics.state,
        "mode_state_template": "{{ value_json.mode }}",
        "mode_command_topic": topics.command("mode"),
        "temperature_state_topic": topics.state,
        "temperature_state_template": "{{ value_json.dial_c }}",
        "temperature_command_topic": topics.command("temperature"),
        "current_temperature_topic": topics.state,
        "current_temperature_template": "{{ value_json.temperature_c }}",
        "action_topic": topics.state,
        "action_template": "{{ value_json.action }}",
        "preset_modes": list(PRESETS),
        "preset_mode_state_topic": topics.state,
        "preset_mode_value_template": "{{ value_json.preset }}",
        "preset_mode_command_topic": topics.command("preset"),
        "min_temp": low_c,
        "max_temp": high_c,
        "temp_step": 0.5,
        "temperature_unit": "C",
    }


# key of the state: name, device class, unit, state class
_SENSORS: Mapping[str, tuple[str, str | None, str | None, str | None]] = {
    "temperature_c": ("Temperature", "temperature", "°C", "measurement"),
    "setpoint_c": ("Setpoint", "temperature", "°C", "measurement"),
    "outside_c": ("Outside", "temperature", "°C", "measurement"),
    "aim_c": ("Kept at", "temperature", "°C", "measurement"),
    "surface_c": ("Surface", "temperature", "°C", "measurement"),
    "disinfected_h": ("Disinfected before", "duration", "h", "measurement"),
    "power_w": ("Power", "power", "W", "measurement"),
    "granted_w": ("Heat granted", "power", "W", "measurement"),
    "request_w": ("Heat requested", "power", "W", "measurement"),
    "limit_w": ("Power limit", "power", "W", "measurement"),
    "energy_kwh": ("Energy", "energy", "kWh", "total_increasing"),
    "useful_kwh": ("Useful heat", "energy", "kWh", "total_increasing"),
    "paid_kwh": ("Energy of paid work", "energy", "kWh", "total_increasing"),
    "volunteer_kwh": ("Energy of volunteer work", "energy", "kWh", "total_increasing"),
    "burnt_kwh": ("Energy burnt without work", "energy", "kWh", "total_increasing"),
    "tasks": ("Tasks", None, None, "measurement"),
    "burn_cores": ("Cores that burn", None, None, "measurement"),
    "reason": ("Setpoint by", None, None, None),
    "goes_by": ("Goes by", None, None, None),
    "season": ("Season", None, None, None),
}
_BINARY = {
    "problem": ("Alarm", "problem"),
    "window": ("Window", "window"),
    "present": ("Presence", "presence"),
}


def _sensors(topics: Topics) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, (name, device_class, unit, state_class) in _SENSORS.items():
        optional = {"device_class": device_class, "unit_of_measurement": unit, "state_class": state_class}
        found[key] = {
            "platform": "sensor",
            "unique_id": f"{topics.device}_{key}",
            "name": name,
            "value_template": f"{{{{ value_json.{key} }}}}",
        } | {option: value for option, value in optional.items() if value is not None}
    for key, (name, device_class) in _BINARY.items():
        found[key] = {
            "platform": "binary_sensor",
            "unique_id": f"{topics.device}_{key}",
            "name": name,
            "device_class": device_class,
            "value_template": f"{{{{ value_json.{key} }}}}",
        }
    return found


def state_payload(status: Mapping[str, Any], energy_uj: int, useful_uj: int) -> str:
    """status: of `HeatCommands.status`, not empty."""
    wish, granted_w = status["mode"], status["granted_w"]
    flows = granted_w > 0 and status["load"] >= LOAD_LEAST
    mode = {Wish.OFF.value: "off", Wish.AUTO.value: "auto"}.get(wish, "heat")
    return json.dumps(
        {
            "mode": mode,
            "preset": wish if wish in PRESETS else NO_PRESET,
            "action": "heating" if flows else "off" if mode == "off" else "idle",
            "temperature_c": _rounded(status["temperature_c"]),
            "setpoint_c": status["setpoint_c"],
            # What was just set while off is not lost, though it does not hold yet.
            "dial_c": status["setpoint_c"] if status["set_while_off_c"] is None else status["set_while_off_c"],
            "outside_c": _rounded(status["outside_c"]),
            "aim_c": _rounded(status["aim_c"]),
            "surface_c": _rounded(status["surface_c"]),
            # In whole hours, so that time alone has little to tell.
            "disinfected_h": None if status["disinfected_ago_s"] is None else int(status["disinfected_ago_s"] // 3600),
            "power_w": round(status["power_w"]),
            "granted_w": round(granted_w),
            "request_w": round(status["request_w"]),
            "limit_w": round(status["limit_w"]),
            # In steps of a watt-hour, so that a heater at rest has nothing to tell.
            "energy_kwh": round(energy_uj / 3.6e12, 3),
            "useful_kwh": round(useful_uj / 3.6e12, 3),
            "paid_kwh": round(status["energy_j"]["paid"] / 3.6e6, 3),
            "volunteer_kwh": round(status["energy_j"]["volunteer"] / 3.6e6, 3),
            "burnt_kwh": round(status["energy_j"]["burn"] / 3.6e6, 3),
            "tasks": status["slots"],
            "burn_cores": round(status["burn_cores"], 1),
            "reason": status["reason"],
            "goes_by": status["goes_by"],
            "season": status["season"],
            "problem": "ON" if status["alarms"] else "OFF",
            "window": "ON" if status["window_open"] else "OFF",
            # Home Assistant takes this word for unknown.
            "present": {True: "ON", False: "OFF", None: "None"}[status["present"]],
        }
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def obey(topics: Topics, commands: HeatCommands, topic: str, payload: bytes, *, retained: bool = False) -> None:
    """Do what was said on a command topic. Raises ValueError for what makes no sense, with a line for the log.

    retained: the broker kept it, for nobody knows how long; commands are not asked for with it.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a command of {len(payload)} bytes")
    text = payload.decode("utf-8", "replace").strip()
    if topic in topics.observations:
        what = topics.observations[topic]
        commands.observe(what, parse_observed(what, payload), source=topic, words=payload, retained=retained)
    elif topic == topics.command("mode"):
        if text not in MODES:
            raise ValueError(f"no mode {text[:40]!r}")
        if text == "heat":
            commands.heat()
        else:
            commands.wish(text)
    elif topic == topics.command("preset"):
        if text not in (*PRESETS, NO_PRESET):
            raise ValueError(f"no preset {text[:40]!r}")
        commands.wish(Wish.AUTO.value if text == NO_PRESET else text)
    elif topic == topics.command("temperature"):
        try:
            setpoint_c = float(text)
        except ValueError:
            raise ValueError(f"no temperature {text[:40]!r}") from None
        if not math.isfinite(setpoint_c):
            raise ValueError(f"no temperature {text[:40]!r}")
        commands.set_temperature(setpoint_c)
    elif topic == topics.command("limit"):
        commands.run(_limit_request(text))
    elif topic == topics.command("tempo"):
        colour, _, days = text.partition(" ")
        commands.tempo(colour, int(days) if days.isdecimal() and len(days) == 1 else 0 if not days else -1)
    else:
        raise ValueError(f"no such topic: {topic[:80]}")


def _limit_request(text: str) -> dict[str, Any]:
    if text == "none":
        return {"what": "no-limit"}
    try:
        found = json.loads(text)
        numbers = {key: float(found[key]) for key in ("watts", "for_s", "in_s") if key in found}
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"no limit {text[:40]!r}") from None
    if not {"watts", "for_s"} <= set(numbers):
        raise ValueError("a limit needs watts and for_s")
    return {"what": "limit"} | numbers
