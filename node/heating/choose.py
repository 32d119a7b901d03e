"""The heater that a config asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..config import HeaterSettings
from .calibration import power_table
from .drivers.cgroup import CgroupQuota
from .drivers.cpufreq import CpuFreqLimit
from .drivers.interface import PowerActuator, PowerMeter
from .drivers.polled import PolledSensor
from .drivers.rapl import RaplLimit, RaplMeter
from .drivers.sysfs import SysfsSensor
from .heater import Heater, NoHeater
from .local_time import local_time
from .machine import Hardware, MachineHeater
from .simulated import SimulatedHeater


def heater_of(
    settings: HeaterSettings, now_us: int, cpu_us_total: int = 0, *, calibration: Path | None = None
) -> Heater:
    """Its time begins now; a simulated sink's clock begins with the machine's.

    calibration: a file that `hearth calibrate` wrote, if there is one.
    Raises DriverError for hardware that is not there, CalibrationError for a file that cannot be used.
    """
    if settings.kind == "simulated":
        return SimulatedHeater(settings, now_us, cpu_us_total, local=local_time())
    if settings.kind == "machine":
        table = power_table(settings, calibration)
        hardware = hardware_of(settings, lambda: time.monotonic_ns() / 1e9)
        return MachineHeater(settings, hardware, table, now_us, cpu_us_total, local=local_time)
    return NoHeater(settings, now_us, cpu_us_total)


def hardware_of(settings: HeaterSettings, now_s: Callable[[], float]) -> Hardware:
    """now_s: the clock of `advance`, in seconds.

    Raises DriverError for what is not there. A sensor may come later: until then it is lost.
    """
    machine = settings.machine
    root = machine.root

    def sensor(source: str) -> PolledSensor | None:
        return PolledSensor(SysfsSensor(source, root), now_s, machine.poll_s) if source else None

    actuators: list[PowerActuator] = []
    if machine.rapl_limit:
        actuators.append(RaplLimit(root))
    if machine.cpufreq_limit:
        actuators.append(CpuFreqLimit(root))
    if machine.cgroup:
        actuators.append(CgroupQuota(machine.cgroup, settings.core_count, root))
    return Hardware(
        sensors=tuple(each for each in map(sensor, (machine.sensor, machine.second_sensor)) if each is not None),
        outside=sensor(machine.outside_sensor),
        surface=sensor(machine.surface_sensor),
        meter=meter_of(settings),
        actuators=tuple(actuators),
    )


def meter_of(settings: HeaterSettings) -> PowerMeter | None:
    """Raises DriverError for a meter that is not there."""
    return RaplMeter(settings.machine.root) if settings.machine.meter == "rapl" else None
