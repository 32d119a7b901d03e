"""How the demo looks: a live picture on a terminal, lines of text elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import trio

from ..node.cli.output import duration, say
from .demo_scene import Condition, RoomState, Scene

if TYPE_CHECKING:
    from rich.console import Console, Group, JustifyMethod, OverflowMethod, RenderableType
    from rich.table import Table
    from rich.text import Text

REFRESH_S = 0.3
LINE_EVERY_S = 3.0
LINE_COLUMNS = 110
ROOMS_EVERY_S = 9.0
BAR_WIDTH = 16
# Each bar spans this many kelvins: its right end lies a quarter above the setpoint.
BAR_SPAN_K = 8.0
# Of the picture, besides a line a room and what happened.
OTHER_LINES = 7
FLOWS_SHOWN = 4
TAKEN_SHOWN = 4
TAKEN_WIDTH_MIN = 8
_COLUMNS: tuple[tuple[str, JustifyMethod, int], ...] = (
    ("room", "left", 10),
    ("now", "right", 8),
    ("", "left", BAR_WIDTH),
    ("wanted", "right", 7),
    ("heater", "left", 14),
    ("done", "right", 5),
)
_STYLES = {
    "working": "green",
    "finishing": "green",
    "warm enough": "yellow",
    "killed": "bold red",
    "frozen": "bold magenta",
}


class View(Protocol):
    async def run(self, scene: Scene, now_s: Callable[[], float]) -> None:
        """Show the scene until cancelled."""
        ...

    def finish(self, scene: Scene, now_s: float) -> None:
        """Leave on the screen what should stay there."""
        ...


class NoView:
    """For --json."""

    async def run(self, scene: Scene, now_s: Callable[[], float]) -> None:
        await trio.sleep_forever()

    def finish(self, scene: Scene, now_s: float) -> None:
        return


class LineView:
    """What happens, line by line, with the rooms now and then."""

    def __init__(self) -> None:
        self._told = 0
        self._line_due_s = 0.0
        self._rooms_due_s = 0.0

    async def run(self, scene: Scene, now_s: Callable[[], float]) -> None:
        while True:
            self._catch_up(scene)
            now = now_s()
            if scene.tasks and scene.done < scene.tasks:
                self._say_progress(scene, now)
            await trio.sleep(REFRESH_S)

    def finish(self, scene: Scene, now_s: float) -> None:
        self._catch_up(scene)
        say_rooms(scene)

    def _catch_up(self, scene: Scene) -> None:
        for item in scene.happenings[self._told :]:
            say(f"{item.at_s:5.1f} s  {item.text}")
        self._told = len(scene.happenings)

    def _say_progress(self, scene: Scene, now_s: float) -> None:
        if now_s >= self._rooms_due_s:
            self._rooms_due_s = now_s + ROOMS_EVERY_S
            say_rooms(scene)
        if now_s >= self._line_due_s:
            self._line_due_s = now_s + LINE_EVERY_S
            line = f"{now_s:5.1f} s  {progress_text(scene, now_s)}"
            say(_with_as_many(line, flow_lines(scene, now_s), "; "))


class LiveView:
    """One picture that is drawn anew a few times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, scene: Scene, now_s: Callable[[], float]) -> None:
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(picture(scene, now_s(), *self._console.size), refresh=True)
                await trio.sleep(REFRESH_S)

    def finish(self, scene: Scene, now_s: float) -> None:
        self._console.print(picture(scene, now_s, self._console.width))


def picture(scene: Scene, now_s: float, columns: int, lines: int | None = None) -> Group:
    """The scene in so many columns and lines; without lines: with all that happened, to be left on the screen."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [rooms_table(scene, columns)]
    if scene.tasks:
        parts += [Text(), progress_line(scene, now_s, columns)]
    if scene.tasks and lines is not None:
        flows = "   ".join(flow_lines(scene, now_s)) or "nothing in the last seconds"
        parts.append(Text(f"  took   {flows}", "cyan", no_wrap=True, overflow="ellipsis"))
    parts.append(Text())
    room_for = len(scene.happenings) if lines is None else max(1, lines - len(scene.rooms) - OTHER_LINES)
    is_live = lines is not None
    parts += [happening_line(item.at_s, item.text, is_live=is_live) for item in scene.happenings[-room_for:]]
    return Group(*parts)


def rooms_table(scene: Scene, columns: int) -> Table:
    """The last column gives way to a narrow terminal, then the bars: what they show stands beside them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", caption_justify="left")
    left = columns - sum(width + 2 for _, _, width in _COLUMNS)
    has_bars = left >= -2  # no space after the last
    for title, justify, width in _COLUMNS:
        if title or has_bars:
            table.add_column(title, justify=justify, width=width, no_wrap=True)
    if left >= TAKEN_WIDTH_MIN:
        table.add_column("took from", width=left, no_wrap=True, overflow="ellipsis")
    for room in scene.rooms.values():
        cells: list[str | Text] = [
            room.name + (" *" if room.keeps_job else ""),
            f"{room.temperature_c:.2f} °C",
            *((bar(room),) if has_bars else ()),
            f"{room.plan.setpoint_c:g} °C",
            _coloured(room),
            str(room.total.tasks),
            " ".join(f"{victim} {count}" for victim, count in list(scene.taken_from(room.name).items())[:TAKEN_SHOWN]),
        ]
        silent = room.condition in (Condition.KILLED, Condition.FROZEN)
        table.add_row(*cells[: len(table.columns)], style="dim" if silent else "")
    if scene.keepers():
        table.caption = "* keeps the job's state   +n: n tasks wait there"
    return table


