"""Which rooms a test network's nodes heat: `rooms.toml`, or a default street of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..node.config import HeaterSettings, RoomSettings
from ..node.heating.control_settings import BurnTable
from ..node.settings.checks import check_printable
from ..node.settings.read import read_settings
from ..node.settings.schema import Conflict, Key
from ..node.toml import read_toml
from .errors import TestnetError

NODES_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,31}")
# Starting temperatures of the default street, °C; all below the setpoint, so that every node works.
_STREET_C = (15.0, 18.0, 16.5, 19.0, 14.0, 17.5, 15.5, 18.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPlan:
    """One node's room and heater. Its clock runs a minute a second by default, so that one can watch it get warm."""

    start_c: Annotated[float, Key("Temperature at the start, °C.", low=-60.0, high=150.0)] = 17.0
    setpoint_c: Annotated[float, Key("Temperature wanted, °C.", low=-30.0, high=120.0)] = 20.0
    outside_c: Annotated[float, Key("Temperature outside, °C.", low=-60.0, high=80.0)] = 5.0
    band_c: Annotated[float, Key("No work starts above setpoint + band, K.", low=0.01, high=50.0)] = 0.5
    watts_per_core: Annotated[float, Key("Power of one busy core, W.", low=0.1, high=10_000.0)] = 500.0
    idle_watts: Annotated[float, Key("Power of the idle machine, W.", low=0.0, high=1e6)] = 10.0
    cores: Annotated[int, Key("CPU cores for tasks.", low=1, high=4096)] = 1
    loss_w_per_k: Annotated[float, Key("Loss to the outside, W/K.", low=1e-3, high=1e6)] = 20.2
    capacity_j_per_k: Annotated[float, Key("Thermal capacity, J/K.", low=1.0, high=1e13)] = 4.62e6
    time_scale: Annotated[float, Key("How many times faster the room's clock runs.", low=0.01, high=1e6)] = 60.0
    sink: Annotated[str, Key("What is heated.", choices=("room", "tank", "pool", "loop"))] = "room"
    relay: Annotated[bool, Key("Carries connections for nodes that nobody can dial.")] = False
    hidden: Annotated[bool, Key("Nobody can dial it: it listens nowhere, and is reached through the relays.")] = False
    burn_after_s: Annotated[
        float | None,
        Key("Burn when work lacked for so long, s.", low=0.0, high=86_400.0, absent="never"),
    ] = None
    year_round: Annotated[bool, Key("The sink wants heat in summer too.")] = False
    stealing: Annotated[str, Key("`random`: for comparisons, as `node.stealing`.", choices=("heat", "random"))] = "heat"
    zone: Annotated[
        str, Key("Heat zone; nodes of one zone avoid holding the same job.", length=64, check=check_printable)
    ] = ""

    def heater(self) -> HeaterSettings:
        return HeaterSettings(
            kind="simulated",
            sink=self.sink,
            cores=self.cores,
            watts_per_core=self.watts_per_core,
            idle_watts=self.idle_watts,
            setpoint_c=self.setpoint_c,
            band_c=self.band_c,
            year_round=self.year_round,
            time_scale=self.time_scale,
            burn=BurnTable() if self.burn_after_s is None else BurnTable(enabled=True, after_s=self.burn_after_s),
            room=RoomSettings(
                loss_w_per_k=self.loss_w_per_k,
                capacity_j_per_k=self.capacity_j_per_k,
                start_c=self.start_c,
                outside_c=self.outside_c,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomsFile:
    """A whole `rooms.toml`; `NAME` is the node's name."""

    rooms: Annotated[Mapping[str, RoomPlan], Key("The rooms, one node each.", items=NODES_MAX)]

    def __post_init__(self) -> None:
        if not self.rooms:
            raise Conflict("rooms", "empty", "give one table [rooms.NAME] a node")


def load_rooms(path: Path) -> Mapping[str, RoomPlan]:
    """Raises ConfigError."""
    document = read_toml(path)
    rooms = read_settings(document, RoomsFile).rooms
    for name in rooms:
        if not _NAME.fullmatch(name):
            raise document.error(("rooms", name), "cannot be a node's name", "letters, digits, _ and -, at most 32")
    return rooms


def plan_rooms(n: int | None, rooms: Mapping[str, RoomPlan] | Path | None) -> dict[str, RoomPlan]:
    """The given rooms, filled up with default ones to `n`; 4 if nothing is given. Raises TestnetError, ConfigError."""
    if isinstance(rooms, Path):
        rooms = load_rooms(rooms)
    plans = dict(rooms or {})
    wanted = n if n is not None else len(plans) or 4
    if not 1 <= wanted <= NODES_MAX:
        raise TestnetError(f"{wanted} nodes; 1 to {NODES_MAX} are possible")
    if len(plans) > wanted:
        raise TestnetError(f"{len(plans)} rooms for {wanted} nodes; leave the number out, or give fewer rooms")
    for name in plans:
        if not _NAME.fullmatch(name):
            raise TestnetError(f'"{name}" cannot be a node\'s name: letters, digits, _ and -, at most 32')
    number = 0
    while len(plans) < wanted:
        number += 1
        if f"h{number}" not in plans:
            plans[f"h{number}"] = _default_room(number)
    return plans


def _default_room(number: int) -> RoomPlan:
    """Rooms of different temperatures; the first heats a boiler, which wants heat all year."""
    if number == 1:
        return RoomPlan(start_c=42.0, setpoint_c=55.0, outside_c=18.0, sink="tank", year_round=True)
    return RoomPlan(start_c=_STREET_C[number % len(_STREET_C)])
