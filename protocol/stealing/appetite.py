"""How much work a heat sink can burn, and how long a task may run in it: from what its model foretells."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Longer than any task: the sink never gets full of it.
FOREVER_US = (1 << 53) - 1
# A task may take so many times its CPU time, by a lower duty, and still counts as going on well.
STRETCH_MAX = 2.0
# What a sink has to want within the horizon for that: half of a slot's CPU time.
LIVELY_US = 450 * 1_000_000
_US_PER_WH_AND_W = _US_PER_HOUR = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the model of one heater's sink foretells; its part of it, where several heaters share the sink.

    wanted_wh: heat that brings the sink to its setpoint within the horizon, >= 0.
    buffer_wh: heat that lifts it from now to where it is full, losses apart; 0 if it is full, infinity if nobody knows.
    Full is where a thermostat leaves it hardly any power: a little above its setpoint.  hold_w: what it loses once it
    is full, >= 0.  later_w: what it will lose then in each of the hours to come; after the last of them, and where
    nobody knows, hold_w.
    watts_per_slot: one task at full duty, > 0.  slots: tasks that the heater runs at once when all work, >= 1.
    """

    wanted_wh: float
    buffer_wh: float
    hold_w: float
    watts_per_slot: float
    slots: int
    later_w: tuple[float, ...] = ()


def appetite_us(wanted_wh: float, watts_per_slot: float, queued_us: int = 0) -> int:
    """CPU time of this node, beyond what it has in its queue, whose heat the sink wants within the horizon; >= 0."""
    if watts_per_slot <= 0 or not math.isfinite(wanted_wh):
        return 0
    return max(0, min(FOREVER_US, int(max(0.0, wanted_wh) / watts_per_slot * _US_PER_WH_AND_W)) - queued_us)


def longest_task_us(forecast: Forecast) -> int:
    """CPU time of the longest task that ends before the sink is full, when every slot works; `FOREVER_US`: any.

    A task of c seconds makes c * watts_per_slot of heat whatever its duty; stretched over `STRETCH_MAX * c` seconds
    the sink loses a slot's share of hold_w, or later_w, all that time. One that wants less than `LIVELY_US` now would
    stretch it further, and takes none that is longer than twice that.
    """
    slots = max(1, forecast.slots)
    left_wh = max(0.0, forecast.buffer_wh) / slots
    if not math.isfinite(left_wh):
        return FOREVER_US
    most_us = FOREVER_US if is_lively(appetite_us(forecast.wanted_wh, forecast.watts_per_slot)) else 2 * LIVELY_US
    # Of the slot's CPU time: an hour of the clock has that much of it.
    step_h, spent_h = 1.0 / STRETCH_MAX, 0.0
    for lost_w in forecast.later_w:
        excess_wh = _excess_w(forecast, lost_w, slots) * step_h
        if left_wh <= excess_wh:
            return min(most_us, int((spent_h + step_h * (left_wh / excess_wh if excess_wh else 0.0)) * _US_PER_HOUR))
        left_wh -= excess_wh
        spent_h += step_h
    excess_w = _excess_w(forecast, forecast.hold_w, slots)
    return min(most_us, int((spent_h + left_wh / excess_w) * _US_PER_HOUR)) if excess_w > 0 else most_us


def is_lively(wanted_us: int, left_us: int = FOREVER_US) -> bool:
    """Whether a sink wants CPU time enough within the horizon for a task to go on well, or all that is left of it."""
    return wanted_us >= min(left_us, LIVELY_US)


def _excess_w(forecast: Forecast, lost_w: float, slots: int) -> float:
    """What a slot at full duty brings a full sink beyond what that loses in STRETCH_MAX times as long."""
    return forecast.watts_per_slot - STRETCH_MAX * max(0.0, lost_w) / slots


def is_steady(longest_us: int) -> bool:
    """Whether the sink takes tasks of any length: a boiler, a pool, or a room that loses more than a task gives."""
    return longest_us >= FOREVER_US


def in_units_of(task_us: int, speed_permille: int) -> int:
    """CPU time of a task on a node of another speed. task_us: of the mean node.  speed_permille: 1000 is the mean's."""
    return max(1, task_us * 1000 // max(1, speed_permille)) if task_us > 0 else 0
