"""The one interface of all that is heated: `HeatSink`, a model and its state.

Controllers and simulators need nothing else: what is the temperature, what would this power do, how many watts hold
the setpoint, how much heat is wanted within the horizon, what must not be exceeded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..weather.conditions import Weather
from .course import Course
from .network import Circuit

# Pieces that a step may be cut into; a schedule changes by the hour, so this is a leap year of hours.
PIECES_MAX = 366 * 24 * 60


@dataclass(frozen=True, slots=True)
class Drive:
    """All that acts on a sink while nothing but its temperatures changes.

    boundaries_c: as the circuit's.  gains_w: into each node, not from the heater: sun, people, other plants.
    heater_shares: of the heater's power into each node, adding up to 1.  loads_w: taken from each node for use; empty
    if none is.
    """

    circuit: Circuit
    boundaries_c: Sequence[float]
    gains_w: Sequence[float]
    heater_shares: Sequence[float]
    loads_w: Sequence[float] = ()

    def inputs(self, power_w: float) -> list[float]:
        heat = [gain + share * power_w for gain, share in zip(self.gains_w, self.heater_shares, strict=True)]
        if self.loads_w:
            heat = [watts - load for watts, load in zip(heat, self.loads_w, strict=True)]
        return [*self.boundaries_c, *heat]


@dataclass(frozen=True, slots=True)
class State:
    """temperatures_c: of the nodes with a capacity.  memory: what a model keeps besides (the hours of a cycle)."""

    temperatures_c: tuple[float, ...]
    memory: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """power_max_w: most heat that the sink can take now.  min_c, max_c: never below (frost), never above."""

    power_max_w: float
    min_c: float
    max_c: float


@dataclass(frozen=True, slots=True)
class Flows:
    """Energy of a step, J: heater_j + gains_j = lost_j + delivered_j + stored_j, but for rounding.

    lost_j: to the surroundings, negative if they are warmer.  delivered_j: to those who use it: hot water, a network's
    customers.  moved_j: what the parts took up or gave, each counted.  mean_c: of the controlled temperature.
    """

    heater_j: float
    gains_j: float
    lost_j: float
    delivered_j: float
    stored_j: float
    moved_j: float
    mean_c: float

    @property
    def turnover_j(self) -> float:
        """All that moved, whichever way: what a balance's error is measured against."""
        flows = (self.heater_j, self.gains_j, self.lost_j, self.delivered_j, self.moved_j)
        return math.fsum(abs(flow) for flow in flows)

    @property
    def imbalance_j(self) -> float:
        return math.fsum((self.heater_j, self.gains_j, -self.lost_j, -self.delivered_j, -self.stored_j))


