"""What a policy is judged by. Each number has one definition, here and in docs/heat-comparison.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .control import BAND_K
from .floor import Floor
from .season import Demand
from .town import WATTS_PER_SLOT, Floats, Town

KWH_J = 3.6e6


@dataclass(frozen=True)
class Samples:
    """For the plots, one entry an hour: W and °C.  taken_w: of work, by kind of node.  watched: some rooms, by node."""

    hours: list[float] = field(default_factory=list)
    outside_c: list[float] = field(default_factory=list)
    demand_w: list[float] = field(default_factory=list)
    work_w: list[float] = field(default_factory=list)
    burn_w: list[float] = field(default_factory=list)
    taken_w: dict[str, list[float]] = field(default_factory=dict)
    watched: dict[int, list[float]] = field(default_factory=dict)
    spread_c: list[tuple[float, float, float]] = field(default_factory=list)


class Meters:
    """Counts as steps pass. Zones are the nodes whose sink wants heat."""

    def __init__(self, town: Town, demand: Demand, step_s: float) -> None:
        self.demand = demand
        self._step_s = step_s
        self.wants_heat = town.wants_heat
        self._target_c = town.setpoint_c
        count = len(town)
        self.discomfort_kh: Floats = np.zeros(count)
        self.overheated_kh: Floats = np.zeros(count)
        self._outside = 0.0
        self._zone_steps = 0.0
        self.wasted_j = 0.0
        self.burnt_j = 0.0
        self.either_j = 0.0
        self.work_j: Floats = np.zeros(count)
        self.useful_j: Floats = np.zeros(count)
        self.heatless_j = 0.0

    def count(self, now_s: float, mean_c: Floats, work_w: Floats, burn_w: Floats) -> None:
        """A step of the window that ended now."""
        hour = min(len(self.demand.temperature_c) - 1, int((now_s - self._step_s / 2) // 3600))
        # Where it is warm without any heat, nobody is to blame: what is compared with is the ideal heater's room.
        high_c = np.maximum(self._target_c, self.demand.temperature_c[hour])
        hours = self._step_s / 3600.0
        self.discomfort_kh += np.maximum(0.0, self._target_c - mean_c) * hours * self.wants_heat
        self.overheated_kh += np.maximum(0.0, mean_c - high_c - BAND_K) * hours * self.wants_heat
        outside = (mean_c < self._target_c - BAND_K) | (mean_c > high_c + BAND_K)
        self._outside += float((outside & self.wants_heat).sum())
        self._zone_steps += float(self.wants_heat.sum())
        unwanted = (mean_c > self._target_c + BAND_K) | ~self.wants_heat
        heat_w = work_w + burn_w
        self.wasted_j += float(heat_w[unwanted].sum()) * self._step_s
        self.burnt_j += float(burn_w.sum()) * self._step_s
        self.either_j += float(np.where(unwanted, heat_w, burn_w).sum()) * self._step_s
        self.work_j += work_w * self._step_s
        self.useful_j += np.where(unwanted, 0.0, work_w) * self._step_s
        self.heatless_j += float(work_w[~self.wants_heat].sum()) * self._step_s

    @property
    def outside_percent(self) -> float:
        return 100.0 * self._outside / max(1.0, self._zone_steps)

    def fairness(self) -> float:
        """Jain's index, over the zones that want some heat, of the share of it that useful work gave them: 1 if all
        are alike, 1/n if one has all."""
        wanted_j = self.demand.energy_wh * 3600.0
        zones = self.wants_heat & (wanted_j > 0.01 * wanted_j.max())
        share = np.minimum(1.0, self.useful_j[zones] / wanted_j[zones]) if zones.any() else np.zeros(0)
        squares = float((share**2).sum())
        return float(share.sum()) ** 2 / (len(share) * squares) if squares else 1.0


@dataclass(frozen=True)
class Outcome:
    """A policy in a season, with a load and a kind of work: its numbers, and samples for the plots."""

    season: str
    load: float
    policy: str
    workload: str
    numbers: dict[str, Any]
    samples: Samples = field(repr=False, compare=False, default_factory=Samples)

    def row(self) -> dict[str, Any]:
        head = {"season": self.season, "load": self.load, "policy": self.policy, "workload": self.workload}
        return {**head, **self.numbers}


def numbers_of(meters: Meters, floor: Floor, end_s: float, drained_s: float, balance: float) -> dict[str, Any]:
    """end_s: of the window.  drained_s: until when was gone on.  balance: of the energy, as a share."""
    work, counts = floor.work, floor.counts
    zones = meters.wants_heat
    done_at_s = floor.done_at_s
    finished = np.isfinite(done_at_s)
    lost_j = counts.lost_s * WATTS_PER_SLOT
    late = (np.minimum(done_at_s, drained_s) > work.deadline_s) & (work.deadline_s < drained_s)
    if finished.all():
        makespan_s, complete = float(done_at_s.max(initial=0.0)), True
    else:
        # As if the rest were done at the rate so far.
        done_s = float(work.length_s[finished].sum())
        makespan_s, complete = drained_s * work.total_s / max(1.0, done_s), False
    discomfort = meters.discomfort_kh[zones]
    return {
        "discomfort_kh_p50": _round(np.percentile(discomfort, 50)),
        "discomfort_kh_p95": _round(np.percentile(discomfort, 95)),
        "discomfort_kh_mean": _round(discomfort.mean()),
        "outside_band_percent": _round(meters.outside_percent),
        "overheated_kh_p95": _round(np.percentile(meters.overheated_kh[zones], 95)),
        "wasted_kwh": _round(meters.wasted_j / KWH_J),
        "burnt_kwh": _round((meters.burnt_j + lost_j) / KWH_J),
        "wasted_or_burnt_kwh": _round((meters.either_j + lost_j) / KWH_J),
        "work_kwh": _round(float(meters.work_j.sum()) / KWH_J),
        "useful_kwh": _round(float(meters.useful_j.sum()) / KWH_J),
        "heatless_kwh": _round(meters.heatless_j / KWH_J),
        "demand_kwh": _round(meters.demand.total_wh / 1000.0),
        "lost_work_percent": _round(100.0 * counts.lost_s / max(1e-9, counts.executed_s)),
        "lost_tasks": counts.lost_tasks,
        "makespan_h": _round(makespan_s / 3600.0),
        "all_finished": complete,
        "tasks": work.tasks,
        "tasks_finished": int(finished.sum()),
        "deadline_misses": int(late.sum()),
        "moved_gb": _round(counts.moved_bytes / 1e9),
        "migrations": counts.moves,
        "fairness": _round(meters.fairness()),
        "energy_error": float(f"{balance:.1e}"),
    }


def _round(value: float) -> float:
    return float(f"{float(value):.5g}")
