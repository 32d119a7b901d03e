"""The tables under `[heater]` that say how a sink is controlled. Offsets are kelvin from `setpoint_c`, so that one set
of defaults fits a room, a tank and a pool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..settings.checks import check_host, check_printable
from ..settings.schema import Conflict, Key
from .control.schedule import ENTRIES_MAX, parse_changes
from .drivers.sysfs import check_source

MODBUS = "modbus:"


def _check_optional_source(text: str) -> None:
    if text.startswith(MODBUS):
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", text.removeprefix(MODBUS)):
            raise ValueError("expected modbus:QUANTITY, with a quantity of the register map")
    elif text:
        check_source(text)


def _check_switch(text: str) -> None:
    _check_optional_source(text)
    if text and not text.startswith((MODBUS, "file:")):
        raise ValueError("expected modbus:QUANTITY or file:PATH")


def _check_entry(text: str) -> None:
    parse_changes(text)


_SOURCE = (
    "`hwmon:NAME/temp1`, `thermal:TYPE`, `w1:ID`, `iio:NAME/in_temp`, `modbus:QUANTITY` or `file:PATH` (milli-degrees)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusTable:
    """A Modbus TCP device for sensors and the meter. Needs the extra `hearthmesh[modbus]`."""

    host: Annotated[str, Key("The device.", length=253, check=check_host, absent="none")] = ""
    port: Annotated[int, Key("Its port.", low=1, high=65_535)] = 502
    unit: Annotated[int, Key("Its unit.", low=0, high=255)] = 1
    map: Annotated[
        str,
        Key("Register map: the name of a bundled one, or a file's absolute path.", length=1024, check=check_printable),
    ] = ""
    outputs: Annotated[
        tuple[str, ...],
        Key("What the device is told, each an output of the register map.", items=16, length=64, check=check_printable),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterModbusTable:
    """Where the meter is, if that is another device than `modbus`, or another unit of it."""

    host: Annotated[str, Key("The meter.", length=253, check=check_host, absent="that of `modbus`")] = ""
    port: Annotated[int | None, Key("Its port.", low=1, high=65_535, absent="that of `modbus`")] = None
    unit: Annotated[int | None, Key("Its unit.", low=0, high=255, absent="that of `modbus`")] = None
    map: Annotated[
        str, Key("Its register map, as there.", length=1024, check=check_printable, absent="that of `modbus`")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTable:
    """The hardware of a heater of kind `machine`."""

    root: Annotated[Path, Key("Folder that /sys is looked for in.")] = Path("/")
    sensor: Annotated[
        str,
        Key(
            f"Sensor of the sink: {_SOURCE}.", length=256, check=_check_optional_source, absent="required for `machine`"
        ),
    ] = ""
    second_sensor: Annotated[
        str, Key("Another, for when the first fails.", length=256, check=_check_optional_source)
    ] = ""
    outside_sensor: Annotated[
        str,
        Key(
            "Sensor outside: summer, optimum start, feed-forward and a heating curve need it; without, a boiler rack "
            "that is off heats in summer, too.",
            length=256,
            check=_check_optional_source,
        ),
    ] = ""
    surface_sensor: Annotated[
        str,
        Key(
            "Sensor of the heater's surface; while it is not to be believed, a little heat flows, and then none.",
            length=256,
            check=_check_optional_source,
        ),
    ] = ""
    return_sensor: Annotated[
        str,
        Key(
            "Sensor of a loop's return: warmer than `return_max_c` of `[heater.model.loop]` it takes no heat.",
            length=256,
            check=_check_optional_source,
        ),
    ] = ""
    presence: Annotated[
        str,
        Key(
            "What tells that somebody is there: `modbus:QUANTITY` or `file:PATH`, not 0.",
            length=256,
            check=_check_switch,
        ),
    ] = ""
    window: Annotated[
        str,
        Key(
            "What tells that a window is open: `modbus:QUANTITY` or `file:PATH`, not 0.",
            length=256,
            check=_check_switch,
        ),
    ] = ""
    poll_s: Annotated[float, Key("Time between two readings of a sensor, s.", low=0.05, high=600.0)] = 5.0
    meter: Annotated[
        str,
        Key(
            "`rapl`: the processor's own. `modbus`: `power_w` of the register map. `sunspec`: the first meter among a "
            "Modbus device's models. `none`: power is estimated.",
            choices=("none", "rapl", "modbus", "sunspec"),
        ),
    ] = "none"
    rapl_limit: Annotated[bool, Key("Limit the power of the processor's packages as well.")] = False
    cpufreq_limit: Annotated[bool, Key("Limit the frequency as well.")] = False
    modbus: Annotated[ModbusTable, Key("A Modbus TCP device.")] = ModbusTable()
    meter_modbus: Annotated[MeterModbusTable, Key("The meter's, if it is another.")] = MeterModbusTable()
    cgroup: Annotated[
        str, Key("Control group (v2) whose CPU quota is set as well.", length=256, check=check_printable)
    ] = ""

    def __post_init__(self) -> None:
        sensors = (self.sensor, self.second_sensor, self.outside_sensor, self.surface_sensor, self.return_sensor)
        sources = (*sensors, self.presence, self.window)
        named = bool(self.modbus.outputs) or any(source.startswith(MODBUS) for source in sources)
        metered = self.meter in ("modbus", "sunspec")
        if (named and not self.modbus.host) or (metered and not self.meter_device.host):
            raise Conflict("modbus", "has no host, and a sensor, the meter or an output is there")
        if (named and not self.modbus.map) or (self.meter == "modbus" and not self.meter_device.map):
            raise Conflict("modbus", "has no map, and a sensor, the meter or an output is named by it")
        if self.meter_modbus != MeterModbusTable() and not metered:
            raise Conflict("meter_modbus", "given, and the meter is neither modbus nor sunspec")

    @property
    def meter_device(self) -> ModbusTable:
        """Where the meter is; equal to `modbus`, but for the outputs, if it has no table of its own."""
        own, shared = self.meter_modbus, self.modbus
        return ModbusTable(
            host=own.host or shared.host,
            port=shared.port if own.port is None else own.port,
            unit=shared.unit if own.unit is None else own.unit,
            map=own.map or shared.map,
        )


def _check_topic(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_\-]+(/[A-Za-z0-9_\-]+)*", text):
        raise ValueError("expected a topic of letters, digits, - and _, its levels parted by /")


def _check_heard(text: str) -> None:
    check_printable(text)
    if not text or "+" in text or "#" in text or "\0" in text:
        raise ValueError("expected a topic without + and #")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTable:
    """A broker at which the heater is a device of Home Assistant. Needs the extra `hearthmesh[mqtt]`."""

    host: Annotated[str, Key("The broker.", length=253, check=check_host, absent="no broker")] = ""
    port: Annotated[int, Key("Its port.", low=1, high=65_535)] = 1883
    username: Annotated[str, Key("Name to log in with.", length=256, check=check_printable)] = ""
    password_file: Annotated[Path | None, Key("File whose first line is the password.", exists="file")] = None
    tls: Annotated[bool, Key("Encrypt, and check the broker's certificate by the system's authorities.")] = False
    discovery_prefix: Annotated[str, Key("Where Home Assistant looks for devices.", length=64, check=_check_topic)] = (
        "homeassistant"
    )
    topic: Annotated[str, Key("What this heater's topics begin with.", length=64, check=_check_topic)] = "hearthmesh"

    presence_topics: Annotated[
        tuple[str, ...],
        Key("Topics of others that tell whether somebody is there.", items=16, length=256, check=_check_heard),
    ] = ()
    window_topics: Annotated[
        tuple[str, ...],
        Key("Topics of others that tell whether a window is open.", items=16, length=256, check=_check_heard),
    ] = ()

    def __post_init__(self) -> None:
        if self.password_file is not None and not self.username:
            raise Conflict("password_file", "given without a username")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """Which temperature is wanted when."""

    week: Annotated[
        tuple[str, ...],
        Key(
            'Changes of the setpoint, local time, each `DAYS HH:MM TEMPERATURE` like `"mon-fri 06:30 20.5"`; '
            "DAYS also `sat,sun`, `daily`, `weekdays`, `weekend`.",
            items=ENTRIES_MAX,
            length=80,
            check=_check_entry,
            absent="`setpoint_c` all the time",
        ),
    ] = ()
    eco_below_k: Annotated[float, Key("Eco is so far below `setpoint_c`, K.", low=0.0, high=60.0)] = 3.0
    away_below_k: Annotated[float, Key("Away is so far below `setpoint_c`, K.", low=0.0, high=60.0)] = 4.0
    believe_s: Annotated[
        float,
        Key("Presence and windows that were told of longer ago are not known any more, s.", low=60.0, high=2_592_000.0),
    ] = 86_400.0
    away_after_s: Annotated[float, Key("Absence counts after this time, s.", low=0.0, high=604_800.0)] = 900.0
    boost_above_k: Annotated[float, Key("Boost is so far above `setpoint_c`, K.", low=0.0, high=20.0)] = 2.0
    boost_s: Annotated[float, Key("A boost ends after this time, s.", low=60.0, high=86_400.0)] = 3600.0
    lowest_below_k: Annotated[
        float, Key("The lowest setpoint that a hand may set is so far below `setpoint_c`, K.", low=0.0, high=60.0)
    ] = 15.0
    highest_above_k: Annotated[
        float, Key("The highest setpoint that a hand may set is so far above `setpoint_c`, K.", low=0.0, high=20.0)
    ] = 5.0
    frost_c: Annotated[float, Key("Kept even when off, °C; never above `setpoint_c`.", low=-30.0, high=30.0)] = 7.0
    early_max_s: Annotated[
        float,
        Key("Warming up for the schedule begins at most so long before, s; 0: never early.", low=0.0, high=86_400.0),
    ] = 21_600.0
    warm_up_k_per_h: Annotated[
        float, Key("How fast the sink gets warm, while that is not learnt yet, K/h.", low=0.01, high=100.0)
    ] = 0.5

    def __post_init__(self) -> None:
        if self.boost_above_k > self.highest_above_k:
            raise Conflict("boost_above_k", "more than highest_above_k allows")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTable:
    """Open windows, told from the temperature."""

    drop_k: Annotated[
        float, Key("A fall by so much within `span_s` is an open window, K; 0: never.", low=0.0, high=20.0)
    ] = 0.0
    span_s: Annotated[float, Key("Time for that fall, s.", low=30.0, high=3600.0)] = 300.0
    open_max_s: Annotated[
        float,
        Key(
            "A window that seems open for longer, or a contact's last word, is not believed, s.",
            low=60.0,
            high=86_400.0,
        ),
    ] = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorTable:
    """When a sensor of the sink, or the one outside, is not believed any more. A simulated one always is."""

    lowest_c: Annotated[float, Key("Lower readings are implausible, °C.", low=-100.0, high=100.0)] = -40.0
    highest_c: Annotated[float, Key("Higher readings are implausible, °C.", low=-50.0, high=300.0)] = 110.0
    jump_k_per_s: Annotated[
        float, Key("Readings that move faster are implausible, K/s; 1 K is always allowed.", low=1e-4, high=100.0)
    ] = 0.1
    lost_s: Annotated[float, Key("A reading that is older is lost, s.", low=1.0, high=3600.0)] = 120.0
    frozen_s: Annotated[
        float,
        Key(
            "A reading that no digit changed of for so long is frozen, s; a coarse one later; 0: never.",
            low=0.0,
            high=2_592_000.0,
        ),
    ] = 43_200.0
    frozen_k: Annotated[
        float,
        Key("Frozen sooner, when heat meanwhile should have moved it by so much, K; 0: never.", low=0.0, high=50.0),
    ] = 2.0
    recover_s: Annotated[
        float, Key("A sensor that was at fault has to be fine for so long, s.", low=0.0, high=86_400.0)
    ] = 60.0
    disagree_k: Annotated[float, Key("Two sensors that differ by more are told of, K.", low=0.1, high=50.0)] = 3.0
    open_loop_s: Annotated[
        float, Key("How long a little heat flows without any sensor, s; then none.", low=0.0, high=86_400.0)
    ] = 3600.0
    open_loop_percent: Annotated[float, Key("Most of the capacity meanwhile, %.", low=0.0, high=100.0)] = 20.0
    outside_lowest_c: Annotated[
        float, Key("Lower readings of the outside sensor are implausible, °C.", low=-100.0, high=30.0)
    ] = -60.0
    outside_highest_c: Annotated[
        float, Key("Higher ones are, °C; in the sun it shows more than the air has.", low=0.0, high=100.0)
    ] = 60.0
    outside_jump_k: Annotated[
        float,
        Key("More between two of its readings is implausible until it stays, K, or K/h.", low=1.0, high=100.0),
    ] = 15.0
    outside_frozen_s: Annotated[
        float,
        Key(
            "One of its readings that no digit changed of for so long is frozen, s; a coarse one later; 0: never, for "
            "a source that is constant.",
            low=0.0,
            high=2_592_000.0,
        ),
    ] = 172_800.0
    outside_hold_s: Annotated[
        float,
        Key("What it told last holds for so long once it is lost or implausible, s.", low=0.0, high=86_400.0),
    ] = 7200.0

    def __post_init__(self) -> None:
        if self.lowest_c >= self.highest_c:
            raise Conflict("lowest_c", "not below highest_c")
        if self.outside_lowest_c >= self.outside_highest_c:
            raise Conflict("outside_lowest_c", "not below outside_highest_c")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyTable:
    """Too hot inside, and too warm outside. A hardware cut-out has to stand outside of this."""

    overheat_c: Annotated[
        float | None,
        Key(
            "Above this nothing runs, °C; it resumes 1 K lower.",
            low=-20.0,
            high=130.0,
            absent="5 K above all that a hand, a heating curve or a disinfection may set, or 35 if that is more",
        ),
    ] = None
    surface_max_c: Annotated[
        float, Key("The same for the heater's surface, °C, where it has a sensor.", low=20.0, high=150.0)
    ] = 75.0
    watchdog_s: Annotated[
        float,
        Key(
            "When the control loop is silent for so long, another process stops all work and writes the least power "
            "into the actuators, s. Only for the kind `machine`.",
            low=2.0,
            high=3600.0,
        ),
    ] = 15.0
    summer_above_c: Annotated[
        float, Key("It is summer when the mean of two days outside is above this, °C.", low=-20.0, high=60.0)
    ] = 16.0
    summer_floor_w: Annotated[
        float, Key("What runs in summer though no heat is wanted, W; it counts as waste.", low=0.0, high=1e7)
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnTable:
    """Heat without work, when there is none: the processor computes nothing, so that the sink stays warm."""

    enabled: Annotated[bool, Key("Burn, rather than let the sink get cold for lack of work.")] = False
    after_s: Annotated[float, Key("Work has to lack for so long first, s.", low=0.0, high=86_400.0)] = 120.0
    most_percent: Annotated[float, Key("Most of the cores, %.", low=1.0, high=100.0)] = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTable:
    """Power limits from outside: `hearth heat limit`, `hearth heat tempo`."""

    comfort_floor_below_k: Annotated[
        float,
        Key(
            "No limit holds so far below `setpoint_c`, or a lower setpoint that holds, K. Frost is always kept out.",
            low=0.1,
            high=60.0,
        ),
    ] = 3.0
    rebound_percent: Annotated[
        float, Key("Most of the capacity after a limit ends, %, or what was usual before.", low=0.0, high=100.0)
    ] = 70.0
    rebound_s: Annotated[float, Key("For this time, s.", low=0.0, high=86_400.0)] = 1800.0
    tempo_white_percent: Annotated[
        float, Key("Of the capacity, in peak hours (6 to 22 h) of white days, %.", low=0.0, high=100.0)
    ] = 100.0
    tempo_red_percent: Annotated[
        float, Key("Of the capacity, in peak hours (6 to 22 h) of red days, %.", low=0.0, high=100.0)
    ] = 100.0
