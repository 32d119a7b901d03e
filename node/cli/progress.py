"""Progress of a job: rates, time left, who works, and how it looks."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...crypto.identity import peer_id_text
from ...protocol.messages import JobStatus
from ..client.copying import gigabytes
from .output import cells_of, console, duration, energy, note, printable, say
from .tables import Column, Columns, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Group

    Show = Callable[[dict[str, Any]], None]

# A rate over less jumps, over more lags.
RATE_WINDOW_S = 10.0
PLAIN_INTERVAL_S = 2.0
BAR_COLUMNS = 40


class Rates:
    """Tasks a second, from one status to the next."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=256)

    def update(self, at_s: float, status: JobStatus) -> float | None:
        """Over the last 10 s, or since the job's start where that is all there is; None while nothing is known."""
        self._seen.append((at_s, status.done))
        while len(self._seen) > 2 and at_s - self._seen[1][0] >= RATE_WINDOW_S:
            self._seen.popleft()
        then_s, then = self._seen[0]
        if at_s - then_s >= 1.0 and status.state == "running":
            return (status.done - then) / (at_s - then_s)
        return status.done / (status.elapsed_us / 1e6) if status.elapsed_us and status.done else None


def describe_status(
    status: JobStatus, name: str, members: Sequence[Mapping[str, Any]] = (), rate_per_s: float | None = None
) -> dict[str, Any]:
    """A status as `--json` prints it. rate_per_s: from `Rates`; otherwise the average."""
    known = {member["peer_id"]: member for member in members}
    if rate_per_s is None and status.elapsed_us and status.done:
        rate_per_s = status.done / (status.elapsed_us / 1e6)
    left = status.tasks - status.done
    workers = []
    for share in status.workers:
        peer = peer_id_text(share.node)
        member = known.get(peer, {})
        workers.append(
            {
                "name": member.get("name") or peer[-8:],
                "peer_id": peer,
                "done": share.done,
                "leased": share.leased,
                "cpu_s": share.cpu_us / 1e6,
                "energy_j": share.energy_mj / 1000,
                "useful_j": share.useful_mj / 1000,
                "cost": share.cost_micro / 1e6,
                "temperature_c": member.get("temperature_c"),
                "status": member.get("status", "unknown"),
            }
        )
    return {
        "job": status.job_id.hex(),
        "name": name,
        "state": status.state,
        "tasks": status.tasks,
        "done": status.done,
        "leased": status.leased,
        "accepted": status.accepted,
        "failed": status.failed,
        "duplicates": status.duplicates,
        "elapsed_s": status.elapsed_us / 1e6,
        "task_ms": status.task_us / 1000,
        "rate_per_s": None if rate_per_s is None else round(rate_per_s, 3),
        "eta_s": round(left / rate_per_s, 1) if rate_per_s and status.state == "running" else None,
        "energy_j": sum(share.energy_mj for share in status.workers) / 1000,
        "useful_j": sum(share.useful_mj for share in status.workers) / 1000,
        "cost": sum(share.cost_micro for share in status.workers) / 1e6,
        "workers": sorted(workers, key=lambda worker: (-worker["done"], worker["name"])),
    }


def summary(shown: dict[str, Any]) -> str:
    """A status in one line. received: of who fetches the results, how many are here."""
    parts = [f"{shown['state']}: {shown['done']} of {shown['tasks']} tasks"]
    if "received" in shown:
        parts.append(f"{shown['received']} of {shown['done']} results are here")
    if shown["failed"]:
        parts.append(f"{shown['failed']} failed")
    if shown["duplicates"]:
        parts.append(f"{shown['duplicates']} ran twice")
    if shown["rate_per_s"] is not None:
        parts.append(f"{shown['rate_per_s']:,.1f}/s")
    if shown["eta_s"] is not None:
        parts.append(f"{duration(shown['eta_s'])} left")
    parts.append(f"after {duration(shown['elapsed_s'])}")
    parts.append(f"{energy(shown['energy_j'])}, {_percent(shown['useful_j'], shown['energy_j'])} met a demand")
    if shown.get("cost"):
        parts.append(f"{shown['cost']:.6g} to pay for heat that nobody wanted")
    return ", ".join(parts)


def worker_rows(shown: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            worker["name"],
            worker["done"],
            worker["leased"],
            f"{worker['cpu_s']:.1f}",
            energy(worker["energy_j"]),
            None if worker["temperature_c"] is None else f"{worker['temperature_c']:.2f}",
            worker["status"],
        )
        for worker in shown["workers"]
    ]


WORKER_COLUMNS: Columns = (
    *("node", ">done", Column(">leased", drop=2), Column(">CPU s", drop=1), Column(">energy", drop=3), ">°C", "state"),
)


@contextmanager
def live_progress(*, is_output: bool = False) -> Iterator[Show]:
    """A picture that is redrawn on a terminal; elsewhere a line now and then, and the last one.

    is_output: it is what the command is for, and goes to stdout; else to stderr, beside the output.
    """
    if (sys.stdout if is_output else sys.stderr).isatty():
        from rich.live import Live

        with Live(console=console(stderr=not is_output), auto_refresh=False) as live:
            yield lambda shown: live.update(picture(shown, live.console.width), refresh=True)
        return
    last_s = float("-inf")

    def write(shown: dict[str, Any]) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PLAIN_INTERVAL_S or shown["state"] != "running":
            last_s = time.monotonic()
            (say if is_output else note)(summary(shown))

    yield write


def picture(shown: dict[str, Any], columns: int) -> Group:
    """A status on a terminal of so many columns."""
    from rich.console import Group
    from rich.text import Text

    filled = BAR_COLUMNS * shown["done"] // max(1, shown["tasks"])
    leased = min(BAR_COLUMNS - filled, -(-BAR_COLUMNS * shown["leased"] // max(1, shown["tasks"])))
    bar = Text("█" * filled + "▒" * leased + "░" * (BAR_COLUMNS - filled - leased))
    table = lay_out(WORKER_COLUMNS, map(cells_of, worker_rows(shown)), columns).text()
    heading = Text(printable(f"{shown['name']}  {shown['job'][:16]}"), style="bold")
    return Group(heading, bar, Text(summary(shown)), table)


COPY_SHOWN_BYTES = 64 << 20


@contextmanager
def copy_progress() -> Iterator[Callable[[int, int], None]]:
    """How far a job's large files are copied, on standard error: rewritten on a terminal, else a line now and then."""
    is_live = sys.stderr.isatty()
    last_s, width = float("-inf"), 0

    def show(done_bytes: int, total_bytes: int) -> None:
        nonlocal last_s, width
        now_s = time.monotonic()
        is_over = done_bytes >= total_bytes
        if total_bytes < COPY_SHOWN_BYTES or (now_s - last_s < (0.2 if is_live else PLAIN_INTERVAL_S) and not is_over):
            return
        last_s = now_s
        text = f"copying the job's files: {gigabytes(done_bytes)} of {gigabytes(total_bytes)}"
        if is_over:
            text = f"copied {gigabytes(total_bytes)}; the nodes that keep the job fetch it"
        if is_live:
            sys.stderr.write(f"\r{text:<{width}}")
            sys.stderr.flush()
            width = max(width, len(text))
        else:
            note(text)

    try:
        yield show
    finally:
        if width:
            sys.stderr.write("\r" + " " * width + "\r")
            sys.stderr.flush()


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
