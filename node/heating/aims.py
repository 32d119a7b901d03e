"""At which temperature a machine's water has to be: by a heating curve, or for the day's disinfection.

A simulated sink knows this of itself (`sinks`); of a real one its sensors tell.
"""

from __future__ import annotations

from collections.abc import Callable

from .control.identify import Estimate
from .control.sensor import Heating, Sample, SensorSettings, SensorSupervisor
from .disinfected import Disinfected
from .sink_settings import ModelTable

# Between two readings that lie further apart nobody knows how hot it was.
GAP_MAX_S = 300.0
# Of water in a loop; what sensors show that are broken (-127 °C, 0 °C) is none.
WATER_LOWEST_C, WATER_HIGHEST_C = 1.0, 120.0
# No power is known to move a return by so much.
_UNMOVED = Heating(0.0, Estimate(1.0, 1.0, 0.0, 0.0))


def hottest_c(model: ModelTable) -> float | None:
    """At which temperature water of this kind may have to be, whatever its setpoint; None if at none."""
    if model.kind == "boiler-rack":
        return model.loop.supply_max_c
    return None if model.disinfection is None else model.disinfection.target_most_c


class Aims:
    """Of a machine whose `[heater.model]` says that its sensor is in a rack's supply, or in a tank.

    After a start the disinfection is due, since the clock on the wall may be wrong about when it was last done.
    """

    def __init__(self, model: ModelTable, plain_c: float, begin_s: float) -> None:
        """plain_c: the owner's setpoint, from which the coldest day counts.  begin_s: as `see` has it."""
        self._plain_c = plain_c
        self._rack = model.loop.rack(model.sun) if model.kind == "boiler-rack" else None
        self._disinfection = model.disinfection
        self._memory = self._disinfection.begin() if self._disinfection is not None else ()
        # As far as is known over restarts; what is due goes by this life's memory alone.
        self._ago_s, self._known, self._done = 0.0, False, False
        self._outside_c: float | None = None
        self._last_s = begin_s

    @property
    def curve(self) -> Callable[[float], float] | None:
        """Of what `aim_c` does, what lasts; None where nothing does."""
        return self.aim_c if self._rack is not None else None

    @property
    def disinfected(self) -> Disinfected | None:
        """None where nothing is disinfected."""
        if self._disinfection is None:
            return None
        return Disinfected(self._ago_s, self._known, self._disinfection.is_due(self._memory))

    def problems(self, *, off: bool) -> tuple[str, ...]:
        """off: the owner switched the heater off."""
        if self._disinfection is None or self.disinfected is None:
            return ()
        return self.disinfected.problems(self._disinfection.every_s, off=off)

    def recall(self, ago_s: float, *, known: bool) -> None:
        """What an earlier life knew, as old as it is now; unless this one has seen a disinfection meanwhile."""
        if not self._done:
            self._ago_s, self._known = ago_s, known

    def see(self, now_s: float, coldest_c: float | None, outside_c: float | None) -> None:
        """now_s: of a clock that counts sleep.

        coldest_c: the least of what the tank's sensors show.  outside_c: None as well where nothing tells.
        """
        self._outside_c = outside_c
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        if self._disinfection is None:
            return
        age_s, held_s, was_hot = self._memory
        is_hot = coldest_c is not None and coldest_c >= self._disinfection.level_c
        held_s = held_s + passed_s if was_hot and is_hot and passed_s <= GAP_MAX_S else 0.0
        done = held_s >= self._disinfection.hold_s
        self._memory = (0.0, 0.0, 1.0) if done else (min(age_s + passed_s, 1e9), held_s, float(is_hot))
        self._ago_s = 0.0 if done else min(self._ago_s + passed_s, 1e9)
        self._known, self._done = self._known or done, self._done or done

    def aim_c(self, setpoint_c: float) -> float:
        """For a setpoint. Without a sensor outside a rack's supply is as hot as on the coldest day that it is for."""
        if self._rack is not None:
            curve = self._rack.curve
            outside_c = self._plain_c - curve.design_k if self._outside_c is None else self._outside_c
            return min(curve.flow_c(setpoint_c, outside_c), self._rack.loop.supply_max_c)
        if self._disinfection is not None:
            return self._disinfection.target_c(setpoint_c, self._memory)
        return setpoint_c


class ReturnWatch:
    """Whether a loop's return is so warm that it takes no heat; with a kelvin between no and yes again.

    Full before its sensor has spoken, and while that is lost, implausible or frozen: nobody knows, so none is given.
    """

    HYSTERESIS_K = 1.0

    def __init__(self, sensor: SensorSettings, most_c: float) -> None:
        self._supervisor = SensorSupervisor(
            SensorSettings(
                low_c=WATER_LOWEST_C,
                high_c=WATER_HIGHEST_C,
                rate_k_per_s=1e9,
                lost_s=sensor.lost_s,
                frozen_s=sensor.frozen_s,
                frozen_k=0.0,
                recover_s=sensor.recover_s,
                open_loop_s=sensor.open_loop_s,
            )
        )
        self._most_c = most_c
        self.full = True
        self.problems: tuple[str, ...] = ()

    def see(self, sample: Sample | None, now_s: float) -> None:
        found = self._supervisor.update((sample,), now_s, _UNMOVED)
        least_c = self._most_c - (self.HYSTERESIS_K if self.full else 0.0)
        self.full = found.temperature_c is None or found.temperature_c >= least_c
        named = [alarm.replace("sensor 1", "the return's sensor") for alarm in found.alarms]
        self.problems = tuple(f"{alarm}: no heat is given" for alarm in named)
