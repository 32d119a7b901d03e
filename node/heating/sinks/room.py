"""Rooms: one, or two capacities, the 5R1C of ISO 13790 and the two-element model of VDI 6007-1.

Nodes stand in the order of `names`: those with a capacity first. Heat from the heater goes into the air, but for a
radiant share in the two-element model; H is a conductance in W/K, C a capacity in J/K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ..weather.conditions import Weather
from .envelope import Envelope
from .network import Circuit, Network, conduction, loss
from .sink import Drive, Limits, LinearModel, State


@dataclass(frozen=True, slots=True)
class Comfort:
    """What a room must not leave, whatever is set: frost, and what people bear."""

    min_c: float = 7.0
    max_c: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Room(LinearModel):
    """gains_w: people and devices, constant.  envelope: where sun and sky come in."""

    gains_w: float = 0.0
    envelope: Envelope = Envelope()
    comfort: Comfort = Comfort()

    def begin(self, temperature_c: float) -> State:
        return State((temperature_c,) * self._capacities)

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(math.inf, self.comfort.min_c, self.comfort.max_c)

    @property
    def _capacities(self) -> int:
        return 1


@dataclass(frozen=True)
class Room1R1C(Room):
    """C dT/dt = P + gains - H (T - T_outside).  loss_w_per_k: H > 0.  capacity_j_per_k: C > 0."""

    loss_w_per_k: float
    capacity_j_per_k: float

    kind = "room-1r1c"
    names = ("room",)

    def __post_init__(self) -> None:
        _positive("room", self.loss_w_per_k, self.capacity_j_per_k)

    @property
    def time_constant_s(self) -> float:
        return self.capacity_j_per_k / self.loss_w_per_k

    @cached_property
    def circuit(self) -> Circuit:
        return Network((self.capacity_j_per_k,), 0, 1, (loss(0, 1, self.loss_w_per_k),)).circuit()

    def drive(self, state: State, weather: Weather) -> Drive:
        return Drive(self.circuit, (weather.outside_c,), (self.gains_w + self.envelope.gains_w(weather),), (1.0,))


@dataclass(frozen=True)
class Room2R2C(Room):
    """Air with furniture (C_air), and the envelope's mass (C_mass) between it and the outside.

    inner_w_per_k: air to mass.  outer_w_per_k: mass to outside.  vent_w_per_k: air to outside past the mass: windows
    and ventilation; may be 0.  sun_on_mass: share of the sun's gains that falls on the mass.
    """

    air_j_per_k: float
    mass_j_per_k: float
    inner_w_per_k: float
    outer_w_per_k: float
    vent_w_per_k: float = 0.0
    sun_on_mass: float = 0.5

    kind = "room-2r2c"
    names = ("air", "mass")

    def __post_init__(self) -> None:
        _positive("room", self.air_j_per_k, self.mass_j_per_k, self.inner_w_per_k, self.outer_w_per_k)
        if not 0 <= self.sun_on_mass <= 1:
            raise ValueError("a share is not between 0 and 1")

    @property
    def _capacities(self) -> int:
        return 2

    @cached_property
    def circuit(self) -> Circuit:
        links = (*conduction(0, 1, self.inner_w_per_k), loss(1, 2, self.outer_w_per_k), loss(0, 2, self.vent_w_per_k))
        return Network((self.air_j_per_k, self.mass_j_per_k), 0, 1, links).circuit()

    def drive(self, state: State, weather: Weather) -> Drive:
        sun_w = self.envelope.gains_w(weather)
        on_mass_w = sun_w * self.sun_on_mass
        return Drive(self.circuit, (weather.outside_c,), (self.gains_w + sun_w - on_mass_w, on_mass_w), (1.0, 0.0))


# ISO 13790:2008, 12.2.2 and table 12: conductances of surfaces, and capacity and mass area per floor area.
MASS_FILM_W_M2_K = 9.1
AIR_FILM_W_M2_K = 3.45
SURFACES_PER_FLOOR = 4.5
MASS_CLASSES = {"light": (110e3, 2.5), "medium": (165e3, 2.5), "heavy": (260e3, 3.0)}


@dataclass(frozen=True)
class Room5R1C(Room):
    """The simple hourly method of ISO 13790:2008, annex C, with its mass stepped exactly.

    floor_m2: A_f.  opaque_w_per_k: H_op, of walls, roof, floor.  window_w_per_k: H_w.  vent_w_per_k: H_ve.
    capacity_j_per_k: C_m.  mass_m2: A_m.  air_film_w_m2_k: h_is.  surfaces_per_floor: A_t / A_f.
    Nodes: the mass; then the surfaces and the air, without a capacity. Half of the inner gains goes into the air; what
    is left of gains and sun is divided between mass and surfaces by their areas, and a little goes back through the
    glass (C.2, C.3). Raises ValueError if the walls conduct better than the mass's surface does (H_em undefined).
    """

    floor_m2: float
    opaque_w_per_k: float
    window_w_per_k: float
    vent_w_per_k: float
    capacity_j_per_k: float
    mass_m2: float
    air_film_w_m2_k: float = AIR_FILM_W_M2_K
    surfaces_per_floor: float = SURFACES_PER_FLOOR

    kind = "room-5r1c"
    names = ("mass", "surfaces", "air")
    controlled = 2

    def __post_init__(self) -> None:
        _positive("room", self.floor_m2, self.opaque_w_per_k, self.capacity_j_per_k, self.mass_m2, self.air_film_w_m2_k)
        if self.opaque_w_per_k >= MASS_FILM_W_M2_K * self.mass_m2:
            raise ValueError("the walls conduct better than the surface of the mass")
        if self.mass_m2 > self.surfaces_m2 or self.window_w_per_k > MASS_FILM_W_M2_K * (
            self.surfaces_m2 - self.mass_m2
        ):
            raise ValueError("the mass or the windows are larger than the surfaces")

    @classmethod
    def of_class(
        cls, mass_class: str, floor_m2: float, opaque_w_per_k: float, window_w_per_k: float, vent_w_per_k: float
    ) -> Room5R1C:
        """mass_class: light, medium, heavy."""
        capacity_j_m2_k, mass_per_floor = MASS_CLASSES[mass_class]
        return cls(
            floor_m2,
            opaque_w_per_k,
            window_w_per_k,
            vent_w_per_k,
            capacity_j_m2_k * floor_m2,
            mass_per_floor * floor_m2,
        )

    @property
    def surfaces_m2(self) -> float:
        return self.surfaces_per_floor * self.floor_m2

    @cached_property
    def circuit(self) -> Circuit:
        film_w_per_k = MASS_FILM_W_M2_K * self.mass_m2
        beyond_w_per_k = 1.0 / (1.0 / self.opaque_w_per_k - 1.0 / film_w_per_k)
        links = (
            loss(0, 3, beyond_w_per_k),
            *conduction(0, 1, film_w_per_k),
            loss(1, 3, self.window_w_per_k),
            *conduction(1, 2, self.air_film_w_m2_k * self.surfaces_m2),
            loss(2, 3, self.vent_w_per_k),
        )
        return Network((self.capacity_j_per_k,), 2, 1, links).circuit()

    def drive(self, state: State, weather: Weather) -> Drive:
        half_w = self.gains_w / 2.0
        spread_w = half_w + self.envelope.gains_w(weather)
        on_mass = self.mass_m2 / self.surfaces_m2
        back = self.window_w_per_k / (MASS_FILM_W_M2_K * self.surfaces_m2)
        gains_w = (on_mass * spread_w, (1.0 - on_mass - back) * spread_w, half_w)
        return Drive(self.circuit, (weather.outside_c,), gains_w, (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class RoomTwoElement(Room):
    """VDI 6007-1: walls to the outside, and walls within; the air has no capacity.

    Outer wall: film - outer_r - outer_c - rest_r - film; inner walls: film - inner_r - inner_c. Films: convection
    convective_w_m2_k of each area; the two surfaces exchange radiation, radiative_w_m2_k over the smaller area.
    Resistances in K/W.  vent_w_per_k: air to outside.  radiant_gains: share of the gains that is radiation, and falls
    on the surfaces by their areas, as sunlight does.  heater_radiant: the same of the heater.
    """

    outer_m2: float
    inner_m2: float
    outer_r_k_per_w: float
    rest_r_k_per_w: float
    outer_j_per_k: float
    inner_r_k_per_w: float
    inner_j_per_k: float
    outer_convective_w_m2_k: float = 2.7
    inner_convective_w_m2_k: float = 2.7
    radiative_w_m2_k: float = 5.0
    outside_film_w_m2_k: float = 25.0
    vent_w_per_k: float = 0.0
    radiant_gains: float = 0.5
    heater_radiant: float = 0.0

    kind = "room-vdi6007"
    names = ("outer mass", "inner mass", "outer surface", "inner surface", "air")
    controlled = 4

    def __post_init__(self) -> None:
        _positive(
            "room",
            *(self.outer_m2, self.inner_m2, self.outer_r_k_per_w, self.rest_r_k_per_w, self.inner_r_k_per_w),
            *(self.outer_j_per_k, self.inner_j_per_k, self.outer_convective_w_m2_k, self.inner_convective_w_m2_k),
            self.outside_film_w_m2_k,
        )
        if not (0 <= self.radiant_gains <= 1 and 0 <= self.heater_radiant <= 1):
            raise ValueError("a share is not between 0 and 1")

    @property
    def _capacities(self) -> int:
        return 2

    @cached_property
    def circuit(self) -> Circuit:
        beyond_r = self.rest_r_k_per_w + 1.0 / (self.outside_film_w_m2_k * self.outer_m2)
        links = (
            loss(0, 5, 1.0 / beyond_r),
            *conduction(0, 2, 1.0 / self.outer_r_k_per_w),
            *conduction(1, 3, 1.0 / self.inner_r_k_per_w),
            *conduction(2, 3, self.radiative_w_m2_k * min(self.outer_m2, self.inner_m2)),
            *conduction(2, 4, self.outer_convective_w_m2_k * self.outer_m2),
            *conduction(3, 4, self.inner_convective_w_m2_k * self.inner_m2),
            loss(4, 5, self.vent_w_per_k),
        )
        return Network((self.outer_j_per_k, self.inner_j_per_k), 3, 1, links).circuit()

    def drive(self, state: State, weather: Weather) -> Drive:
        outer = self.outer_m2 / (self.outer_m2 + self.inner_m2)
        radiant_w = self.gains_w * self.radiant_gains + self.envelope.gains_w(weather)
        gains_w = (0.0, 0.0, outer * radiant_w, (1.0 - outer) * radiant_w, self.gains_w * (1.0 - self.radiant_gains))
        radiant = self.heater_radiant
        shares = (0.0, 0.0, outer * radiant, (1.0 - outer) * radiant, 1.0 - radiant)
        return Drive(self.circuit, (weather.outside_c,), gains_w, shares)


def _positive(what: str, *values: float) -> None:
    if not all(0 < value < math.inf for value in values):
        raise ValueError(f"a {what} needs a positive loss and a positive capacity")
