"""What is heated: rooms, boilers, pools and a data centre, drawn from a seed.

A node is one heater on one sink; nodes stand in the order rooms, boilers, pools, data centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...node.heating.sinks.datacentre import DataCentre
from ...node.heating.sinks.envelope import Envelope, Window
from ...node.heating.sinks.pool import Pool
from ...node.heating.sinks.room import Room1R1C, Room2R2C
from ...node.heating.sinks.sink import HeatSink
from ...node.heating.sinks.tank import MixedTank
from ...node.heating.sinks.water import Draws
from ...node.heating.weather.perez import Plane
from ..simulator.dice import Stream, stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A computer's board: what one task at full duty draws.
WATTS_PER_SLOT = 125.0
# Houses of one type share their walls, windows and so their matrices.
HOUSES_MAX = 64
ROOMS_PER_BOILER = 50
# A boiler of 4 kW; a pool of 312 m², 60 kW; a data centre of 50 kW beside a thousand rooms.
BOILER_SLOTS = 32
POOL_M2_PER_ROOM = 0.624
POOL_SLOTS_PER_M2 = 1.54
CENTRE_SLOTS_PER_ROOM = 0.4
# What a heater is sized for: so many kelvin above the outside.
DESIGN_K = 26.0


@dataclass(frozen=True, slots=True)
class TownPlan:
    """rooms >= 1.  whole: with boilers, pools and a data centre, in proportion; else the rooms alone, of one
    capacity each."""

    rooms: int = 1000
    seed: int = 1
    whole: bool = True


@dataclass(frozen=True)
class Town:
    """One entry a node.  kinds: room, boiler, pool or data centre.  first_c: where its sink begins."""

    kinds: tuple[str, ...]
    sinks: tuple[HeatSink, ...]
    setpoint_c: Floats
    slots: Ints

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def capacity_w(self) -> Floats:
        return np.asarray(self.slots * WATTS_PER_SLOT, dtype=np.float64)

    @cached_property
    def wants_heat(self) -> NDArray[np.bool_]:
        return np.array([sink.model.wants_heat for sink in self.sinks])

    @cached_property
    def year_round(self) -> NDArray[np.bool_]:
        return np.array([kind in ("boiler", "pool") for kind in self.kinds])

    def count(self) -> str:
        """As one says it: 1,000 rooms, 20 boilers …"""
        found = {kind: self.kinds.count(kind) for kind in dict.fromkeys(self.kinds)}
        return ", ".join(f"{number:,} {kind}{'s' if number != 1 else ''}" for kind, number in found.items())


def build_town(plan: TownPlan) -> Town:
    """Equal plans give equal towns."""
    dice = stream(plan.seed, "town")
    two = 0.5 if plan.whole else 0.0
    houses = [_house(stream(plan.seed, "house", number), two) for number in range(min(plan.rooms, HOUSES_MAX))]
    rows: list[tuple[str, HeatSink, float, int]] = []
    for _ in range(plan.rooms):
        room, slots = dice.pick(houses)
        setpoint_c = dice.between(38, 43) / 2
        rows.append(("room", HeatSink(room, setpoint_c - dice.random()), setpoint_c, slots))
    if plan.whole:
        rows += _year_round(plan.rooms, dice)
        slots = max(4, round(plan.rooms * CENTRE_SLOTS_PER_ROOM))
        rows.append(("data centre", HeatSink(DataCentre(air_w_per_k=slots * WATTS_PER_SLOT / 15.0), 24.0), 24.0, slots))
    kinds, sinks, setpoints_c, counts = zip(*rows, strict=True)
    return Town(kinds, sinks, np.array(setpoints_c), np.array(counts, dtype=np.int64))


def _house(dice: Stream, two: float) -> tuple[Room1R1C | Room2R2C, int]:
    """A room of 14 to 42 m² of some standard, and the slots of its heater. two: share of those with two capacities."""
    size = dice.between(50, 150) / 100
    floor_m2 = 28.0 * size
    loss_w_per_k = 20.2 * size * dice.between(70, 140) / 100
    capacity_j_per_k = floor_m2 * dice.pick((110e3, 165e3, 260e3))
    facing = Plane(90.0, float(dice.pick((0, 90, 180, -90))))
    envelope = Envelope((Window(3.0 * size, facing),))
    gains_w = 2.0 * floor_m2
    slots = max(2, round(loss_w_per_k * DESIGN_K / WATTS_PER_SLOT))
    if not dice.chance(two):
        return Room1R1C(loss_w_per_k, capacity_j_per_k, gains_w=gains_w, envelope=envelope), slots
    room = Room2R2C(
        air_j_per_k=4e5 * size,
        mass_j_per_k=capacity_j_per_k,
        inner_w_per_k=220.0 * size,
        outer_w_per_k=0.1 * loss_w_per_k,
        vent_w_per_k=0.9 * loss_w_per_k,
        gains_w=gains_w,
        envelope=envelope,
    )
    return room, slots


def _year_round(rooms: int, dice: Stream) -> list[tuple[str, HeatSink, float, int]]:
    """Boilers of hot water for some flats each; one or two indoor pools."""
    rows: list[tuple[str, HeatSink, float, int]] = []
    for _ in range(max(1, round(rooms / ROOMS_PER_BOILER))):
        tank = MixedTank(litres=2000.0, loss_w_per_k=4.0, draws=Draws(litres_per_day=dice.between(500, 900)))
        rows.append(("boiler", HeatSink(tank, 58.0 + 2 * dice.random()), 60.0, BOILER_SLOTS))
    pools = max(1, round(rooms / 500))
    for _ in range(pools):
        surface_m2 = POOL_M2_PER_ROOM * rooms / pools
        slots = max(4, round(surface_m2 * POOL_SLOTS_PER_M2))
        pool = Pool(
            surface_m2=surface_m2,
            depth_m=1.8,
            open_from=7,
            open_until=22,
            fresh_l_per_day=20.0 * surface_m2,
            power_max_w=slots * WATTS_PER_SLOT,
        )
        rows.append(("pool", HeatSink(pool, 27.8 + 0.2 * dice.random()), 28.0, slots))
    return rows
