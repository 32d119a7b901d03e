"""Functions of a matrix that step a linear system exactly, in plain Python: sinks have at most some dozen states.

For dx/dt = A x + b with constant b, and r = A x(0) + b:
    x(h) - x(0)                      = E1 r,   E1 = integral of exp(A s) over 0..h
    integral of x(s) - x(0) over 0..h = E2 r,   E2 = integral of E1(s) over 0..h
Both are power series in A h for small A h, doubled up to h (scaling and squaring; Higham, Functions of Matrices,
2008, section 10.7). No inverse is needed, so a singular A (a sink without loss) is no special case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]

# Terms of the series at a norm of at most 1/2: the first one left out is below 2**-16 / 18!, far under an ulp.
_TERMS = 16


def step_integrals(a: Matrix, h: float) -> tuple[list[list[float]], list[list[float]]]:
    """E1 (in s) and E2 (in s^2) of a square matrix A in 1/s for a step of h >= 0 seconds."""
    size = len(a)
    if size == 1:
        first, second = _scalar(a[0][0], h)
        return [[first]], [[second]]
    norm = max((sum(abs(entry) for entry in row) for row in a), default=0.0) * h
    doublings = max(0, math.frexp(norm)[1] + 1) if norm > 0 else 0
    part = math.ldexp(h, -doublings)
    e1, e2 = _series(a, part)
    # exp(A h) - 1 is doubled on its own: from A E1 it would lose, at each doubling, digits of what is slow beside what
    # is fast; and without the 1 it keeps the digits of what hardly moves.
    grown = _product(a, e1)
    for _ in range(doublings):
        e2 = _sum(_sum(_scaled(e2, 2.0), _scaled(e1, part)), _product(grown, e2))
        e1 = _sum(_scaled(e1, 2.0), _product(grown, e1))
        grown = _sum(_scaled(grown, 2.0), _product(grown, grown))
        part *= 2
    return e1, e2


def _series(a: Matrix, h: float) -> tuple[list[list[float]], list[list[float]]]:
    """By Horner's rule: E2 = h^2 (1/2! + Ah/3! + ...), and E1 = h + A E2."""
    size = len(a)
    scaled = _scaled(a, h)
    total = [[0.0] * size for _ in range(size)]
    for term in range(_TERMS + 2, 1, -1):
        total = _plus_identity(_product(scaled, total), 1.0 / math.factorial(term))
    e2 = _scaled(total, h * h)
    return _plus_identity(_product(a, e2), h), e2


def _scalar(a: float, h: float) -> tuple[float, float]:
    z = a * h
    if abs(z) < 1e-2:
        total = 0.0
        for term in range(7, -1, -1):
            total = total * z + 1.0 / math.factorial(term + 2)
        return h * (math.expm1(z) / z if z else 1.0), h * h * total
    grown = math.expm1(z)
    return grown / a, (grown - z) / (a * a)


def product(a: Matrix, x: Vector) -> list[float]:
    """A x."""
    return [dot(row, x) for row in a]


def dot(x: Vector, y: Vector) -> float:
    """Added up in order: `sum` of floats rounds otherwise from Python 3.12 on."""
    total = 0.0
    for one, other in zip(x, y, strict=True):
        total += one * other
    return total


def solve(a: Matrix, columns: Matrix) -> list[list[float]]:
    """X of A X = columns, by elimination with pivoting. Raises ZeroDivisionError if A is singular."""
    size = len(a)
    rows = [[*a[i], *columns[i]] for i in range(size)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        head = [entry / rows[i][i] for entry in rows[i]]
        rows[i] = head
        for k in range(size):
            if k != i and rows[k][i]:
                factor = rows[k][i]
                rows[k] = [entry - factor * own for entry, own in zip(rows[k], head, strict=True)]
    return [row[size:] for row in rows]


def _product(a: Matrix, b: Matrix) -> list[list[float]]:
    columns = list(zip(*b, strict=True))
    return [[dot(row, column) for column in columns] for row in a]


def _sum(a: Matrix, b: Matrix) -> list[list[float]]:
    return [[x + y for x, y in zip(first, second, strict=True)] for first, second in zip(a, b, strict=True)]


def _scaled(a: Matrix, factor: float) -> list[list[float]]:
    return [[entry * factor for entry in row] for row in a]


def _plus_identity(a: Matrix, factor: float) -> list[list[float]]:
    return [[entry + factor if i == j else entry for j, entry in enumerate(row)] for i, row in enumerate(a)]
