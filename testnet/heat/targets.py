"""What ours has to reach, against the others of the same season, load and work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# Differences below these are none: rounding, and what no person or meter would notice.
SLACK_KH = 0.1
SLACK_KWH_SHARE = 0.001
SLACK_H = 0.5
# What a ratio to nothing is told as.
RATIO_MAX = 999.0
DISCOMFORT_CENTRAL, DISCOMFORT_QARNOT, ENERGY_CENTRAL, MAKESPAN_CENTRAL, COST_OPTIMUM = 1.10, 0.5, 1.05, 1.10, 1.25


@dataclass(frozen=True, slots=True)
class Verdict:
    """found: a ratio, or percent of work lost.  limit: what it must not exceed."""

    name: str
    found: float
    limit: float
    met: bool

    def row(self) -> dict[str, Any]:
        return {"target": self.name, "found": self.found, "limit": self.limit, "met": self.met}


def judge(by_policy: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Of all targets whose policies were played. by_policy: rows, as of `Outcome.row`."""
    ours = by_policy.get("ours")
    if ours is None:
        return []
    found = [Verdict("work lost to heat, %", ours["lost_work_percent"], 0.0, ours["lost_work_percent"] == 0.0)]
    central, qarnot = by_policy.get("central"), by_policy.get("qarnot")
    if central is not None:
        energy_slack = SLACK_KWH_SHARE * ours["demand_kwh"]
        found += [
            _ratio("discomfort p50 / central", ours, central, "discomfort_kh_p50", DISCOMFORT_CENTRAL, SLACK_KH),
            _ratio("discomfort p95 / central", ours, central, "discomfort_kh_p95", DISCOMFORT_CENTRAL, SLACK_KH),
            _ratio("wasted + burnt / central", ours, central, "wasted_or_burnt_kwh", ENERGY_CENTRAL, energy_slack),
        ]
        # Where rooms want no heat any more nobody ends what is left, and how long it would take says nothing.
        if ours["all_finished"] or central["all_finished"]:
            verdict = _ratio("makespan / central", ours, central, "makespan_h", MAKESPAN_CENTRAL, SLACK_H)
            found.append(replace(verdict, met=verdict.met and ours["all_finished"]))
    if qarnot is not None:
        found += [
            _ratio("discomfort p50 / qarnot", ours, qarnot, "discomfort_kh_p50", DISCOMFORT_QARNOT, SLACK_KH),
            _ratio("discomfort p95 / qarnot", ours, qarnot, "discomfort_kh_p95", DISCOMFORT_QARNOT, SLACK_KH),
        ]
    if "optimum" in by_policy and "cost" in ours:
        found.append(_ratio("cost / optimum", ours, by_policy["optimum"], "cost", COST_OPTIMUM, SLACK_KH))
    return found


def _ratio(
    name: str, ours: Mapping[str, Any], other: Mapping[str, Any], key: str, limit: float, slack: float
) -> Verdict:
    ratio = ours[key] / other[key] if other[key] else 1.0 if ours[key] <= slack else RATIO_MAX
    return Verdict(name, min(RATIO_MAX, float(f"{ratio:.4g}")), limit, ours[key] <= limit * other[key] + slack)
