"""Adds the tasks' outputs up to value at risk and expected shortfall. Standard library only.

    python aggregate.py RESULTS_FOLDER [--json] [--params params.bin]

The folder holds one file a task, named by its index (12, 000012.bin, task-12.out). All sums are of integer
cents and tail values are sorted, so the answer, and its digest, do not depend on who ran what, or on how the
paths were split into tasks. What the estimators are: README.md.
"""

import argparse
import hashlib
import json
import math
import re
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

MAGIC = b"HRISKR01"
OUTPUT = struct.Struct("<8s8sIIQ16s16sqqqQ")
PARAMS_PREFIX = struct.Struct("<8s8s")
LEVELS_PERMILLE = (950, 990, 999)
Z_95 = 1.959963984540054


class ResultError(Exception):
    """The results are damaged, of another model, or incomplete. The text says which and what to do."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task's output. tail: the P&L in cents of each path at or below the threshold, in no order."""

    model_id: bytes
    task_count: int
    paths: int
    task: int
    sum_cents: int
    sum_squares: int
    min_cents: int
    max_cents: int
    threshold_cents: int
    tail: tuple[int, ...]

    @classmethod
    def decode(cls, index: int, data: bytes) -> "TaskResult":
        """Raises ResultError if the bytes are not the output of task `index`."""
        if len(data) < OUTPUT.size:
            raise ResultError(f"task {index}: {len(data)} bytes are not a result, which has at least {OUTPUT.size}")
        magic, model_id, task_count, paths, task, total, squares, low, high, threshold, count = OUTPUT.unpack_from(data)
        if magic != MAGIC:
            raise ResultError(f"task {index}: not a result of risk.wasm")
        if task != index:
            raise ResultError(f"task {index}: holds the result of task {task}")
        if count > paths or len(data) != OUTPUT.size + 8 * count:
            raise ResultError(f"task {index}: {len(data)} bytes do not fit {count} tail values of {paths} paths")
        tail = struct.unpack_from(f"<{count}q", data, OUTPUT.size)
        return cls(
            model_id,
            task_count,
            paths,
            task,
            int.from_bytes(total, "little", signed=True),
            int.from_bytes(squares, "little"),
            low,
            high,
            threshold,
            tail,
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """All paths of a complete job. tail is sorted, worst first, in cents.

    task_sums: (sum, sum of squares) by task, for one standard error only: it depends on the split.
    """

    model_id: bytes
    paths: int
    sum_cents: int
    sum_squares: int
    min_cents: int
    max_cents: int
    threshold_cents: int
    tail: Sequence[int]
    task_sums: Sequence[tuple[int, int]]

    def digest(self) -> str:
        """sha256 over the sums and the tail: equal if and only if two runs found the same, however split."""
        text = (
            f"{self.model_id.hex()} {self.paths} {self.sum_cents} {self.sum_squares} "
            f"{self.min_cents} {self.max_cents} {self.threshold_cents} {len(self.tail)}\n"
        )
        return hashlib.sha256(text.encode() + struct.pack(f"<{len(self.tail)}q", *self.tail)).hexdigest()

    def measures(self) -> dict[str, Any]:
        """What is reported, in whole money; losses are positive. Raises ResultError if the tail is short."""
        mean = self.sum_cents / self.paths
        variance = (self.sum_squares - Fraction(self.sum_cents**2, self.paths)) / max(1, self.paths - 1)
        deviation = math.sqrt(variance)
        sd_error = self._deviation_error(deviation)
        levels = {f"{permille / 1000:g}": self._level(permille) for permille in LEVELS_PERMILLE}
        return {
            "paths": self.paths,
            "mean": mean / 100,
            "mean_se": deviation / math.sqrt(self.paths) / 100,
            "sd": deviation / 100,
            "sd_se": None if sd_error is None else sd_error / 100,
            "worst": self.min_cents / 100,
            "best": self.max_cents / 100,
            "levels": levels,
            "model": self.model_id.hex(),
            "digest": self.digest(),
        }

    def _deviation_error(self, deviation: float) -> float | None:
        """Standard error of sd in cents, from how the tasks' variances scatter; None for a single task."""
        count = len(self.task_sums)
        if count < 2:
            return None
        mean = self.sum_cents / self.paths
        variances = [(squares - 2 * mean * total) / (self.paths / count) for total, squares in self.task_sums]
        centre = math.fsum(variances) / count
        scatter = math.fsum((value - centre) ** 2 for value in variances) / (count - 1)
        return math.sqrt(scatter / count) / (2 * deviation) if deviation else 0.0

    def _level(self, permille: int) -> dict[str, float]:
        """VaR: the order statistic of rank ceil(n (1 - level)). ES: the mean of the worst n (1 - level)."""
        alpha = Fraction(1000 - permille, 1000)
        weight = self.paths * alpha
        rank = math.ceil(weight)
        spread = Z_95 * math.sqrt(float(weight * (1 - alpha)))
        low, high = max(1, math.floor(rank - spread)), math.ceil(rank + spread)
        if high > len(self.tail):
            share = min(1.0, 3.0 * high / self.paths)
            raise ResultError(
                f"the tail holds {len(self.tail)} of the {high} values that the {permille / 10:g} % interval "
                f"needs: run prepare.py again with --tail {share:.2g} or more paths, and submit the job again"
            )
        tail = self.tail
        var = -tail[rank - 1]
        worse = sum(tail[: rank - 1])
        shortfall = -float((worse + (weight - (rank - 1)) * tail[rank - 1]) / weight)
        centre = Fraction(sum(tail[:rank]), rank)
        within = float(sum((cents - centre) ** 2 for cents in tail[:rank])) / rank
        variance = (within + float(1 - alpha) * (shortfall - var) ** 2) / float(weight)
        return {
            "var": var / 100,
            "var_low": -tail[high - 1] / 100,
            "var_high": -tail[low - 1] / 100,
            "var_se": (tail[high - 1] - tail[low - 1]) / (2 * Z_95) / 100,
            "es": shortfall / 100,
            "es_se": math.sqrt(variance) / 100,
        }


def aggregate(results: Iterable[tuple[int, bytes]], model_id: bytes | None = None) -> Aggregate:
    """Adds up a complete set of (index, output), in any order, with repetitions if they are equal.

    model_id: bytes 8 to 16 of params.bin, to be sure that the results belong to it. Raises ResultError.
    """
    seen: dict[int, bytes] = {}
    first: TaskResult | None = None
    sums: dict[int, tuple[int, int]] = {}
    paths = 0
    low, high = 1 << 63, -(1 << 63)
    tail: list[int] = []
    for index, data in results:
        if index in seen:
            if seen[index] != hashlib.sha256(data).digest():
                raise ResultError(f"task {index}: two results that differ")
            continue
        seen[index] = hashlib.sha256(data).digest()
        result = TaskResult.decode(index, data)
        first = first or result
        _same_job(first, result, model_id)
        sums[index] = result.sum_cents, result.sum_squares
        paths += result.paths
        low, high = min(low, result.min_cents), max(high, result.max_cents)
        tail.extend(result.tail)
    if first is None:
        raise ResultError("no results")
    missing = first.task_count - len(seen)
    if missing:
        example = next(i for i in range(first.task_count) if i not in seen)
        raise ResultError(f"{missing} of {first.task_count} tasks are missing, task {example} is the first")
    tail.sort()
    if bisect_right(tail, first.threshold_cents) != len(tail):
        raise ResultError("a tail value lies above the threshold")
    task_sums = [sums[index] for index in range(first.task_count)]
    return Aggregate(
        model_id=first.model_id,
        paths=paths,
        sum_cents=sum(total for total, _ in task_sums),
        sum_squares=sum(squares for _, squares in task_sums),
        min_cents=low,
        max_cents=high,
        threshold_cents=first.threshold_cents,
        tail=tail,
        task_sums=task_sums,
    )


def _same_job(first: TaskResult, result: TaskResult, model_id: bytes | None) -> None:
    if model_id is not None and result.model_id != model_id:
        raise ResultError(f"task {result.task}: computed from other parameters than the file given")
    for name in ("model_id", "task_count", "paths", "threshold_cents"):
        if getattr(first, name) != getattr(result, name):
            raise ResultError(f"tasks {first.task} and {result.task} are of different jobs: {name} differs")
    if not 0 <= result.task < result.task_count:
        raise ResultError(f"task {result.task}: the job has {result.task_count} tasks")


def table(measures: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{measures['paths']:,} paths, model {measures['model']}",
        f"mean {measures['mean']:>16,.2f} ± {measures['mean_se']:,.2f}",
        f"sd   {measures['sd']:>16,.2f}" + (f" ± {measures['sd_se']:,.2f}" if measures["sd_se"] is not None else ""),
        f"{'level':<8} {'value at risk':>16} {'95 % interval':>33} {'exp. shortfall':>16} {'± SE':>10}",
    ]
    for level, row in measures["levels"].items():
        interval = f"{row['var_low']:,.0f} to {row['var_high']:,.0f}"
        percent = f"{float(level) * 100:g} %"
        lines.append(f"{percent:<8} {row['var']:>16,.2f} {interval:>33} {row['es']:>16,.2f} {row['es_se']:>10,.0f}")
    lines.append(f"worst path {measures['worst']:,.2f}, best {measures['best']:,.2f}")
    lines.append(f"digest {measures['digest']}")
    return "\n".join(lines)


def read_folder(folder: Path) -> Iterable[tuple[int, bytes]]:
    """(index, bytes) of each file whose name ends in a number, whatever its suffix."""
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(?:.*\D)?(\d{1,9})", path.stem if path.suffix else path.name)
        if match and path.is_file():
            yield int(match[1]), path.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--params", type=Path, help="refuse results that were computed from other parameters")
    a = parser.parse_args()
    try:
        model_id = PARAMS_PREFIX.unpack(a.params.read_bytes()[:16])[1] if a.params else None
        measures = aggregate(read_folder(a.folder), model_id).measures()
    except (ResultError, OSError, struct.error) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(measures, indent=2) if a.json else table(measures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
