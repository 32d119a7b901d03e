"""The heater that a config asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CORES_MAX, IDLE_WATTS_MAX, WATTS_PER_CORE_MAX, HeaterSettings
from .calibration import power_table
from .control_settings import MODBUS, MachineTable, MeterModbusTable, ModbusTable
from .drivers.cgroup import CgroupQuota
from .drivers.cpufreq import CpuFreqLimit
from .drivers.found import FoundValues
from .drivers.interface import DriverError, PowerActuator, PowerMeter
from .drivers.polled import PolledSensor, Readable
from .drivers.polled_meter import PolledMeter
from .drivers.rapl import RaplLimit, RaplMeter
from .drivers.register_map import RegisterMap, load_register_map
from .drivers.sysfs import SysfsSensor
from .heater import Heater, NoHeater
from .local_time import local_time
from .machine import Hardware, MachineHeater, meter_least_w, meter_most_w
from .simulated import SimulatedHeater

if TYPE_CHECKING:
    from .drivers.modbus import ModbusDevice

METER_PERIOD_S = 1.0
# Where nothing is known yet of what the machine draws: the most that a config may say.
METER_W_MAX = CORES_MAX * WATTS_PER_CORE_MAX + IDLE_WATTS_MAX


def heater_of(
    settings: HeaterSettings,
    now_us: int,
    cpu_us_total: int = 0,
    *,
    calibration: Path | None = None,
    found: FoundValues | None = None,
) -> Heater:
    """Its time begins now; a simulated sink's clock begins with the machine's.

    calibration: a file that `hearth calibrate` wrote, if there is one.  found: what an earlier life of the node found.
    Raises DriverError for hardware that is not there, CalibrationError for a file that cannot be used.
    """
    if settings.kind == "simulated":
        return SimulatedHeater(settings, now_us, cpu_us_total, local=local_time())
    if settings.kind == "machine":
        table, idle_w = power_table(settings, calibration)
        # What was measured is above what the machine drew at rest then.
        settings = settings if idle_w is None else replace(settings, idle_watts=idle_w)
        most_w = meter_most_w(table.capacity_w, settings.idle_watts)
        bounds_w = (meter_least_w(table.capacity_w), most_w)
        hardware = hardware_of(settings, lambda: time.monotonic_ns() / 1e9, meter_w=bounds_w, found=found)
        return MachineHeater(settings, hardware, table, now_us, cpu_us_total, local=local_time)
    return NoHeater(settings, now_us, cpu_us_total)


def hardware_of(
    settings: HeaterSettings,
    now_s: Callable[[], float],
    *,
    meter_w: tuple[float, float] = (-math.inf, METER_W_MAX),
    found: FoundValues | None = None,
) -> Hardware:
    """now_s: the clock of `advance`, in seconds.  meter_w: a meter that tells less or more is not believed.

    Raises DriverError for what is not there. A sensor may come later: until then it is lost.
    """
    machine = settings.machine
    root = machine.root
    modbus = _Modbus(machine.modbus)
    # The same device, unless the meter has a table of its own.
    meter_modbus = modbus if machine.meter_modbus == MeterModbusTable() else _Modbus(machine.meter_device)

    def sensor(source: str) -> PolledSensor | None:
        if not source:
            return None
        device = modbus.value(source) if source.startswith(MODBUS) else SysfsSensor(source, root)
        return PolledSensor(device, now_s, machine.poll_s)

    actuators: list[PowerActuator] = []
    frequency = CpuFreqLimit(root, found) if machine.cpufreq_limit else None
    if machine.rapl_limit:
        actuators.append(RaplLimit(root, found))
    if frequency is not None:
        actuators.append(frequency)
    if machine.cgroup:
        actuators.append(CgroupQuota(machine.cgroup, settings.core_count, root, found))
    actuators += modbus.outputs(now_s)
    meter, background = _meter(machine, meter_modbus, now_s, meter_w)

    def close() -> None:
        modbus.close()
        meter_modbus.close()

    return Hardware(
        sensors=tuple(each for each in map(sensor, (machine.sensor, machine.second_sensor)) if each is not None),
        outside=sensor(machine.outside_sensor),
        surface=sensor(machine.surface_sensor),
        returning=sensor(machine.return_sensor),
        presence=sensor(machine.presence),
        window=sensor(machine.window),
        meter=meter,
        background=background,
        close=close,
        actuators=tuple(actuators),
        frequency=frequency,
    )


def meter_of(
    settings: HeaterSettings, now_s: Callable[[], float]
) -> tuple[PowerMeter | None, tuple[PolledSensor, ...]]:
    """The meter, and what has to be read in the background for it. Raises DriverError for one that is not there."""
    modbus = _Modbus(settings.machine.meter_device)
    return _meter(settings.machine, modbus, now_s, (meter_least_w(settings.capacity_w), METER_W_MAX))


def _meter(
    machine: MachineTable, modbus: _Modbus, now_s: Callable[[], float], bounds_w: tuple[float, float]
) -> tuple[PowerMeter | None, tuple[PolledSensor, ...]]:
    match machine.meter:
        case "rapl":
            return RaplMeter(machine.root), ()
        case "modbus" | "sunspec":
            source = modbus.sunspec() if machine.meter == "sunspec" else modbus.value(f"{MODBUS}power_w", meter=True)
            period_s = min(METER_PERIOD_S, machine.poll_s)
            watts = PolledSensor(source, now_s, period_s)
            return PolledMeter(watts, now_s, period_s, bounds_w[1], least_w=bounds_w[0]), (watts,)
        case _:
            return None, ()


class _Modbus:
    """A device of a config, made when something of it is wanted: its library may not be installed."""

    def __init__(self, settings: ModbusTable) -> None:
        self._settings = settings
        self._device: ModbusDevice | None = None
        self._map: RegisterMap | None = None

    def close(self) -> None:
        if self._device is not None:
            self._device.close()

    def _connected(self) -> ModbusDevice:
        if self._device is None:
            try:
                from .drivers.modbus import ModbusDevice
            except ImportError as error:
                problem = (
                    f"modbus needs a library that is not installed ({error.name}): pip install '.[modbus]' in the clone"
                )
                raise DriverError(problem) from error
            self._device = ModbusDevice(self._settings.host, self._settings.port, self._settings.unit)
        return self._device

    def _mapped(self) -> RegisterMap:
        if self._map is None:
            self._map = load_register_map(self._settings.map)
        return self._map

    def value(self, source: str, *, meter: bool = False) -> Readable:
        device = self._connected()
        from .drivers.modbus import ModbusValue

        return ModbusValue(device, self._mapped().quantity(source.removeprefix(MODBUS)), source, meter=meter)

    def outputs(self, now_s: Callable[[], float]) -> list[PowerActuator]:
        """In the order of the config. A pump that is not among them holds up nothing: somebody else sees to it."""
        names = self._settings.outputs
        if not names:
            return []
        device = self._connected()
        from .drivers.modbus_output import ModbusOutput

        made: dict[str, ModbusOutput] = {}
        found = {name: self._mapped().output(name) for name in names}
        for name in sorted(found, key=lambda name: found[name].follows != "pump"):
            pump = made.get(found[name].requires)
            made[name] = ModbusOutput(device, name, found[name], now_s, pump=pump)
        return [made[name] for name in names]

    def sunspec(self) -> Readable:
        device = self._connected()
        from .drivers.modbus import SunSpecMeter

        return SunSpecMeter(device)
