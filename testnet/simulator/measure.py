"""The numbers of `hearth sim numbers`: many runs, over all cores."""

from __future__ import annotations

from functools import partial
from typing import Any

from .cores import over_all_cores
from .numbers import (
    DETECTION_NODES,
    Detection,
    Meeting,
    Repeats,
    detect,
    detection_numbers,
    meet,
    repeat,
    repeat_numbers,
)

# Of one run each, in minutes of virtual time.
DETECTION_MINUTES = 15.0
CHURN_MINUTES = 60.0
# Tasks of a job, and the share that is done when a replica is cut off: what differs grows, and what is alike.
MEETINGS = ((400, 0.9), (400, 0.5), (400, 0.1), (1600, 0.975), (1600, 0.9))


def numbers_of(detection_hours: float, churn_hours: float, seed: int) -> dict[str, Any]:
    """detection_hours: of nodes.  churn_hours: of a mesh.  As JSON."""
    runs = max(1, round(detection_hours * 60 / DETECTION_MINUTES / DETECTION_NODES))
    minutes = detection_hours * 60 / runs / DETECTION_NODES
    detections = over_all_cores(partial(_detection, seed, minutes), runs)
    runs = max(1, round(churn_hours * 60 / CHURN_MINUTES))
    repeats = over_all_cores(partial(_repeats, seed, churn_hours * 60 / runs), runs)
    meetings = over_all_cores(partial(_meeting, seed), len(MEETINGS))
    return {
        "seed": seed,
        "detection": detection_numbers(detections),
        "churn": repeat_numbers(repeats),
        "meeting": [each.as_json() for each in meetings],
    }


def _detection(seed: int, minutes: float, number: int) -> Detection:
    return detect(seed + number, minutes=minutes, starved=True)


def _repeats(seed: int, minutes: float, number: int) -> Repeats:
    return repeat(seed + number, minutes=minutes)


def _meeting(seed: int, number: int) -> Meeting:
    tasks, share = MEETINGS[number]
    return meet(seed, tasks=tasks, share=share)
