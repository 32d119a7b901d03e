"""Eight real heaters as processes, their rooms' time compressed: our stealing, and stealing that knows nothing of heat.

One after the other, the same rooms and the same jobs. Watts are the CPU time that the tasks really got; the rooms'
clock runs `time_scale` times faster, so a second's mean power counts for ten minutes. All that the rooms want fits two
cores, and what comes each second is less than that: who gets it matters, not who gets the processors.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from ...node.bench.modules import SPIN, module_path
from ...node.client import Client, JobRequest
from ..demo_rooms import NODES_MAX, NODES_MIN, TIME_SCALE
from ..errors import TestnetError
from ..network import Testnet
from ..rooms import RoomPlan
from .drawing import Drawing

WAYS = ("heat", "random")
NAMES = {"heat": "by heat", "random": "at random"}
POLL_S = 0.5
PATIENCE_S = 3.0
# Rounds of the spinning module that are some tenths of a second of a core.
TASK_ROUNDS = 30_000_000
# A job comes so often, until this share of the time is over.
JOB_EVERY_S = 1.0
FEED_SHARE = 0.9
# Kelvin from the setpoint at the begin, by turns: some rooms are cold, some nearly warm, some wait for the evening.
START_K = (-3.0, -0.3, -1.0, 0.4, -2.0, -0.6, 0.2, -1.4)
# What a busy core counts as: eight of these rooms want the time of one core or so.
WATTS_PER_CORE = 3000.0
_COLOURS = ("#b3321f", "#3f7fbf", "#2a9d8f", "#e0823d", "#6b3fa0", "#1b7f3b", "#8c6d1f", "#777777")

Tell = Callable[[str], None]


@dataclass
class Room:
    """What one heater said: seconds since the job, °C; joules of its work, and of it what met a demand."""

    setpoint_c: float
    band_c: float
    at_s: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    work_j: float = 0.0
    useful_j: float = 0.0
    tasks: int = 0
    taken: int = 0

    def discomfort_kh(self, time_scale: float) -> float:
        """On the room's clock."""
        return self._sum(lambda c: max(0.0, self.setpoint_c - c)) * time_scale / 3600.0

    def outside_share(self) -> float:
        """Of the time, more than half a kelvin below the setpoint or above the band's end."""
        spent_s = self.at_s[-1] - self.at_s[0] if len(self.at_s) > 1 else 0.0
        outside_s = self._sum(lambda c: float(c < self.setpoint_c - 0.5 or c > self.setpoint_c + self.band_c))
        return outside_s / spent_s if spent_s else 0.0

    def _sum(self, of: Callable[[float], float]) -> float:
        spans = zip(self.at_s, self.at_s[1:], self.temperature_c, strict=False)
        return sum((after - before) * of(c) for before, after, c in spans)


