"""Water that a machine heats, by its physics: a boiler's tank, a pool. Slow, steady, and wanting heat all year."""

from __future__ import annotations

import math

from msgspec.structs import replace

from ...node.heating.foretell import Foretold, foretell, full_above_k
from ...node.heating.sinks.pool import Pool
from ...node.heating.sinks.sink import HeatSink, SinkModel
from ...node.heating.sinks.tank import MixedTank
from ...node.heating.sinks.water import Draws
from ...node.heating.weather.conditions import Weather
from ...protocol.events import HeatReading
from .proportional import Controller, ControlSettings

HORIZON_S = 900.0
WATTS_PER_SLOT = 150.0
# A forecast holds until the temperature has moved so far.
FORECAST_K = 0.02


class Basin:
    """As `sinks.Sink`, for water. kind: "tank" or "pool".  speed: its clock against the wall's."""

    def __init__(self, kind: str, slots: int, *, speed: float) -> None:
        capacity_w = slots * WATTS_PER_SLOT
        self.kind = kind
        self.watts_per_slot = WATTS_PER_SLOT
        self.forced_warm = False
        # So large that full power makes up for what is drawn, or evaporates.
        model: SinkModel
        if kind == "tank":
            # Its water is used up and warmed anew each day, by 45 K, with three quarters of the power.
            litres = 0.75 * capacity_w * 86_400 / (45.0 * 4186.0)
            model = MixedTank(litres=max(100.0, litres), loss_w_per_k=2.5, draws=Draws(litres_per_day=litres))
        else:
            model = Pool(surface_m2=max(2.0, capacity_w / 200.0))
        setpoint_c = 55.0 if kind == "tank" else 27.0
        self.setpoint_c, self.limit_c = setpoint_c, setpoint_c + 1.0
        self._weather = Weather(10.0)
        self._sink = HeatSink(model, setpoint_c - 1.5)
        self._speed, self._capacity_w, self._slots = speed, capacity_w, slots
        self._controller = Controller(
            ControlSettings(setpoint_c, 1.0, capacity_w, slots=slots, watts_per_slot=WATTS_PER_SLOT)
        )
        self._demand = self._controller.update(self.temperature_c)
        self._known: tuple[float, Foretold] = (math.inf, Foretold())

    @property
    def temperature_c(self) -> float:
        return self._sink.temperature_c(self._weather)

    @property
    def outside_c(self) -> float:
        return self._weather.outside_c

    @property
    def duty(self) -> float:
        return self._demand.duty

    @property
    def useful(self) -> bool:
        return not self.forced_warm and self.temperature_c <= self.limit_c

    def step(self, duration_us: int, load_w: float) -> HeatReading:
        """The reading after a time at this load."""
        duration_s = duration_us / 1e6 * self._speed
        self._sink.step(load_w, self._weather, duration_s)
        self._weather = self._weather.later(duration_s)
        self._demand = self._controller.update(self.temperature_c)
        return self.reading()

    def reading(self) -> HeatReading:
        demand, temperature_c, foretold = self._demand, self.temperature_c, self._foretold()
        reading = HeatReading(
            deficit_w=demand.deficit_w,
            capacity_w=self._capacity_w,
            slots=demand.slots,
            horizon_wh=foretold.wanted_wh if demand.deficit_w > 0 else 0.0,
            watts_per_slot=WATTS_PER_SLOT,
            useful=self.useful,
            sink=self.kind,
            temperature_c=temperature_c,
            buffer_wh=foretold.buffer_wh,
            hold_w=foretold.hold_w,
            discomfort_kh=foretold.discomfort_kh,
            reason="" if demand.slots else f"too warm: {temperature_c:.1f} of {self.setpoint_c:.1f} °C",
        )
        if self.forced_warm:
            return replace(reading, deficit_w=-self._capacity_w, slots=0, horizon_wh=0.0, useful=False, buffer_wh=0.0)
        return reading

    def _foretold(self) -> Foretold:
        if abs(self._known[0] - self.temperature_c) > FORECAST_K:
            foretold = foretell(
                self._sink,
                self._weather,
                setpoint_c=self.setpoint_c,
                full_c=self.setpoint_c + full_above_k(self.limit_c - self.setpoint_c),
                capacity_w=self._capacity_w,
                idle_w=0.0,
                horizon_s=HORIZON_S,
                time_scale=self._speed,
            )
            self._known = (self.temperature_c, foretold)
        return self._known[1]
