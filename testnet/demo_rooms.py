"""The rooms of the demo: a house whose clock runs ten minutes a second, so that one can watch it get warm."""

from __future__ import annotations

from .errors import TestnetError
from .rooms import RoomPlan

TIME_SCALE = 600.0
# Fewer could not lose three nodes and still keep a job on two disks.
NODES_MIN = 5
NODES_MAX = 16


def _room(start_c: float, setpoint_c: float = 20.0, watts_per_core: float = 1000.0) -> RoomPlan:
    """20 m² of light construction: 110 kJ/m²K, and 12 W/K to the outside.

    The demo's heaters share the machine's few cores, so each stands in for a whole heater: a busy core counts as 1 kW.
    """
    return RoomPlan(
        start_c=start_c,
        setpoint_c=setpoint_c,
        outside_c=8.0,
        loss_w_per_k=12.0,
        capacity_j_per_k=2.2e6,
        watts_per_core=watts_per_core,
        time_scale=TIME_SCALE,
    )


# 300 litres; it wants heat in summer too.
_BOILER = RoomPlan(
    start_c=41.0,
    setpoint_c=55.0,
    outside_c=18.0,
    loss_w_per_k=2.5,
    capacity_j_per_k=1.256e6,
    watts_per_core=2000.0,
    time_scale=TIME_SCALE,
    sink="tank",
    year_round=True,
)

# The parlour has had the sun all day and stays too warm; the kitchen cools down in the course of the demo.
HOUSE = {
    "boiler": _BOILER,
    "attic": _room(14.5),
    "kitchen": _room(20.6, 20.2),
    "bath": _room(18.0, 23.0),
    "parlour": _room(22.5),
    "study": _room(17.0),
    "nursery": _room(18.5, 21.0),
    "hall": _room(15.5, 18.0),
}


def demo_rooms(nodes: int) -> dict[str, RoomPlan]:
    """The first rooms of the house; beyond eight, guest rooms. Raises TestnetError."""
    if not NODES_MIN <= nodes <= NODES_MAX:
        raise TestnetError(f"--nodes {nodes}: {NODES_MIN} to {NODES_MAX} heaters are possible, three of them get hurt")
    rooms = dict(list(HOUSE.items())[:nodes])
    while len(rooms) < nodes:
        number = len(rooms) - len(HOUSE) + 1
        rooms[f"guest-{number}"] = _room(14.0 + number % 5)
    return rooms
