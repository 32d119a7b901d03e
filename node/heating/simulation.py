"""From an owner's settings to a simulated sink and the weather it sees."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config import HeaterSettings
from .sinks.datacentre import DataCentre
from .sinks.room import Room1R1C
from .sinks.sink import HeatSink, SinkModel
from .weather.conditions import Weather
from .weather.files import read_weather
from .weather.generator import CLIMATES, generate_year
from .weather.year import YEAR_S


def model_of(settings: HeaterSettings) -> SinkModel:
    model, room = settings.model, settings.room
    sun = model.sun
    makers: dict[str, Callable[[], SinkModel]] = {
        "room-1r1c": lambda: Room1R1C(
            room.conductance_w_per_k, room.capacity_j_per_k, gains_w=sun.gains_w, envelope=sun.envelope()
        ),
        "room-2r2c": lambda: model.room_2r2c.model(sun),
        "room-5r1c": lambda: model.room_5r1c.model(sun),
        "room-vdi6007": lambda: model.room_vdi6007.model(sun),
        "tank": lambda: model.tank.model(layered=False),
        "tank-layers": lambda: model.tank.model(layered=True),
        "pool": model.pool.model,
        "boiler-rack": lambda: model.loop.rack(sun),
        "district": model.loop.district,
        "data-centre": DataCentre,
    }
    return makers[model.kind]()


def sink_of(settings: HeaterSettings) -> HeatSink:
    """All of it at the configured start."""
    return HeatSink(model_of(settings), settings.room.start_c)


def weather_of(settings: HeaterSettings) -> Callable[[float], Weather]:
    """Weather by the seconds since January 1st, local standard time. Raises WeatherError for a file that is none."""
    table, outside_c = settings.weather, settings.room.outside_c
    if table.file is None and table.climate is None:
        return lambda time_s: Weather(outside_c, time_s=time_s % YEAR_S)
    year = read_weather(table.file) if table.file else generate_year(CLIMATES[table.climate or ""], table.seed)
    return lambda time_s: year.at(time_s % YEAR_S)


def second_of_year(wall_s: float, utc_offset_s: float) -> float:
    """Since January 1st of a local time; December 31st of a leap year is the 30th again, for years have 365 days."""
    local = time.gmtime(wall_s + utc_offset_s)
    day = min(local.tm_yday, 365) - 1
    return day * 86_400.0 + (wall_s + utc_offset_s) % 86_400.0