class SinkModel(Protocol):
    """The constants of a sink, and what its circuit is at a time. Models are immutable and may be shared."""

    @property
    def kind(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the temperatures: nodes with a capacity, then those without."""
        ...

    @property
    def controlled(self) -> int:
        """Which of the temperatures the setpoint is about."""
        ...

    @property
    def wants_heat(self) -> bool:
        """False where heat is only carried off."""
        ...

    def begin(self, temperature_c: float) -> State:
        """The state with the same temperature everywhere."""
        ...

    def drive(self, state: State, weather: Weather) -> Drive: ...

    def piece_s(self, state: State, weather: Weather) -> float:
        """For how long from now the drive stays as it is; > 0, infinity if it does."""
        ...

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        """The state after a piece of a step: what is not linear (mixing, counting) happens here."""
        ...

    def limits(self, state: State, weather: Weather) -> Limits: ...

    def target_c(self, setpoint_c: float, state: State, weather: Weather) -> float:
        """The setpoint that holds now: a heating curve or a disinfection may want another."""
        ...


@dataclass(frozen=True)
class LinearModel:
    """What is common to models whose circuit never changes: all rooms. Others override what they need."""

    wants_heat = True

    @property
    def controlled(self) -> int:
        return 0

    def piece_s(self, state: State, weather: Weather) -> float:
        return math.inf

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        return state

    def target_c(self, setpoint_c: float, state: State, weather: Weather) -> float:
        return setpoint_c


class HeatSink:
    """A sink in time. Powers in W, durations in s (>= 0), temperatures in °C.

    Equal calls give equal results, and one step of 2 h equals two of h while weather and power are constant.
    Only `step` changes the state.
    """

    def __init__(self, model: SinkModel, state: State | float) -> None:
        """state: or one temperature of all parts."""
        self.model = model
        self.state = state if isinstance(state, State) else model.begin(state)

    @property
    def kind(self) -> str:
        return self.model.kind

    def copy(self) -> HeatSink:
        """For a look ahead; states are immutable, so it costs nothing."""
        return HeatSink(self.model, self.state)

    def temperature_c(self, weather: Weather, power_w: float = 0.0) -> float:
        """The controlled temperature. Air without a capacity of its own follows weather and power at once."""
        return self._temperatures(weather, power_w)[self.model.controlled]

    def temperatures_c(self, weather: Weather, power_w: float = 0.0) -> Mapping[str, float]:
        """All temperatures by name."""
        return dict(zip(self.model.names, self._temperatures(weather, power_w), strict=True))

    def limits(self, weather: Weather) -> Limits:
        return self.model.limits(self.state, weather)

    def target_c(self, setpoint_c: float, weather: Weather) -> float:
        return self.model.target_c(setpoint_c, self.state, weather)

    def step(self, power_w: float, weather: Weather, duration_s: float) -> Flows:
        """Let time pass. Raises ValueError for a power or duration that is none."""
        heater_j = gains_j = lost_j = delivered_j = stored_j = moved_j = mean_c_s = 0.0
        for piece in self._pieces(power_w, weather, duration_s):
            done = piece.drive.circuit.step(piece.before.temperatures_c, piece.inputs, piece.duration_s)
            heater_j += power_w * piece.duration_s
            gains_j += math.fsum(piece.drive.gains_w) * piece.duration_s
            lost_j += done.lost_j
            delivered_j += done.delivered_j + math.fsum(piece.drive.loads_w) * piece.duration_s
            stored_j += done.stored_j
            moved_j += done.moved_j
            mean_c_s += done.means_c[self.model.controlled] * piece.duration_s
            self.state = piece.after
        mean_c = mean_c_s / duration_s if duration_s > 0 else self.temperature_c(weather, power_w)
        return Flows(heater_j, gains_j, lost_j, delivered_j, stored_j, moved_j, mean_c)

    def hold_w(self, setpoint_c: float, weather: Weather) -> float:
        """The power that keeps the controlled temperature at the setpoint for ever in this weather; maybe negative.

        0 for a sink that loses nothing, or wants none.
        """
        if not self.model.wants_heat:
            return 0.0
        drive = self.model.drive(self.state, weather)
        try:
            without_c, with_1_kw_c = (
                _controlled(drive, self.model.controlled, drive.circuit.steady(drive.inputs(power_w)), power_w)
                for power_w in (0.0, 1000.0)
            )
            return 1000.0 * (setpoint_c - without_c) / (with_1_kw_c - without_c)
        except ZeroDivisionError:
            return 0.0

    def wanted_j(self, setpoint_c: float, weather: Weather, horizon_s: float, power_max_w: float = math.inf) -> float:
        """Heat wanted within the horizon: by a constant power that ends it at the setpoint, from 0 to the most.

        power_max_w: of the heater; the sink's own limit holds as well.
        """
        at_once_w = min(power_max_w, self.limits(weather).power_max_w)
        trial_w = at_once_w if math.isfinite(at_once_w) else 1000.0
        if horizon_s <= 0 or trial_w <= 0 or not self.model.wants_heat:
            return 0.0
        without_c, with_c = (self._after_c(power_w, weather, horizon_s) for power_w in (0.0, trial_w))
        if with_c <= without_c:
            return 0.0
        wanted_w = trial_w * (setpoint_c - without_c) / (with_c - without_c)
        return max(0.0, min(wanted_w, at_once_w)) * horizon_s

    def seconds_to(self, target_c: float, power_w: float, weather: Weather, within_s: float) -> float:
        """Time until the controlled temperature is target_c: 0 if it is now, infinity if not within the time."""
        passed_s = 0.0
        for course in self._courses(power_w, weather, within_s):
            found_s = course.seconds_to(target_c)
            if found_s <= course.duration_s:
                return passed_s + found_s
            passed_s += course.duration_s
        return math.inf

    def seconds_below(self, limit_c: float, power_w: float, weather: Weather, duration_s: float) -> float:
        """How long of a step to come the controlled temperature is at most limit_c."""
        return math.fsum(course.seconds_below(limit_c) for course in self._courses(power_w, weather, duration_s))

    def discomfort_k_s(self, setpoint_c: float, power_w: float, weather: Weather, duration_s: float) -> float:
        """Integral of max(0, setpoint - T) over a step to come, in kelvin seconds (3,600 are one K·h)."""
        return math.fsum(course.discomfort_k_s(setpoint_c) for course in self._courses(power_w, weather, duration_s))

    def _after_c(self, power_w: float, weather: Weather, duration_s: float) -> float:
        sink = self.copy()
        for piece in self._pieces(power_w, weather, duration_s):
            sink.state = piece.after
        return sink.temperature_c(weather.later(duration_s), power_w)

    def _temperatures(self, weather: Weather, power_w: float) -> Sequence[float]:
        x = self.state.temperatures_c
        if len(x) == len(self.model.names):
            return x
        drive = self.model.drive(self.state, weather)
        return [*x, *drive.circuit.massless(x, drive.inputs(power_w))]

    def _courses(self, power_w: float, weather: Weather, duration_s: float) -> Iterator[Course]:
        for piece in self._pieces(power_w, weather, duration_s):
            circuit, controlled = piece.drive.circuit, self.model.controlled
            yield from Course.over(circuit, controlled, piece.before.temperatures_c, piece.inputs, piece.duration_s)

    def _pieces(self, power_w: float, weather: Weather, duration_s: float) -> Iterator[_Piece]:
        if not (math.isfinite(power_w) and 0 <= duration_s < math.inf):
            raise ValueError(f"no power or no duration: {power_w} W for {duration_s} s")
        state, left_s = self.state, duration_s
        for _ in range(PIECES_MAX):
            if left_s <= 0:
                return
            drive = self.model.drive(state, weather)
            piece_s = min(left_s, self.model.piece_s(state, weather))
            inputs = drive.inputs(power_w)
            rises = drive.circuit.rises(state.temperatures_c, inputs, piece_s)
            risen = tuple(value + rise for value, rise in zip(state.temperatures_c, rises, strict=True))
            after = self.model.settled(State(risen, state.memory), weather, piece_s)
            yield _Piece(drive, inputs, state, after, piece_s)
            state, left_s, weather = after, left_s - piece_s, weather.later(piece_s)
        raise ValueError(f"a step of {duration_s} s is too long for a sink of kind {self.kind}")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a step under one drive."""

    drive: Drive
    inputs: list[float]
    before: State
    after: State
    duration_s: float


def _controlled(drive: Drive, index: int, x: Sequence[float], power_w: float) -> float:
    if index < len(x):
        return x[index]
    return drive.circuit.massless(x, drive.inputs(power_w))[index - len(x)]
