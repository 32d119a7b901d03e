"""The heater's own surface: how hot it is, and how much power may flow while that is not known."""

from __future__ import annotations

import math

from .identify import Estimate
from .limits import Limit
from .sensor import Heating, HotWatch, Sample, SensorSettings, SensorSupervisor, Trust

# A surface gets at least so much warmer at full power, and most of that within an hour.
RISE_K = 10.0
SETTLES_S = 3600.0
LOWEST_C, HIGHEST_C = -50.0, 200.0


def surface_settings(sensor: SensorSettings) -> SensorSettings:
    """As the owner has it for the sink's sensor. A surface may jump, and one of a heater at rest may stand still."""
    return SensorSettings(
        low_c=LOWEST_C,
        high_c=HIGHEST_C,
        rate_k_per_s=math.inf,
        lost_s=sensor.lost_s,
        frozen_s=0.0,
        frozen_k=2.0 if sensor.frozen_k > 0 else 0.0,
        recover_s=sensor.recover_s,
        open_loop_s=sensor.open_loop_s,
    )


class SurfaceWatch:
    """One sensor, for which there is no second: without it a bounded power for a while, and then none."""

    def __init__(self, settings: SensorSettings, capacity_w: float, hot_c: float, blind_w: float) -> None:
        """hot_c: readings above it count whatever else is wrong with the sensor.  blind_w: the bounded power."""
        chosen = surface_settings(settings)
        self._supervisor = SensorSupervisor(chosen)
        self._hot = HotWatch(chosen, hot_c)
        self._blind_w = blind_w
        self._surface = Estimate(RISE_K / capacity_w, capacity_w * SETTLES_S / RISE_K, 0.0, 0.0)
        self.temperature_c: float | None = None
        self.alarms: tuple[str, ...] = ()
        self._trust = Trust.OFF

    def update(self, sample: Sample | None, now_s: float, power_w: float) -> float | None:
        """What may be believed of the surface, or readings that are too hot, believed or not."""
        found = self._supervisor.update((sample,), now_s, Heating(power_w, self._surface))
        self._trust, self.temperature_c = found.trust, found.temperature_c
        self.alarms = tuple(alarm.replace("sensor 1", "the surface's sensor") for alarm in found.alarms)
        return self._hot.update((sample,), now_s, found.temperature_c)

    @property
    def most_w(self) -> float:
        """Infinite while the surface is known."""
        if self.temperature_c is not None:
            return math.inf
        return self._blind_w if self._trust is Trust.OPEN_LOOP else 0.0

    def bounded(self, limit: Limit) -> Limit:
        """That limit, or the lower one of a surface that is not known."""
        most_w = self.most_w
        return limit if limit.limit_w <= most_w else Limit(most_w, "nothing tells how hot the surface is")
