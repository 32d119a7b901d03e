"""Many sinks at once, with NumPy: for simulators. A real node has one sink and never imports this.

Sinks whose circuit never changes (all rooms, the boiler rack, the data centre) are stepped together: those with equally
many capacities form a group whose matrices are stacked. The others (tanks, pools, district loops) change their circuit
with draws, hours and mixing, and are stepped one by one by `HeatSink`. The answers are those of `HeatSink` but for
rounding.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..weather.conditions import Weather
from .exponential import step_integrals
from .sink import HeatSink, LinearModel

Floats = NDArray[np.float64]
# Steps of how many different lengths a group remembers the matrices for.
LENGTHS_MAX = 4


@dataclass(frozen=True, slots=True)
class FleetFlows:
    """Of a step, one entry a sink, J and °C: as in `Flows`."""

    gains_j: Floats
    lost_j: Floats
    delivered_j: Floats
    stored_j: Floats
    mean_c: Floats


class Fleet:
    """Sinks in their order; each sees the weather of its site.

    sites: of each sink, its place in the list of weathers that `step` is given; all 0 by default.
    """

    def __init__(self, sinks: Sequence[HeatSink], sites: Sequence[int] | None = None) -> None:
        self._sites = np.zeros(len(sinks), dtype=np.intp) if sites is None else np.asarray(sites, dtype=np.intp)
        if self._sites.shape != (len(sinks),):
            raise ValueError(f"{len(self._sites)} sites for {len(sinks)} sinks")
        by_size: dict[tuple[int, int], list[int]] = {}
        self._singles: dict[int, HeatSink] = {}
        for index, sink in enumerate(sinks):
            if is_steady(sink):
                drive = sink.model.drive(sink.state, Weather(0.0))
                by_size.setdefault((len(sink.state.temperatures_c), len(drive.gains_w)), []).append(index)
            else:
                self._singles[index] = sink.copy()
        self._groups = [_Group(indices, [sinks[i] for i in indices]) for indices in by_size.values()]
        self._count = len(sinks)

    def __len__(self) -> int:
        return self._count

    @property
    def stacked(self) -> int:
        """How many are stepped together."""
        return self._count - len(self._singles)

    def temperatures_c(self, weathers: Sequence[Weather], powers_w: Floats) -> Floats:
        """The controlled ones, in the order of the sinks."""
        found = np.empty(self._count)
        for group in self._groups:
            found[group.indices] = group.controlled_c(group.inputs(weathers, self._sites, powers_w))
        for index, sink in self._singles.items():
            found[index] = sink.temperature_c(weathers[self._sites[index]], float(powers_w[index]))
        return found

    def wanted_j(
        self, targets_c: Floats, weathers: Sequence[Weather], horizon_s: float, powers_max_w: Floats
    ) -> Floats:
        """Heat of the constant power that ends the horizon at the target, from 0 to the most; 0 where none is wanted.

        powers_max_w: finite, >= 0.
        """
        found = np.zeros(self._count)
        for group in self._groups:
            without_c = group.after_c(group.inputs(weathers, self._sites, np.zeros(self._count)), horizon_s)
            with_c = group.after_c(group.inputs(weathers, self._sites, powers_max_w), horizon_s)
            most_w, rise_k = powers_max_w[group.indices], with_c - without_c
            share = np.divide(targets_c[group.indices] - without_c, rise_k, out=np.zeros_like(rise_k), where=rise_k > 0)
            found[group.indices] = np.clip(share, 0.0, 1.0) * most_w * group.wants * horizon_s
        for index, sink in self._singles.items():
            weather = weathers[self._sites[index]]
            found[index] = sink.wanted_j(float(targets_c[index]), weather, horizon_s, float(powers_max_w[index]))
        return found

    def after_c(self, weathers: Sequence[Weather], powers_w: Floats, duration_s: float) -> Floats:
        """The controlled temperatures after a step to come; nothing changes."""
        found = np.empty(self._count)
        for group in self._groups:
            found[group.indices] = group.after_c(group.inputs(weathers, self._sites, powers_w), duration_s)
        for index, single in self._singles.items():
            sink, weather = single.copy(), weathers[self._sites[index]]
            sink.step(float(powers_w[index]), weather, duration_s)
            found[index] = sink.temperature_c(weather.later(duration_s), float(powers_w[index]))
        return found

    def step(self, powers_w: Floats, weathers: Sequence[Weather], duration_s: float) -> FleetFlows:
        """powers_w: one a sink. Raises ValueError for a wrong number of them, or one that is no power."""
        if powers_w.shape != (self._count,) or not np.isfinite(powers_w).all() or not 0 < duration_s < float("inf"):
            raise ValueError("one finite power for each sink, and a duration")
        flows = FleetFlows(*(np.zeros(self._count) for _ in range(5)))
        for group in self._groups:
            group.step(group.inputs(weathers, self._sites, powers_w), duration_s, flows)
        for index, sink in self._singles.items():
            done = sink.step(float(powers_w[index]), weathers[self._sites[index]], duration_s)
            flows.gains_j[index], flows.lost_j[index] = done.gains_j, done.lost_j
            flows.delivered_j[index], flows.stored_j[index] = done.delivered_j, done.stored_j
            flows.mean_c[index] = done.mean_c
        return flows


def is_steady(sink: HeatSink) -> bool:
    """Whether its circuit never changes: its model leaves `piece_s` and `settled` as they are."""
    model = type(sink.model)
    return (
        issubclass(model, LinearModel) and model.piece_s is LinearModel.piece_s and model.settled is LinearModel.settled
    )


@dataclass
class _Group:
    """Sinks with as many capacities and nodes each, their matrices stacked: (sinks, rows, columns)."""

    indices_list: list[int]
    sinks: list[HeatSink]
    indices: NDArray[np.intp] = field(init=False)
    wants: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.indices = np.asarray(self.indices_list, dtype=np.intp)
        drives = [sink.model.drive(sink.state, Weather(0.0)) for sink in self.sinks]
        circuits = [drive.circuit for drive in drives]
        self._x = np.array([sink.state.temperatures_c for sink in self.sinks], dtype=np.float64)
        self._a = [circuit.a for circuit in circuits]
        self._rates = np.array([[[*a, *b] for a, b in zip(c.a, c.b, strict=True)] for c in circuits], dtype=np.float64)
        self._follow = np.array([[[*r, *s] for r, s in zip(c.r, c.s, strict=True)] for c in circuits], dtype=np.float64)
        self._lost = np.array([[*c.lost[0], *c.lost[1]] for c in circuits])
        self._delivered = np.array([[*c.delivered[0], *c.delivered[1]] for c in circuits])
        self._capacities = np.array([c.capacities_j_per_k for c in circuits])
        self._controlled = np.array([sink.model.controlled for sink in self.sinks])
        self._shares = np.array([drive.heater_shares for drive in drives])
        self.wants = np.array([float(sink.model.wants_heat) for sink in self.sinks])
        self._integrals: dict[float, tuple[Floats, Floats]] = {}
        self._seen: tuple[tuple[Weather, ...], Floats, Floats] | None = None

    def inputs(self, weathers: Sequence[Weather], sites: NDArray[np.intp], powers_w: Floats) -> tuple[Floats, Floats]:
        """Of each sink: boundary temperature and watts into each node, and its gains."""
        boundaries_c, gains_w = self._surroundings(weathers, sites)
        watts = gains_w + self._shares * powers_w[self.indices][:, None]
        return np.concatenate([boundaries_c[:, None], watts], axis=1), gains_w.sum(axis=1)

    def _surroundings(self, weathers: Sequence[Weather], sites: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Boundaries and gains; told once a model and weather, and again only when another weather is given."""
        seen = self._seen
        if seen is not None and len(seen[0]) == len(weathers) and all(map(operator.is_, seen[0], weathers)):
            return seen[1], seen[2]
        drives: dict[tuple[int, int], tuple[float, Sequence[float]]] = {}
        boundaries, gains = [], []
        for index, sink in zip(self.indices_list, self.sinks, strict=True):
            key = (id(sink.model), int(sites[index]))
            if key not in drives:
                drive = sink.model.drive(sink.state, weathers[key[1]])
                drives[key] = (drive.boundaries_c[0], drive.gains_w)
            boundary_c, gains_w = drives[key]
            boundaries.append(boundary_c)
            gains.append(gains_w)
        self._seen = (tuple(weathers), np.array(boundaries), np.array(gains))
        return self._seen[1], self._seen[2]

    def after_c(self, inputs: tuple[Floats, Floats], duration_s: float) -> Floats:
        """The controlled temperatures after a step that is only thought of."""
        zero_c, vector = self._from_zero(inputs[0])
        count = self._x.shape[1]
        states = vector[:, :count]
        if count:
            rates = np.einsum("sij,sj->si", self._rates, vector)
            states = states + np.einsum("sij,sj->si", self._integrals_of(duration_s)[0], rates)
        return zero_c + self._controlled_of(vector, states)

    def controlled_c(self, inputs: tuple[Floats, Floats]) -> Floats:
        zero_c, vector = self._from_zero(inputs[0])
        return zero_c + self._controlled_of(vector, vector[:, : self._x.shape[1]])

    def step(self, inputs: tuple[Floats, Floats], duration_s: float, flows: FleetFlows) -> None:
        e1, e2 = self._integrals_of(duration_s)
        zero_c, vector = self._from_zero(inputs[0])
        count = self._x.shape[1]
        rates = np.einsum("sij,sj->si", self._rates, vector) if count else np.zeros((len(self.sinks), 0))
        rises = np.einsum("sij,sj->si", e1, rates)
        risen_k_s = np.einsum("sij,sj->si", e2, rates)
        mean = vector[:, :count] + risen_k_s / duration_s
        flows.gains_j[self.indices] = inputs[1] * duration_s
        for form, place in ((self._lost, flows.lost_j), (self._delivered, flows.delivered_j)):
            at_once_w = np.einsum("sj,sj->s", form, vector)
            place[self.indices] = at_once_w * duration_s + np.einsum("sj,sj->s", form[:, :count], risen_k_s)
        flows.stored_j[self.indices] = np.einsum("sj,sj->s", self._capacities, rises)
        flows.mean_c[self.indices] = zero_c + self._controlled_of(vector, mean)
        self._x += rises

    def _controlled_of(self, vector: Floats, states: Floats) -> Floats:
        """states: of the nodes with a capacity; vector: states at the step's begin, then the inputs."""
        count = states.shape[1]
        following = (
            np.einsum("sij,sj->si", self._follow, np.concatenate([states, vector[:, count:]], axis=1))
            if (self._follow.size)
            else np.zeros((len(self.sinks), 0))
        )
        everything = np.concatenate([states, following], axis=1)
        found: Floats = everything[np.arange(len(self.sinks)), self._controlled]
        return found

    def _from_zero(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Temperatures counted from the boundary's, as in `Circuit`."""
        zero_c = inputs[:, 0].copy()
        given = inputs.copy()
        given[:, 0] = 0.0
        return zero_c, np.concatenate([self._x - zero_c[:, None], given], axis=1)

    def _integrals_of(self, duration_s: float) -> tuple[Floats, Floats]:
        found = self._integrals.get(duration_s)
        if found is None:
            if len(self._integrals) >= LENGTHS_MAX:
                del self._integrals[next(iter(self._integrals))]
            size = self._x.shape[1]
            shape = (len(self.sinks), size, size)
            # Sinks of one model share a circuit, and so its matrices.
            by_circuit = {id(a): step_integrals(a, duration_s) for a in {id(a): a for a in self._a}.values()}
            pairs = [by_circuit[id(a)] for a in self._a] if size else []
            first = np.array([pair[0] for pair in pairs], dtype=np.float64).reshape(shape)
            second = np.array([pair[1] for pair in pairs], dtype=np.float64).reshape(shape)
            found = self._integrals[duration_s] = (first, second)
        return found
