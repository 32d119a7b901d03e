"""What this machine draws with 0 … n busy cores: measured step by step, kept in a file, read by the thermostat."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..config import CORES_MAX, IDLE_WATTS_MAX, WATTS_PER_CORE_MAX, HeaterSettings
from ..storage.files import replace_file
from .control.meter_doubt import MeterDoubt
from .control.power import PowerStep, PowerTable
from .drivers.interface import DriverError, PowerMeter

VERSION = 1
FILE_BYTES_MAX = 1 << 20
# A step that draws no more than the one before would make the table useless between them.
STEP_LEAST_W = 1e-3


class CalibrationError(Exception):
    """The table's file is no good. The text is for the owner."""


class Load(Protocol):
    """Something that keeps cores busy; `Burner` is one."""

    def set(self, cores: int) -> None: ...

    def cpu_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """idle_w: with no core busy; None where nothing measures it.  table: above that.

    got: the least share of a step's cores that its processes got; not kept in the file.
    """

    table: PowerTable
    idle_w: float | None
    got: float = 1.0


async def calibrate(
    load: Load,
    meter: PowerMeter | None,
    *,
    cores: int,
    watts_per_core: float,
    settle_s: float,
    measure_s: float,
    now_s: Callable[[], float],
    wait: Callable[[float], Awaitable[None]],
    tell: Callable[[int, float], None] = lambda cores, watts: None,
) -> Calibration:
    """Each step is left to settle, then measured. Without a meter: the cores' CPU time times watts_per_core.

    tell: after each step, the number of busy cores and the watts above idle. Raises DriverError.
    """
    idle_w: float | None = None
    got = 1.0
    steps: list[PowerStep] = []
    for busy in range(cores + 1):
        load.set(busy)
        await wait(settle_s)
        begun_s, begun_cpu_us = now_s(), load.cpu_us()
        begun_uj = meter.energy_uj() if meter is not None else 0
        await wait(measure_s)
        energy_uj = meter.energy_uj() - begun_uj if meter is not None else 0
        elapsed_us = max(1.0, (now_s() - begun_s) * 1e6)
        cpu_us = load.cpu_us() - begun_cpu_us
        watts = energy_uj / elapsed_us if meter is not None else cpu_us / elapsed_us * watts_per_core
        if busy == 0:
            idle_w = watts if meter is not None else None
            tell(0, 0.0)
            continue
        got = min(got, cpu_us / (busy * elapsed_us))
        least_w = (steps[-1].watts if steps else 0.0) + STEP_LEAST_W
        steps.append(PowerStep(busy, max(least_w, watts - (idle_w or 0.0)), meter is not None))
        tell(busy, steps[-1].watts)
    load.set(0)
    if meter is not None and steps[-1].watts < MeterDoubt.SHARE_OF_GUESSED * cores * watts_per_core * got:
        # A table of it would make everything that this meter tells look right.
        raise DriverError(
            f"the meter shows {steps[-1].watts:.1f} W of {cores} busy cores; it is wrong, or heater.watts_per_core is"
        )
    return Calibration(PowerTable(steps), idle_w, got)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Replaces the file as a whole. Raises OSError."""
    content = {
        "version": VERSION,
        "measured": calibration.table.measured,
        "idle_w": calibration.idle_w,
        "steps": [{"cores": step.cores, "watts": round(step.watts, 4)} for step in calibration.table.steps],
    }
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())


def load_calibration(path: Path) -> Calibration:
    """Raises CalibrationError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CalibrationError(f"{path}: longer than {FILE_BYTES_MAX} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CalibrationError(f"{path}: version {content['version']!r}, this program reads {VERSION}")
        measured, idle_w = bool(content["measured"]), content["idle_w"]
        steps = [PowerStep(int(step["cores"]), float(step["watts"]), measured) for step in content["steps"]]
        if not all(math.isfinite(step.watts) and step.cores <= CORES_MAX for step in steps):
            raise ValueError("watts or cores that no machine has")
        table = PowerTable(steps)
        if table.capacity_w > table.cores * WATTS_PER_CORE_MAX or not 0 <= (idle_w or 0.0) <= IDLE_WATTS_MAX:
            raise ValueError("watts that no machine draws")
        return Calibration(table, None if idle_w is None else float(idle_w))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        problem = f"{path}: not a table of watts ({error}); run hearth calibrate again, or remove it"
        raise CalibrationError(problem) from error


def power_table(settings: HeaterSettings, path: Path | None) -> tuple[PowerTable, float | None]:
    """The measured table if there is one for these cores, and the idle machine's watts if a meter told them.

    Else cores times watts_per_core.

    Raises CalibrationError for a file that cannot be used.
    """
    linear = PowerTable.linear(settings.core_count, settings.watts_per_core)
    if path is None or not path.is_file():
        return linear, None
    found = load_calibration(path)
    table = found.table
    if table.cores != settings.core_count:
        raise CalibrationError(
            f"{path}: for {table.cores} cores, and heater.cores is {settings.core_count}; run hearth calibrate again"
        )
    return table, found.idle_w