def bar(room: RoomState) -> Text:
    """Temperature, with a mark at the setpoint; blue while it is cold, red above the band."""
    from rich.text import Text

    cells, mark = bar_cells(room)
    colour = "red" if room.too_warm else "yellow" if room.temperature_c >= room.plan.setpoint_c else "blue"
    text = Text()
    for at in range(BAR_WIDTH):
        sign = "│" if at == mark else "█" if at < cells else "·"
        text.append(sign, "bold" if at == mark else colour if at < cells else "dim")
    return text


def bar_cells(room: RoomState) -> tuple[int, int]:
    """Filled cells, and the cell of the setpoint's mark."""
    span_k = max(BAR_SPAN_K, (room.plan.setpoint_c - room.plan.start_c) * 4 / 3 * 1.1)
    mark = BAR_WIDTH * 3 // 4
    filled = mark + (room.temperature_c - room.plan.setpoint_c) / span_k * BAR_WIDTH
    return max(0, min(BAR_WIDTH, round(filled))), mark


def plain_bar(room: RoomState) -> str:
    cells, mark = bar_cells(room)
    return "".join("|" if at == mark else "#" if at < cells else "." for at in range(BAR_WIDTH))


def _coloured(room: RoomState) -> Text:
    from rich.text import Text

    doing = room.doing()
    text = Text(doing, _STYLES.get(doing, "dim"))
    return text.append(f" +{room.waiting}", "dim") if room.condition is Condition.UP and room.waiting else text


def progress_line(scene: Scene, now_s: float, columns: int) -> Text:
    """The bar gives way to what is said."""
    from rich.text import Text

    said = progress_text(scene, now_s)
    width = max(0, min(20, columns - 4 - len(said)))
    filled = round(width * scene.share)
    text = Text("  ", no_wrap=True, overflow="ellipsis")
    text.append("━" * filled, "green").append("━" * (width - filled), "dim")
    return text.append("  " * bool(width) + said)


def progress_text(scene: Scene, now_s: float) -> str:
    """How far, how fast, how long still, and what the client has."""
    done = f"{scene.done:,} of {scene.tasks:,} tasks ({100 * scene.share:.0f} %)"
    rate, eta_s = scene.rate_per_s(now_s), scene.eta_s(now_s)
    pace = f", {rate:.0f}/s, {duration(eta_s)} left" if eta_s is not None and scene.done < scene.tasks else ""
    return f"{done}{pace}; client {scene.client}, {scene.held:,} verified"


def flow_lines(scene: Scene, now_s: float) -> list[str]:
    """Who took how many tasks from whom in the last seconds."""
    flows = list(scene.recent_flows(now_s).items())[:FLOWS_SHOWN]
    return [f"{thief} ← {victim} {tasks}" for (thief, victim), tasks in flows]


def happening_line(at_s: float, text: str, *, is_live: bool) -> Text:
    """A picture that is drawn anew has so many lines; one that stays tells all."""
    from rich.text import Text

    colour = "bold red" if text.startswith("SIG") else "bold" if text.startswith("the client") else ""
    overflow: OverflowMethod = "ellipsis" if is_live else "fold"
    return Text(f"{at_s:6.1f} s  ", no_wrap=is_live, overflow=overflow).append(text, colour)


def say_rooms(scene: Scene) -> None:
    """As text."""
    say(f"         {'room':<10} {'now':>8}   {'':<{BAR_WIDTH}} {'wanted':>7}  {'heater':<14} {'done':>5}  took from")
    for room in scene.rooms.values():
        took = [f"{victim} {count}" for victim, count in scene.taken_from(room.name).items()]
        name = room.name + (" *" if room.keeps_job else "")
        line = (
            f"         {name:<10} {room.temperature_c:5.2f} °C   {plain_bar(room)} {room.plan.setpoint_c:>4g} °C  "
            f"{room.doing():<14} {room.total.tasks:>5} "
        )
        say(_with_as_many(line, took[:TAKEN_SHOWN], " ").rstrip())
    if scene.keepers():
        say("         * keeps the job's state; done: as the heater last said")


def _with_as_many(line: str, parts: Sequence[str], separator: str) -> str:
    """The line and those first parts that fit beside it."""
    for part in parts:
        if len(line) + len(separator) + len(part) > LINE_COLUMNS:
            break
        line += separator + part
    return line
