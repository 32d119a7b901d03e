"""Thermal networks: capacities, conductances, streams of water and given temperatures, and their exact step.

Nodes are numbered: those with a capacity first, then those without (surfaces, air whose capacity counts elsewhere),
then the boundaries, whose temperatures are given. Heat that flows into a node: sum of w_per_k * (T_source - T_into)
over its links, plus the watts that are put into it. Temperatures of nodes without capacity follow at once from the
others, so they are eliminated (Kron's reduction) and computed back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .exponential import Vector, dot, product, solve, step_integrals

# Steps of how many different lengths a circuit remembers the matrices for.
LENGTHS_MAX = 8


class Account(Enum):
    """Where a link's heat is counted: between nodes nowhere, to the surroundings, or to those who use it."""

    INSIDE = "inside"
    LOST = "lost"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Link:
    """Node `into` receives w_per_k * (T_source - T_into): one direction only, as a stream of water does it."""

    into: int
    source: int
    w_per_k: float
    account: Account


def conduction(one: int, other: int, w_per_k: float) -> tuple[Link, Link]:
    """A conductance between two nodes: what one gets, the other gives."""
    return Link(one, other, w_per_k, Account.INSIDE), Link(other, one, w_per_k, Account.INSIDE)


def loss(node: int, boundary: int, w_per_k: float) -> Link:
    return Link(node, boundary, w_per_k, Account.LOST)


def stream(into: int, source: int, w_per_k: float) -> Link:
    """Water that enters a node from another or from a boundary, at w_per_k = mass flow times specific heat.

    Its heat is delivered: over a chain from an inlet to an outlet the links add up to -w_per_k (T_outlet - T_inlet).
    """
    return Link(into, source, w_per_k, Account.DELIVERED)


@dataclass(frozen=True, slots=True)
class Network:
    """capacities_j_per_k: of the first nodes, each > 0.  massless: how many nodes have none.  boundaries: >= 1."""

    capacities_j_per_k: tuple[float, ...]
    massless: int
    boundaries: int
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        if not all(0 < capacity < float("inf") for capacity in self.capacities_j_per_k):
            raise ValueError("a capacity is not positive")
        if not all(0 <= link.w_per_k < float("inf") for link in self.links):
            raise ValueError("a conductance is negative")

    @property
    def nodes(self) -> int:
        return len(self.capacities_j_per_k) + self.massless

    def circuit(self) -> Circuit:
        """Its matrices. Raises ValueError if a node without capacity hangs in the air."""
        heat = [[0.0] * (self.nodes + self.boundaries) for _ in range(self.nodes)]
        accounts = {account: [0.0] * (self.nodes + self.boundaries) for account in Account}
        for link in self.links:
            heat[link.into][link.source] += link.w_per_k
            heat[link.into][link.into] -= link.w_per_k
            accounts[link.account][link.into] += link.w_per_k
            accounts[link.account][link.source] -= link.w_per_k
        return _circuit(self, heat, accounts)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did. means_c: of all nodes.  moved_j: what the nodes took up or gave, each counted."""

    means_c: list[float]
    stored_j: float
    moved_j: float
    lost_j: float
    delivered_j: float


@dataclass(frozen=True, slots=True)
class _Row:
    """One node's dx/dt, by differences of temperatures: so that streams between equal nodes leave no error.

    Each row of A and the boundaries' part of B add up to 0, because only differences drive heat.
    """

    node: int
    nodes: tuple[tuple[int, float], ...]
    boundaries: tuple[tuple[int, float], ...]
    watts: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, node: int, a: Vector, b: Vector, boundaries: int) -> _Row:
        coupled = tuple((j, value) for j, value in enumerate(a) if j != node and value)
        given = tuple((j, value) for j, value in enumerate(b[:boundaries]) if value)
        watts = tuple((j, value) for j, value in enumerate(b) if j >= boundaries and value)
        return cls(node, coupled, given, watts)

    def rate(self, x: Vector, u: Vector) -> float:
        own, total = x[self.node], 0.0
        for j, per_s in self.nodes:
            total += per_s * (x[j] - own)
        for j, per_s in self.boundaries:
            total += per_s * (u[j] - own)
        for j, k_per_j in self.watts:
            total += k_per_j * u[j]
        return total


class Circuit:
    """A network without its massless nodes: dx/dt = A x + B u, y = R x + S u; linear forms for the accounts.

    x: temperatures of nodes with a capacity.  y: of those without.  u: the boundaries' temperatures, then the watts
    into every node. All are constant but x and y. Every method takes temperatures in °C; differences alone matter.
    """

    def __init__(
        self,
        capacities_j_per_k: tuple[float, ...],
        boundaries: int,
        a: list[list[float]],
        b: list[list[float]],
        r: list[list[float]],
        s: list[list[float]],
        lost: tuple[list[float], list[float]],
        delivered: tuple[list[float], list[float]],
    ) -> None:
        self.capacities_j_per_k = capacities_j_per_k
        self.boundaries = boundaries
        self.a, self.b, self.r, self.s = a, b, r, s
        self.lost, self.delivered = lost, delivered
        self._rows = [_Row.of(i, row, own, boundaries) for i, (row, own) in enumerate(zip(a, b, strict=True))]
        self._integrals: dict[float, tuple[list[list[float]], list[list[float]]]] = {}

    def integrals(self, duration_s: float) -> tuple[list[list[float]], list[list[float]]]:
        """E1 and E2 of `step_integrals`; the last few lengths are remembered."""
        found = self._integrals.get(duration_s)
        if found is None:
            if len(self._integrals) >= LENGTHS_MAX:
                del self._integrals[next(iter(self._integrals))]
            found = self._integrals[duration_s] = step_integrals(self.a, duration_s)
        return found

    def massless(self, x: Vector, u: Vector) -> list[float]:
        """Temperatures of the nodes without capacity."""
        zero_c, x, u = self._from_zero(x, u)
        return [zero_c + dot(row, x) + dot(own, u) for row, own in zip(self.r, self.s, strict=True)]

    def rates(self, x: Vector, u: Vector) -> list[float]:
        """dx/dt in K/s."""
        _, x, u = self._from_zero(x, u)
        return self._rates(x, u)

    def rises(self, x: Vector, u: Vector, duration_s: float) -> list[float]:
        """x(duration) - x(0) in K: exact at any length of the step, while u is constant."""
        return product(self.integrals(duration_s)[0], self.rates(x, u))

    def steady(self, u: Vector) -> list[float]:
        """x where nothing changes any more. Raises ZeroDivisionError where there is none, without any loss."""
        zero_c, _, u = self._from_zero((), u)
        settled = solve(self.a, [[-dot(row, u)] for row in self.b])
        return [zero_c + row[0] for row in settled]

    def step(self, x: Vector, u: Vector, duration_s: float) -> Step:
        """duration_s > 0."""
        zero_c, x, u = self._from_zero(x, u)
        e1, e2 = self.integrals(duration_s)
        rates = self._rates(x, u)
        risen_k_s = product(e2, rates)
        taken_j = [c * rise for c, rise in zip(self.capacities_j_per_k, product(e1, rates), strict=True)]
        states_k = [value + risen / duration_s for value, risen in zip(x, risen_k_s, strict=True)]
        means = states_k + [dot(row, states_k) + dot(own, u) for row, own in zip(self.r, self.s, strict=True)]
        return Step(
            means_c=[zero_c + mean for mean in means],
            stored_j=math.fsum(taken_j),
            moved_j=math.fsum(abs(joules) for joules in taken_j),
            lost_j=self._energy(self.lost, x, u, risen_k_s, duration_s),
            delivered_j=self._energy(self.delivered, x, u, risen_k_s, duration_s),
        )

    def _rates(self, x: Vector, u: Vector) -> list[float]:
        return [row.rate(x, u) for row in self._rows]

    def _energy(
        self, form: tuple[list[float], list[float]], x: Vector, u: Vector, risen_k_s: Vector, duration_s: float
    ) -> float:
        of_x, of_u = form
        return (dot(of_x, x) + dot(of_u, u)) * duration_s + dot(of_x, risen_k_s)

    def _from_zero(self, x: Vector, u: Vector) -> tuple[float, list[float], list[float]]:
        """Temperatures counted from the first boundary's, so that heat is not a difference of big numbers."""
        zero_c = u[0]
        count = self.boundaries
        return zero_c, [value - zero_c for value in x], [value - zero_c for value in u[:count]] + list(u[count:])


