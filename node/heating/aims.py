"""At which temperature a machine's water has to be: by a heating curve, or for the day's disinfection.

A simulated sink knows this of itself (`sinks`); of a real one its sensors tell.
"""

from __future__ import annotations

from .sink_settings import ModelTable

# Between two readings that lie further apart nobody knows how hot it was.
GAP_MAX_S = 300.0
TANKS = ("tank", "tank-layers")


class Aims:
    """Of a machine whose `[heater.model]` says that its sensor is in a rack's supply, or in a tank.

    After a start the disinfection is due, since nobody knows when it was last done.
    """

    def __init__(self, model: ModelTable) -> None:
        self._rack = model.loop.rack(model.sun) if model.kind == "boiler-rack" else None
        self._disinfection = model.tank.disinfection if model.kind in TANKS else None
        self._memory = self._disinfection.begin() if self._disinfection is not None else ()
        self._outside_c: float | None = None
        self._last_s: float | None = None

    @property
    def since_disinfection_s(self) -> float | None:
        """None where none is wanted."""
        return self._memory[0] if self._memory else None

    def see(self, now_s: float, coldest_c: float | None, outside_c: float | None) -> None:
        """coldest_c: the least of what the tank's sensors show.  outside_c: None as well where nothing tells."""
        self._outside_c = outside_c
        passed_s, self._last_s = now_s - (now_s if self._last_s is None else self._last_s), now_s
        if self._disinfection is None:
            return
        age_s, held_s, was_hot = self._memory
        is_hot = coldest_c is not None and coldest_c >= self._disinfection.level_c
        held_s = held_s + passed_s if was_hot and is_hot and passed_s <= GAP_MAX_S else 0.0
        done = held_s >= self._disinfection.hold_s
        self._memory = (0.0, 0.0, 1.0) if done else (min(age_s + passed_s, 1e9), held_s, float(is_hot))

    def aim_c(self, setpoint_c: float) -> float:
        """For a setpoint. Without a sensor outside a rack's supply is as hot as on the coldest day that it is for."""
        if self._rack is not None:
            curve = self._rack.curve
            outside_c = setpoint_c - curve.design_k if self._outside_c is None else self._outside_c
            return min(curve.flow_c(setpoint_c, outside_c), self._rack.loop.supply_max_c)
        if self._disinfection is not None:
            return self._disinfection.target_c(setpoint_c, self._memory)
        return setpoint_c


class ReturnWatch:
    """Whether a loop's return is so warm that it takes no heat; with a kelvin between no and yes again."""

    HYSTERESIS_K = 1.0

    def __init__(self, most_c: float) -> None:
        self._most_c = most_c
        self.full = False

    def see(self, return_c: float | None) -> None:
        """None: nobody knows, so none is given."""
        least_c = self._most_c - (self.HYSTERESIS_K if self.full else 0.0)
        self.full = return_c is None or return_c >= least_c
