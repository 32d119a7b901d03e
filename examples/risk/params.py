"""The shared parameters of a risk job, as risk.c reads them. Byte for byte in README.md."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = b"HRISKP01"
HEADER = struct.Struct("<8s8s8IQqd")
MAX_PATHS_PER_TASK = 1 << 20


@dataclass(frozen=True, slots=True)
class CashNode:
    """All cash that the bonds pay on one day, or the expiry of an option (cash may be 0).

    tau_years: from the horizon on, 0 if already past.  cash: after each bond's spread.
    left, left_weight: the key rate before it and that one's share in the linear interpolation.
    """

    tau_years: float
    cash: float
    left: int
    left_weight: float


@dataclass(frozen=True, slots=True)
class OptionRow:
    """carry: exp(-dividend yield x tau). log_moneyness: ln(spot x carry / strike). sqrt_tau: 0 if expired."""

    strike: float
    quantity: float
    vol: float
    carry: float
    log_moneyness: float
    sqrt_tau: float
    sign: int
    equity: int
    node: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """cholesky: the packed lower triangle, row by row, scaled to the horizon. base_value in whole money."""

    spot: Sequence[float]
    shares: Sequence[float]
    yields: Sequence[float]
    has_vol: bool
    dof: int
    cholesky: Sequence[float]
    nodes: Sequence[CashNode]
    options: Sequence[OptionRow]
    seed: int
    threshold_cents: int
    base_value: float

    def pack(self, tasks: int, paths_per_task: int) -> bytes:
        """The file. Its model id covers all but tasks and paths_per_task: the split is not the model."""
        if not 1 <= paths_per_task <= MAX_PATHS_PER_TASK or not 1 <= tasks < 1 << 32:
            raise ValueError(f"tasks {tasks} or paths_per_task {paths_per_task} out of range")
        body = self._columns()
        model_id = hashlib.sha256(self._header(bytes(8), 0, 0) + body).digest()[:8]
        return self._header(model_id, tasks, paths_per_task) + body

    def _header(self, model_id: bytes, tasks: int, paths_per_task: int) -> bytes:
        return HEADER.pack(
            MAGIC,
            model_id,
            len(self.spot),
            len(self.yields),
            int(self.has_vol),
            self.dof,
            len(self.nodes),
            len(self.options),
            paths_per_task,
            tasks,
            self.seed,
            self.threshold_cents,
            self.base_value,
        )

    def _columns(self) -> bytes:
        nodes, options = self.nodes, self.options
        doubles = [
            *self.spot,
            *self.shares,
            *self.yields,
            *self.cholesky,
            *(node.tau_years for node in nodes),
            *(node.cash for node in nodes),
            *(node.left_weight for node in nodes),
            *(option.strike for option in options),
            *(option.quantity for option in options),
            *(option.vol for option in options),
            *(option.carry for option in options),
            *(option.log_moneyness for option in options),
            *(option.sqrt_tau for option in options),
            *(float(option.sign) for option in options),
        ]
        words = [
            *(node.left for node in nodes),
            *(option.equity for option in options),
            *(option.node for option in options),
        ]
        return struct.pack(f"<{len(doubles)}d{len(words)}I", *doubles, *words)