@dataclass(frozen=True)
class Street:
    """One way of stealing, played. done: of so many tasks.  finished_s: when all were; None if they were not."""

    way: str
    rooms: dict[str, Room]
    done: int
    tasks: int
    seconds: float
    finished_s: float | None
    time_scale: float

    def row(self) -> dict[str, Any]:
        rooms = list(self.rooms.values())
        discomfort = sorted(room.discomfort_kh(self.time_scale) for room in rooms)
        work_j = sum(room.work_j for room in rooms)
        return {
            "stealing": self.way,
            "nodes": len(rooms),
            "seconds": round(self.seconds, 1),
            "time_scale": self.time_scale,
            "discomfort_kh_p50": round(discomfort[len(discomfort) // 2], 3),
            "discomfort_kh_most": round(discomfort[-1], 3),
            "discomfort_kh_sum": round(sum(discomfort), 3),
            "outside_band_percent": round(100 * sum(room.outside_share() for room in rooms) / len(rooms), 2),
            "work_kj": round(work_j / 1000, 2),
            "useful_percent": round(100 * sum(room.useful_j for room in rooms) / work_j, 2) if work_j else 0.0,
            "tasks_done": self.done,
            "tasks": self.tasks,
            "finished_s": None if self.finished_s is None else round(self.finished_s, 1),
            "tasks_by_node": {name: room.tasks for name, room in self.rooms.items()},
        }


def street_of(nodes: int) -> dict[str, RoomPlan]:
    """Rooms of 20 m², light construction, 12 W/K to the outside, as in the demo. Raises TestnetError."""
    if not NODES_MIN <= nodes <= NODES_MAX:
        raise TestnetError(f"-n {nodes}: {NODES_MIN} to {NODES_MAX} heaters are possible")
    return {
        f"room-{number + 1}": RoomPlan(
            start_c=20.0 + START_K[number % len(START_K)],
            setpoint_c=20.0,
            outside_c=8.0,
            loss_w_per_k=12.0,
            capacity_j_per_k=2.2e6,
            watts_per_core=WATTS_PER_CORE,
            time_scale=TIME_SCALE,
        )
        for number in range(nodes)
    }


async def compare_streets(folder: Path, nodes: int, tasks: int, seconds: float, tell: Tell) -> list[Street]:
    """Raises TestnetError, ClientError; nothing runs any more in any case."""
    plans = street_of(nodes)
    found = []
    for way in WAYS:
        rooms = {name: replace(plan, stealing=way) for name, plan in plans.items()}
        found.append(await _play(folder / way, way, rooms, tasks, seconds, tell))
    return found


async def _play(folder: Path, way: str, plans: dict[str, RoomPlan], tasks: int, seconds: float, tell: Tell) -> Street:
    if folder.exists():
        raise TestnetError(f"{folder}: is there already; remove it, or choose another --folder")
    net = Testnet.create(folder, rooms=plans)
    rooms = {name: Room(plan.setpoint_c, plan.band_c) for name, plan in plans.items()}
    try:
        await net.start(with_parent=True)
        tell(f"{NAMES[way]}: {len(plans)} heaters have found each other")
        async with Client.connect(net.client_config) as mesh:
            done, finished_s = await _watch(net, mesh, rooms, tasks, seconds)
        tell(f"{NAMES[way]}: {done} of {tasks} tasks in {seconds:g} s")
    finally:
        with trio.CancelScope(shield=True):
            await net.down(patience_s=PATIENCE_S)
            net.wipe()
            shutil.rmtree(folder, ignore_errors=True)
    return Street(way, rooms, done, tasks, seconds, finished_s, TIME_SCALE)


async def _feed(mesh: Client, tasks: int, seconds: float) -> None:
    """So many tasks in all, some each second."""
    count = max(1, round(seconds * FEED_SHARE / JOB_EVERY_S))
    began_s = trio.current_time()
    for number in range(count):
        share = tasks * (number + 1) // count - tasks * number // count
        if share:
            inputs = [TASK_ROUNDS.to_bytes(4, "little")] * share
            await mesh.submit(JobRequest(program=module_path(SPIN), name=f"heat-{number}", inputs=inputs))
        await trio.sleep_until(began_s + (number + 1) * JOB_EVERY_S)


async def _watch(
    net: Testnet, mesh: Client, rooms: dict[str, Room], tasks: int, seconds: float
) -> tuple[int, float | None]:
    """(tasks done, when all were). The heaters are asked all at once, twice a second, while work comes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, mesh, tasks, seconds)
        found = await _observe(net, rooms, tasks, seconds)
        nursery.cancel_scope.cancel()
    return found


async def _observe(net: Testnet, rooms: dict[str, Room], tasks: int, seconds: float) -> tuple[int, float | None]:
    began_s = trio.current_time()
    first: dict[str, tuple[float, float, int]] = {}
    done, finished_s = 0, None
    while (now_s := trio.current_time() - began_s) < seconds:
        statuses = await net.statuses()
        for name, status in statuses.items():
            if status is None:
                continue
            room, meter = rooms[name], status["meter"]
            room.at_s.append(now_s)
            room.temperature_c.append(status["temperature_c"])
            begin = first.setdefault(name, (meter["work_j"], meter["work_useful_j"], status["tasks_done"]))
            room.work_j, room.useful_j = meter["work_j"] - begin[0], meter["work_useful_j"] - begin[1]
            room.tasks = status["tasks_done"] - begin[2]
            room.taken = sum(status["stolen_from"].values())
        done = sum(room.tasks for room in rooms.values())
        if done >= tasks and finished_s is None:
            finished_s = now_s
        await trio.sleep(POLL_S)
    return min(done, tasks), finished_s


def figure(streets: Sequence[Street]) -> Drawing:
    """A column a way of stealing: temperatures against their setpoints, and who did how many tasks."""
    left, top, width, height, gap = 56.0, 58.0, 380.0, 230.0, 40.0
    drawing = Drawing(left + len(streets) * (width + gap), top + height + 210)
    count = len(streets[0].rooms)
    drawing.text(
        10, 22, f"{count} real heaters, ten minutes of their rooms a second: kelvin from the setpoint", size=15
    )
    deviations = [
        c - room.setpoint_c for street in streets for room in street.rooms.values() for c in room.temperature_c
    ]
    low_k, high_k = max(-8.0, min(deviations, default=-1.0)), min(4.0, max(deviations, default=1.0))
    most = max((room.tasks for street in streets for room in street.rooms.values()), default=0) or 1
    for number, street in enumerate(streets):
        x0 = left + number * (width + gap)
        row = street.row()
        drawing.text(x0, top - 8, f"stealing {NAMES[street.way]}: {row['discomfort_kh_sum']:.1f} K·h in all", size=13)

        def y(kelvin: float) -> float:
            return top + height * (high_k - min(high_k, max(low_k, kelvin))) / max(1e-9, high_k - low_k)

        for kelvin in (-0.5, 0.0, 0.5):
            drawing.line([(x0, y(kelvin)), (x0 + width, y(kelvin))], "#999999" if kelvin == 0 else "#dddddd", 0.8)
        for place, (name, room) in enumerate(street.rooms.items()):
            colour = _COLOURS[place % len(_COLOURS)]
            points = [
                (x0 + width * at_s / street.seconds, y(c - room.setpoint_c))
                for at_s, c in zip(room.at_s, room.temperature_c, strict=True)
            ]
            drawing.line(points, colour, 1.8)
            bar = top + height + 40 + 18 * place
            drawing.text(x0 + 58, bar + 10, name, size=11, anchor="end", colour=colour)
            drawing.box(x0 + 64, bar, max(0.5, (width - 140) * room.tasks / most), 12, colour)
            tasks = f"{room.tasks} task{'s' * (room.tasks != 1)}"
            drawing.text(x0 + 70 + (width - 140) * room.tasks / most, bar + 10, tasks, size=10)
        corners = [(x0, top), (x0 + width, top), (x0 + width, top + height), (x0, top + height), (x0, top)]
        drawing.line(corners, "#dddddd")
        drawing.text(
            x0 + width, top + height + 14, f"{street.seconds * TIME_SCALE / 3600:.1f} h", size=10, anchor="end"
        )
        if number == 0:
            for kelvin in (low_k, 0.0, high_k):
                drawing.text(x0 - 6, y(kelvin) + 4, f"{kelvin:+.1f} K" if kelvin else "0 K", size=10, anchor="end")
    return drawing
