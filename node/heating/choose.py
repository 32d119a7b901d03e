"""The heater that a config asks for."""

from __future__ import annotations

import time

from ..config import HeaterSettings
from .heater import Heater, NoHeater
from .simulated import LocalTime, SimulatedHeater


def heater_of(settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> Heater:
    """Its time begins now; a simulated sink's clock begins with the machine's."""
    if settings.kind == "simulated":
        return SimulatedHeater(settings, now_us, cpu_us_total, local=local_time())
    return NoHeater(settings, now_us, cpu_us_total)


def local_time() -> LocalTime:
    """As the machine's clock and time zone say."""
    now_s = time.time()
    return LocalTime(now_s, float(time.localtime(now_s).tm_gmtoff))
