"""The numbers of `hearth sim numbers`: many runs, over all cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import compiled
from .cores import each_over_all_cores, over_all_cores
from .detection_log import DetectionLog
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


def numbers_of(detection_hours: float, churn_hours: float, seed: int, log: Path | None = None) -> dict[str, Any]:
    """detection_hours: of nodes.  churn_hours: of a mesh.  log: what it holds of detection counts, and is not played
    again; what is played goes there. As JSON. Raises OSError.
    """
    runs = max(1, round(churn_hours * 60 / CHURN_MINUTES))
    repeats = over_all_cores(partial(_repeats, seed, churn_hours * 60 / runs), runs)
    meetings = over_all_cores(partial(_meeting, seed), len(MEETINGS))
    return {
        "seed": seed,
        "detection": _by_sources(detections_of(detection_hours, seed, log)),
        "churn": repeat_numbers(repeats),
        "meeting": [each.as_json() for each in meetings],
    }


def detections_of(hours: float, seed: int, path: Path | None) -> Sequence[tuple[str, Detection]]:
    """Runs, each with a digest of the sources that were played. hours: of nodes.  path: of the log, as in `numbers_of`.

    Raises OSError.
    """
    runs = max(1, round(hours * 60 / DETECTION_MINUTES / DETECTION_NODES))
    minutes = round(hours * 60 / runs / DETECTION_NODES, 6)
    log = DetectionLog(path, minutes) if path is not None else None
    sources = log.sources if log is not None else compiled.digest_of_sources()
    known = log.played() if log is not None else {}
    missing = [number for number in range(runs) if seed + number not in known]
    for number, found in zip(missing, each_over_all_cores(partial(_detection, seed, minutes), missing), strict=True):
        known[seed + number] = sources, found
        if log is not None:
            log.append(seed + number, found)
    return [known[seed + number] for number in range(runs)]


def _by_sources(runs: Sequence[tuple[str, Detection]]) -> dict[str, Any]:
    """Of all, and of each version of the sources apart: what was found of one need not be so of the next."""
    versions = dict.fromkeys(sources for sources, _ in runs)
    return {
        **detection_numbers([run for _, run in runs]),
        "by_sources": [
            {"sources": each or "unknown", **detection_numbers([run for sources, run in runs if sources == each])}
            for each in versions
        ],
    }


def _detection(seed: int, minutes: float, number: int) -> Detection:
    return detect(seed + number, minutes=minutes, starved=True)


def _repeats(seed: int, minutes: float, number: int) -> Repeats:
    return repeat(seed + number, minutes=minutes)


def _meeting(seed: int, number: int) -> Meeting:
    tasks, share = MEETINGS[number]
    return meet(seed, tasks=tasks, share=share)
