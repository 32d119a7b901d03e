"""The town's sinks in time: rooms step by step and all at once, slow water in steps of minutes.

What goes into slow water is added up meanwhile, so no joule is lost by that; its temperature moves by hundredths of a
kelvin in such a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...node.heating.sinks.fleet import Fleet, is_steady
from ...node.heating.weather.conditions import Weather
from ...node.heating.weather.year import HOUR_S, WeatherYear
from .town import Floats, Town

# A pool or a tank is stepped so seldom.
SLOW_S = 300.0


@dataclass
class Account:
    """Joules since the begin: heat + gains = lost + delivered + stored.  turnover: all that moved, for the error."""

    heat: float = 0.0
    gains: float = 0.0
    lost: float = 0.0
    delivered: float = 0.0
    stored: float = 0.0
    turnover: float = 0.0

    @property
    def error(self) -> float:
        """Of the balance, as a share of what moved."""
        off = self.heat + self.gains - self.lost - self.delivered - self.stored
        return abs(off) / max(1.0, self.turnover)


class Physics:
    """A copy of the town's sinks. begin_s: since January 1st; step_s divides an hour."""

    def __init__(self, town: Town, year: WeatherYear, begin_s: float, step_s: float) -> None:
        self.step_s = step_s
        self.now_s = begin_s
        self.account = Account()
        self._year = year
        self._town = town
        self._quick = np.array([i for i, sink in enumerate(town.sinks) if is_steady(sink)], dtype=np.intp)
        self._slow = [i for i, sink in enumerate(town.sinks) if not is_steady(sink)]
        self._sinks = {i: town.sinks[i].copy() for i in self._slow}
        self._fleet = Fleet([town.sinks[i] for i in self._quick])
        self._every = max(1, round(SLOW_S / step_s))
        self._steps = 0
        self._pending_j = np.zeros(len(town))
        self._powers_w = np.zeros(len(town))
        self._wanted_j = np.zeros(len(town))
        self._wanted_for: tuple[int, float] | None = None
        self._holds: dict[bool, tuple[Weather, Floats, Floats]] = {}
        self._day: dict[int, tuple[Floats, Floats]] = {}
        self._later: tuple[tuple[int, float, int], Floats] | None = None
        self.temperature_c = np.zeros(len(town))
        self._feel()

    @property
    def weather(self) -> Weather:
        """The hour's; the same object all through it."""
        return self._year.hour(int(self.now_s // HOUR_S) % 8760)

    def step(self, powers_w: Floats) -> Floats:
        """Let a step pass; the mean controlled temperatures of it."""
        weather = self.weather
        mean_c = self.temperature_c.copy()
        if len(self._quick):
            flows = self._fleet.step(powers_w[self._quick], [weather], self.step_s)
            mean_c[self._quick] = flows.mean_c
            heat_j = float(powers_w[self._quick].sum()) * self.step_s
            parts = [float(each.sum()) for each in (flows.gains_j, flows.lost_j, flows.delivered_j, flows.stored_j)]
            self._book(heat_j, *parts)
        self._pending_j += powers_w * self.step_s
        self._powers_w = powers_w
        self._steps += 1
        self.now_s += self.step_s
        if self._steps % self._every == 0:
            self.flush()
        self._feel()
        return mean_c

    def flush(self) -> None:
        """Step what is slow up to now."""
        late_s = ((self._steps - 1) % self._every + 1) * self.step_s
        begin_s = self.now_s - late_s
        for index in self._slow:
            # By the hour that it begins in: SLOW_S divides it.
            weather = self._year.at(begin_s)
            done = self._sinks[index].step(float(self._pending_j[index]) / late_s, weather, late_s)
            self._book(done.heater_j, done.gains_j, done.lost_j, done.delivered_j, done.stored_j)
        self._pending_j[:] = 0.0

    def target_c(self) -> Floats:
        """What each sink is kept at."""
        return self._town.setpoint_c

    def wanted_w(self, horizon_s: float) -> Floats:
        """Power that ends the horizon at the target, from 0 to what heater and sink take; renewed with slow water."""
        period = self._steps // self._every
        if self._wanted_for != (period, horizon_s):
            self._wanted_for = (period, horizon_s)
            most_w, target_c = self._town.capacity_w, self.target_c()
            quick = self._quick
            if len(quick):
                found_j = self._fleet.wanted_j(target_c[quick], [self.weather], horizon_s, most_w[quick])
                self._wanted_j[quick] = found_j
            for index in self._slow:
                sink, weather = self._sinks[index], self._year.at(self.now_s)
                self._wanted_j[index] = sink.wanted_j(float(target_c[index]), weather, horizon_s, float(most_w[index]))
        return self._wanted_j / horizon_s

    def hold_w(self, above_k: float = 0.0, *, sun: bool) -> Floats:
        """What keeps the target, and so many kelvin above it, for ever in this weather.

        sun: counted. Of slow water only with it: what it loses a node learns by its integral alone.
        """
        at_zero_w, per_k_w = self._holding(sun)
        found = at_zero_w + per_k_w * (self._town.setpoint_c + above_k)
        if sun:
            weather = self._year.at(self.now_s)
            for index in self._slow:
                found[index] = self._sinks[index].hold_w(float(self._town.setpoint_c[index]) + above_k, weather)
        return found

    def later_w(self, above_k: float, hours: int) -> Floats:
        """What holds so many kelvin above the target in each of the hours to come, as it did a day before; slow water
        as now. One row an hour, the one that it is first; not to be changed."""
        first = int(self.now_s // HOUR_S)
        if self._later is None or self._later[0] != (first, above_k, hours):
            now_w = self.hold_w(above_k, sun=True)
            targets_c = self._town.setpoint_c + above_k
            rows = [now_w]
            for hour in range(first + 1 - 24, first + hours - 24):
                at_zero_w, per_k_w = self._lines(hour % 8760)
                rows.append(np.maximum(0.0, at_zero_w + per_k_w * targets_c))
                rows[-1][self._slow] = now_w[self._slow]
            self._later = ((first, above_k, hours), np.array(rows))
        return self._later[1]

    def _holding(self, sun: bool) -> tuple[Floats, Floats]:
        """Of quick sinks, what holds 0 °C, and what each kelvin more takes; once an hour and model."""
        known = self._holds.get(sun)
        if known is not None and known[0] is self.weather:
            return known[1], known[2]
        at_zero_w, per_k_w = (
            self._lines(int(self.now_s // HOUR_S) % 8760) if sun else self._lines_of(_without_sun(self.weather))
        )
        self._holds[sun] = (self.weather, at_zero_w, per_k_w)
        return at_zero_w, per_k_w

    def _lines(self, hour: int) -> tuple[Floats, Floats]:
        """As `_lines_of`, in an hour of the year; the last days' are kept."""
        known = self._day.get(hour)
        if known is None:
            known = self._day[hour] = self._lines_of(self._year.hour(hour))
            while len(self._day) > 2 * 24:
                del self._day[next(iter(self._day))]
        return known

    def _lines_of(self, weather: Weather) -> tuple[Floats, Floats]:
        """Of quick sinks in a weather, what holds 0 °C, and what each kelvin more takes."""
        by_model: dict[int, tuple[float, float]] = {}
        at_zero_w, per_k_w = np.zeros(len(self._town)), np.zeros(len(self._town))
        for index in self._quick:
            sink = self._town.sinks[index]
            if id(sink.model) not in by_model:
                none_w = sink.hold_w(0.0, weather)
                by_model[id(sink.model)] = (none_w, sink.hold_w(1.0, weather) - none_w)
            at_zero_w[index], per_k_w[index] = by_model[id(sink.model)]
        return at_zero_w, per_k_w

    def without_c(self, horizon_s: float) -> Floats:
        """Temperatures after a time without heat; slow water as it is."""
        found = self.temperature_c.copy()
        quick = self._quick
        if len(quick):
            found[quick] = self._fleet.after_c([self.weather], np.zeros(len(quick)), horizon_s)
        return found

    def heat_capacity_j_per_k(self, span_s: float) -> Floats:
        """What a kelvin costs within a time: air at once, walls with the hours; infinity for a data centre."""
        found = np.full(len(self._town), np.inf)
        most_w = self._town.capacity_w
        quick = self._quick
        if len(quick):
            without_c = self._fleet.after_c([self.weather], np.zeros(len(quick)), span_s)
            risen_k = self._fleet.after_c([self.weather], most_w[quick], span_s) - without_c
            found[quick] = np.divide(
                most_w[quick] * span_s, risen_k, out=np.full_like(risen_k, np.inf), where=risen_k > 0
            )
        for index in self._slow:
            circuit = self._sinks[index].model.drive(self._sinks[index].state, self._year.at(self.now_s)).circuit
            found[index] = circuit.capacities_j_per_k[0]
        return found

    def _feel(self) -> None:
        quick = self._quick
        if len(quick):
            self.temperature_c[quick] = self._fleet.temperatures_c([self.weather], self._powers_w[quick])
        for index in self._slow:
            self.temperature_c[index] = self._sinks[index].state.temperatures_c[0]

    def _book(self, heat_j: float, gains_j: float, lost_j: float, delivered_j: float, stored_j: float) -> None:
        account = self.account
        account.heat += heat_j
        account.gains += gains_j
        account.lost += lost_j
        account.delivered += delivered_j
        account.stored += stored_j
        account.turnover += sum(abs(each) for each in (heat_j, gains_j, lost_j, delivered_j, stored_j))


def _without_sun(weather: Weather) -> Weather:
    return replace(weather, global_w_m2=0.0, beam_w_m2=0.0, diffuse_w_m2=0.0, sky_c=None)