def _circuit(network: Network, heat: list[list[float]], accounts: dict[Account, list[float]]) -> Circuit:
    """heat[i][j]: W into node i per K of node or boundary j."""
    n, nodes, total = len(network.capacities_j_per_k), network.nodes, network.nodes + network.boundaries
    # Nodes without capacity: 0 = G_yx x + G_yy y + G_yu u, so y = R x + S u.
    inputs = [_inputs(heat[i], i, nodes, total) for i in range(nodes)]
    try:
        follow = solve(
            [[-value for value in heat[i][n:nodes]] for i in range(n, nodes)],
            [[*heat[i][:n], *inputs[i]] for i in range(n, nodes)],
        )
    except ZeroDivisionError:
        raise ValueError("a node without capacity is linked to nothing") from None
    r, s = [row[:n] for row in follow], [row[n:] for row in follow]

    def reduced(of_nodes: Sequence[float], of_inputs: Sequence[float]) -> tuple[list[float], list[float]]:
        of_y = of_nodes[n:nodes]
        of_x = [value + dot(of_y, [row[j] for row in r]) for j, value in enumerate(of_nodes[:n])]
        of_u = [value + dot(of_y, [row[j] for row in s]) for j, value in enumerate(of_inputs)]
        return of_x, of_u

    rows = [reduced(heat[i], inputs[i]) for i in range(n)]
    zeros = [0.0] * nodes
    lost, delivered = (accounts[each] for each in (Account.LOST, Account.DELIVERED))
    return Circuit(
        network.capacities_j_per_k,
        network.boundaries,
        [[v / capacity for v in row[0]] for row, capacity in zip(rows, network.capacities_j_per_k, strict=True)],
        [[v / capacity for v in row[1]] for row, capacity in zip(rows, network.capacities_j_per_k, strict=True)],
        r,
        s,
        reduced(lost, lost[nodes:] + zeros),
        reduced(delivered, delivered[nodes:] + zeros),
    )


def _inputs(row: list[float], node: int, nodes: int, total: int) -> list[float]:
    """Of one node: W per K of each boundary, then W per W put into each node."""
    return row[nodes:total] + [1.0 if node == j else 0.0 for j in range(nodes)]
