"""What `hearth testnet` shows while it waits and watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from ..node.cli.output import cells_of, console, note, say
from ..node.cli.tables import Column, Columns, Layout, lay_out

if TYPE_CHECKING:
    from .network import Progress, Testnet
    from .node import TestnetNode

REFRESH_S = 1.0
FOLLOW_S = 0.2
ROOM_COLUMNS: Columns = (
    *("room", "state", Column("sink", drop=2), ">°C", Column("", drop=4), ">at work", Column(">waiting", drop=3)),
    *(">done", Column(">links", drop=1)),
)
_STATUS_KEYS = (
    "temperature_c",
    "setpoint_c",
    "sink",
    "slots",
    "running",
    "queued_tasks",
    "tasks_done",
    "steals",
    "jobs_kept",
    "addresses",
    "links",
    "meter",
    "draining",
    "storage_failed",
    "uptime_s",
    "rss_bytes",
)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A spinner on a terminal, a line at each change elsewhere; on standard error."""
    if sys.stderr.isatty():
        with console(stderr=True).status("starting") as spinner:
            yield lambda what, done, of: spinner.update(f"{done} of {of} nodes {what}")
        return
    last = ""

    def write(what: str, done: int, of: int) -> None:
        nonlocal last
        text = f"{done} of {of} nodes {what}"
        if done == of and text != last:
            last = text
            note(text)

    yield write


def describe_node(node: TestnetNode, status: dict[str, Any] | None) -> dict[str, Any]:
    """One node for `ps --json`: what the registry knows, and what it says itself (None where it does not)."""
    said = {key: status.get(key) if status else None for key in _STATUS_KEYS}
    return {
        "name": node.name,
        "state": node.state,
        "pid": node.pid,
        "peer_id": node.peer_id,
        "port": node.entry.port,
        "log": str(node.log_path),
        **said,
    }


async def watch_rooms(net: Testnet, *, quiet: bool) -> None:
    """The rooms as they get warm, until cancelled or until somebody else takes the network down."""
    if quiet or not sys.stdout.isatty():
        while await _some_remain(net):
            await trio.sleep(REFRESH_S)
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, transient=True) as live:
        while await _some_remain(net):
            statuses = await net.statuses()
            rows = [describe_node(node, statuses[name]) for name, node in net.nodes.items()]
            live.update(rooms_table(rows, live.console.width).text(), refresh=True)
            await trio.sleep(REFRESH_S)
    say("the network was taken down")


async def _some_remain(net: Testnet) -> bool:
    await trio.lowlevel.checkpoint()
    for node in net.nodes.values():
        process = node.process
        if process is not None and process.state == "gone":
            process.reap()
    return any(node.process is not None for node in net.nodes.values())


def rooms_table(rows: list[dict[str, Any]], columns: int) -> Layout:
    """The rooms on a terminal of so many columns."""
    return lay_out(ROOM_COLUMNS, map(_room_cells, rows), columns)


def _room_cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["temperature_c"] is None:
        return (row["name"], row["state"], *[""] * (len(ROOM_COLUMNS) - 2))
    return cells_of(
        (
            row["name"],
            row["state"],
            row["sink"],
            f"{row['temperature_c']:.2f}",
            warmth_bar(row["temperature_c"], row["setpoint_c"]),
            f"{row['running']}/{row['slots']}",
            row["queued_tasks"],
            row["tasks_done"],
            len(row["links"]),
        )
    )


def warmth_bar(temperature_c: float, setpoint_c: float, width: int = 16) -> str:
    """Full at the setpoint, empty 8 K below it."""
    filled = round(width * min(1.0, max(0.0, 1 - (setpoint_c - temperature_c) / 8.0)))
    return "█" * filled + "░" * (width - filled)


async def follow_log(path: Path) -> None:
    """What is appended from now on, until cancelled."""
    with path.open("rb") as log:
        log.seek(0, 2)
        pending = b""
        while True:
            part = log.read(1 << 16)
            if not part:
                await trio.sleep(FOLLOW_S)
                continue
            await trio.lowlevel.checkpoint()
            *lines, pending = (pending + part).split(b"\n")
            for line in lines:
                say(line.decode(errors="replace"))
