"""Is the coarse "ours" like the real thing? The same few rooms and one job, played by real machines and by the model.

The seeded simulator runs unmodified `Mesh` machines in rooms whose clock is `SPEED` times faster; the coarse model
begins with the rooms as they are when the job comes, under the same law of control, which there is proportional.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...node.heating.sinks.room import Room1R1C
from ...node.heating.sinks.sink import HeatSink
from ...node.heating.weather.conditions import Weather
from ..simulator.engine import SECOND
from ..simulator.executor import task_us
from ..simulator.plan import JobPlan, Plan
from ..simulator.world import World
from .control import Law, Thermostats
from .floor import Floor
from .physics import Physics
from .policies.ours import Ours
from .scene import Scene
from .town import WATTS_PER_SLOT, Town
from .work import Job, Work

SPEED = 120.0
# The model's steps, of the machines' time: a tenth of a task.
STEP_S = 0.1
SETPOINT_C = 20.0
# A heater's loss and capacity per watt of its power, as in the simulator's rooms.
LOSS_PER_W, CAPACITY_J_PER_K_W = 1 / 30.0, 700.0


@dataclass(frozen=True, slots=True)
class Played:
    """discomfort_kh: of all rooms.  energy_wh: made by work, per watt of a slot.  final_c: of each room."""

    discomfort_kh: float
    slot_hours: float
    tasks_done: int
    final_c: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Street:
    """As the simulator has it when the job comes: temperatures, the weather of each room, and the tasks' seconds."""

    start_c: tuple[float, ...]
    outside_c: tuple[float, ...]
    slots: int
    length_s: tuple[float, ...]


def play_machines(seed: int, nodes: int, slots: int, tasks: int, seconds: int) -> tuple[Street, Played]:
    """seconds: of the machines' time after the job came; tasks of a second on average."""
    plan = Plan(
        seed=seed,
        nodes=nodes,
        slots=slots,
        jobs=(JobPlan(tasks=tasks, task_us=SECOND),),
        room_speed=SPEED,
        active_us=0,
        stops_early=False,
    )
    with World.opened(plan) as world:
        begin_us = world.settled_us
        world.engine.run(begin_us)
        sinks = [machine.sink for machine in world.nodes if machine.sink is not None]
        start_c = tuple(sink.temperature_c for sink in sinks)
        outside_c = tuple(sink.outside_c for sink in sinks)
        done = [machine.executor.energy_uj for machine in world.nodes]
        discomfort_kh = 0.0
        for second in range(1, seconds + 1):
            world.engine.run(begin_us + second * SECOND)
            below_k = sum(max(0.0, SETPOINT_C - sink.temperature_c) for sink in sinks)
            discomfort_kh += below_k * SPEED / 3600.0
        assert not world.checkers.violations, world.checkers.violations
        energy_uj = sum(machine.executor.energy_uj for machine in world.nodes) - sum(done)
        (order,) = world.orders.values()
        lengths_s = tuple(task_us(order.job_id, index, SECOND) * SPEED / 1e6 for index in range(tasks))
        found = Played(
            discomfort_kh,
            energy_uj / 1e6 / sinks[0].watts_per_slot * SPEED / 3600.0,
            sum(machine.executor.tasks_run for machine in world.nodes),
            tuple(sink.temperature_c for sink in sinks),
        )
    return Street(start_c, outside_c, slots, lengths_s), found


def play_model(seed: int, street: Street, seconds: int) -> Played:
    """The same by the coarse model."""
    town, work = _town(street), _work(street)
    step_s = STEP_S * SPEED
    physics = Physics(town, _Always(), 0.0, step_s)  # type: ignore[arg-type]
    law = Law(full_power_k=1.0, integral_s=0.0, foresees=False, burns=False)
    scene = Scene(town, work, Floor(town, work), physics, Thermostats(town, step_s, law), step_s)
    policy = Ours(scene, seed)
    policy.arrive(np.arange(work.tasks), 0)
    discomfort_kh = 0.0
    for step in range(1, round(seconds / STEP_S) + 1):
        scene.feel()
        policy.act(scene)
        physics.step(scene.floor.run(scene.now_s, step_s))
        scene.now_s = step * step_s
        discomfort_kh += float(np.maximum(0.0, SETPOINT_C - physics.temperature_c).sum()) * step_s / 3600.0
    final_c = tuple(physics.temperature_c.tolist())
    return Played(discomfort_kh, scene.floor.counts.executed_s / 3600.0, scene.floor.finished, final_c)


def _town(street: Street) -> Town:
    """The weather is 0 °C for all; what a room's own is warmer comes in as a gain, which is the same."""
    capacity_w = street.slots * WATTS_PER_SLOT
    loss_w_per_k = capacity_w * LOSS_PER_W
    sinks = tuple(
        HeatSink(Room1R1C(loss_w_per_k, capacity_w * CAPACITY_J_PER_K_W, gains_w=loss_w_per_k * outside_c), start_c)
        for start_c, outside_c in zip(street.start_c, street.outside_c, strict=True)
    )
    count = len(sinks)
    return Town(("room",) * count, sinks, np.full(count, SETPOINT_C), np.full(count, street.slots, dtype=np.int64))


def _work(street: Street) -> Work:
    lengths_s = np.array(street.length_s)
    job = Job(0, 0.0, np.inf, 1, float(lengths_s.mean()), False, 0, 0, 0, len(lengths_s))
    none = np.zeros(len(lengths_s))
    return Work("bag", (job,), none.astype(np.int32), lengths_s, none, none + np.inf)


class _Always:
    """One weather for ever."""

    _weather = Weather(0.0)

    def hour(self, index: int) -> Weather:
        return self._weather

    def at(self, time_s: float) -> Weather:
        return self._weather.later(time_s)
