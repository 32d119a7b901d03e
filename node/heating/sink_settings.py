"""The tables under `[heater]` that say what a simulated sink is made of, and which weather it sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..settings.schema import Conflict, Key
from .sinks.envelope import Envelope, Window
from .sinks.loop import BoilerRack, DistrictLoop, HeatingCurve, LoopLimits
from .sinks.pool import Hall, Pool
from .sinks.room import MASS_CLASSES, Room2R2C, Room5R1C, RoomTwoElement
from .sinks.tank import LAYERS_MAX, LayeredTank, MixedTank
from .sinks.water import Disinfection, Draws
from .weather.generator import CLIMATES
from .weather.perez import Plane

KINDS = (
    *("room-1r1c", "room-2r2c", "room-5r1c", "room-vdi6007", "tank", "tank-layers"),
    *("pool", "boiler-rack", "district", "data-centre"),
)
TANKS = ("tank", "tank-layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class SunTable:
    """Windows of a room, and heat of people and devices."""

    gains_w: Annotated[float, Key("Heat of people and devices, W.", low=0.0, high=1e6)] = 0.0
    south_m2: Annotated[float, Key("Windows to the south, m².", low=0.0, high=1e5)] = 0.0
    west_m2: Annotated[float, Key("Windows to the west, m².", low=0.0, high=1e5)] = 0.0
    north_m2: Annotated[float, Key("Windows to the north, m².", low=0.0, high=1e5)] = 0.0
    east_m2: Annotated[float, Key("Windows to the east, m².", low=0.0, high=1e5)] = 0.0
    g_percent: Annotated[float, Key("Sunlight that the glass lets in, %.", low=0.0, high=100.0)] = 60.0
    frame_percent: Annotated[float, Key("Frame, of the window's area, %.", low=0.0, high=99.0)] = 25.0
    u_w_m2_k: Annotated[float, Key("Transmittance of the windows, W/m²K.", low=0.1, high=9.0)] = 1.6

    def envelope(self) -> Envelope:
        areas = {0.0: self.south_m2, 90.0: self.west_m2, 180.0: self.north_m2, -90.0: self.east_m2}
        return Envelope(
            tuple(
                Window(area_m2, Plane(90.0, azimuth), self.g_percent / 100, self.frame_percent / 100, self.u_w_m2_k)
                for azimuth, area_m2 in areas.items()
                if area_m2 > 0
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room2R2CTable:
    """For `room-2r2c`: air with furniture, and the mass of the walls."""

    air_j_per_k: Annotated[float, Key("Capacity of air and furniture, J/K.", low=1.0, high=1e12)] = 4e5
    mass_j_per_k: Annotated[float, Key("Capacity of the walls, J/K.", low=1.0, high=1e13)] = 4.2e6
    inner_w_per_k: Annotated[float, Key("Air to walls, W/K.", low=1e-3, high=1e6)] = 220.0
    outer_w_per_k: Annotated[float, Key("Walls to outside, W/K.", low=1e-3, high=1e6)] = 2.1
    vent_w_per_k: Annotated[float, Key("Air to outside: windows and ventilation, W/K.", low=0.0, high=1e6)] = 18.1

    def model(self, sun: SunTable) -> Room2R2C:
        return Room2R2C(
            self.air_j_per_k,
            self.mass_j_per_k,
            self.inner_w_per_k,
            self.outer_w_per_k,
            self.vent_w_per_k,
            gains_w=sun.gains_w,
            envelope=sun.envelope(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room5R1CTable:
    """For `room-5r1c`, of ISO 13790."""

    mass: Annotated[str, Key("How heavy it is built.", choices=tuple(MASS_CLASSES))] = "medium"
    floor_m2: Annotated[float, Key("Floor, m².", low=1.0, high=1e6)] = 28.0
    opaque_w_per_k: Annotated[float, Key("Walls, roof and floor to outside, W/K.", low=1e-3, high=1e6)] = 2.1
    window_w_per_k: Annotated[float, Key("Windows to outside, W/K.", low=0.0, high=1e6)] = 6.4
    vent_w_per_k: Annotated[float, Key("Ventilation, W/K.", low=0.0, high=1e6)] = 11.7

    def __post_init__(self) -> None:
        try:
            self.model(SunTable())
        except ValueError as error:
            raise Conflict("opaque_w_per_k", str(error)) from error

    def model(self, sun: SunTable) -> Room5R1C:
        capacity_j_m2_k, mass_per_floor = MASS_CLASSES[self.mass]
        return Room5R1C(
            self.floor_m2,
            self.opaque_w_per_k,
            self.window_w_per_k,
            self.vent_w_per_k,
            capacity_j_m2_k * self.floor_m2,
            mass_per_floor * self.floor_m2,
            gains_w=sun.gains_w,
            envelope=sun.envelope(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTwoElementTable:
    """For `room-vdi6007`. Defaults: the heavy room of its test cases."""

    outer_m2: Annotated[float, Key("Outer walls, m².", low=0.1, high=1e6)] = 10.5
    inner_m2: Annotated[float, Key("Inner walls, m².", low=0.1, high=1e6)] = 75.5
    outer_r_k_per_w: Annotated[float, Key("Surface to mass of the outer walls, K/W.", low=1e-9, high=1e3)] = 0.00436791
    rest_r_k_per_w: Annotated[float, Key("Mass of the outer walls to outside, K/W.", low=1e-9, high=1e3)] = 0.0389592
    outer_j_per_k: Annotated[float, Key("Capacity of the outer walls, J/K.", low=1.0, high=1e13)] = 1.60085e6
    inner_r_k_per_w: Annotated[float, Key("Surface to mass of the inner walls, K/W.", low=1e-9, high=1e3)] = 0.000595693
    inner_j_per_k: Annotated[float, Key("Capacity of the inner walls, J/K.", low=1.0, high=1e13)] = 1.483635e7
    vent_w_per_k: Annotated[float, Key("Ventilation, W/K.", low=0.0, high=1e6)] = 0.0
    heater_radiant_percent: Annotated[float, Key("Of the heater, that radiates, %.", low=0.0, high=100.0)] = 0.0

    def model(self, sun: SunTable) -> RoomTwoElement:
        return RoomTwoElement(
            self.outer_m2,
            self.inner_m2,
            self.outer_r_k_per_w,
            self.rest_r_k_per_w,
            self.outer_j_per_k,
            self.inner_r_k_per_w,
            self.inner_j_per_k,
            vent_w_per_k=self.vent_w_per_k,
            heater_radiant=self.heater_radiant_percent / 100,
            gains_w=sun.gains_w,
            envelope=sun.envelope(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TankTable:
    """For `tank` and `tank-layers`."""

    litres: Annotated[float, Key("Content, l.", low=1.0, high=1e8)] = 1000.0
    loss_w_per_k: Annotated[float, Key("Loss through the insulation, W/K.", low=0.0, high=1e5)] = 2.5
    ambient_c: Annotated[float, Key("Around the tank, °C.", low=-40.0, high=60.0)] = 20.0
    draws_l_per_day: Annotated[float, Key("Hot water drawn, l a day, by the EU's pattern M.", low=0.0, high=1e8)] = 0.0
    cold_c: Annotated[float, Key("Water that flows in, °C.", low=0.5, high=40.0)] = 10.0
    disinfect_c: Annotated[
        str,
        Key(
            "Daily disinfection: the whole content at 60 °C for 60 min, 65 for 4, or 70 for 2. `off`: none.",
            choices=("off", "60", "65", "70"),
        ),
    ] = "off"
    max_c: Annotated[float, Key("No more heat above this, °C.", low=20.0, high=110.0)] = 85.0
    layers: Annotated[int, Key("Layers of `tank-layers`.", low=2, high=LAYERS_MAX)] = 10
    height_m: Annotated[float, Key("Height of `tank-layers`, m.", low=0.1, high=50.0)] = 1.8
    heater_percent: Annotated[float, Key("Height of the heat's inlet, %.", low=0.0, high=100.0)] = 0.0
    sensor_percent: Annotated[float, Key("Height of the sensor, %.", low=0.0, high=100.0)] = 50.0

    @property
    def disinfection(self) -> Disinfection | None:
        return None if self.disinfect_c == "off" else Disinfection.at_level(float(self.disinfect_c))

    def model(self, layered: bool) -> MixedTank | LayeredTank:
        level = self.disinfection
        draws = Draws(self.draws_l_per_day, cold_c=self.cold_c)
        if not layered:
            return MixedTank(
                litres=self.litres,
                loss_w_per_k=self.loss_w_per_k,
                ambient_c=self.ambient_c,
                draws=draws,
                disinfection=level,
                max_c=self.max_c,
            )
        return LayeredTank(
            litres=self.litres,
            loss_w_per_k=self.loss_w_per_k,
            ambient_c=self.ambient_c,
            draws=draws,
            disinfection=level,
            max_c=self.max_c,
            layers=self.layers,
            height_m=self.height_m,
            heater_height=self.heater_percent / 100,
            sensor_height=self.sensor_percent / 100,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTable:
    """For `pool`."""

    surface_m2: Annotated[float, Key("Surface, m².", low=1.0, high=1e5)] = 312.5
    depth_m: Annotated[float, Key("Mean depth, m.", low=0.1, high=50.0)] = 1.6
    outdoors: Annotated[bool, Key("Under the sky; else in a hall.")] = False
    hall_c: Annotated[float, Key("Air of the hall, °C.", low=5.0, high=45.0)] = 29.0
    hall_humidity_percent: Annotated[float, Key("Its relative humidity, %.", low=5.0, high=100.0)] = 55.0
    activity: Annotated[float, Key("1: a busy public pool; 0.5: at a home.", low=0.0, high=5.0)] = 1.0
    open_from: Annotated[int, Key("Hour when the cover comes off.", low=0, high=24)] = 0
    open_until: Annotated[int, Key("Hour when it comes on; 0: there is no cover.", low=0, high=24)] = 0
    fresh_l_per_day: Annotated[float, Key("Fresh water, l a day.", low=0.0, high=1e8)] = 10_000.0
    max_c: Annotated[float, Key("No more heat above this, °C.", low=10.0, high=60.0)] = 32.0

    def __post_init__(self) -> None:
        if self.open_until < self.open_from:
            raise Conflict("open_until", f"{self.open_until}, before open_from = {self.open_from}")

    def model(self) -> Pool:
        return Pool(
            surface_m2=self.surface_m2,
            depth_m=self.depth_m,
            hall=None if self.outdoors else Hall(self.hall_c, self.hall_humidity_percent / 100),
            activity=self.activity,
            open_from=self.open_from,
            open_until=self.open_until,
            fresh_l_per_day=self.fresh_l_per_day,
            max_c=self.max_c,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTable:
    """For `boiler-rack` and `district`: the water, and its limits."""

    flow_l_s: Annotated[float, Key("Flow, l/s.", low=1e-3, high=1e5)] = 0.5
    supply_litres: Annotated[float, Key("Water in the supply, l.", low=1.0, high=1e9)] = 1000.0
    return_litres: Annotated[float, Key("Water in radiators and return, l.", low=1.0, high=1e9)] = 1000.0
    return_max_c: Annotated[float, Key("Warmer return water takes no heat, °C.", low=10.0, high=120.0)] = 55.0
    supply_max_c: Annotated[float, Key("Hottest supply, °C.", low=10.0, high=120.0)] = 75.0
    emitter_w_per_k: Annotated[float, Key("Radiators of the rack's building, W/K.", low=1e-2, high=1e8)] = 260.0
    building_w_per_k: Annotated[float, Key("Loss of that building, W/K.", low=1e-2, high=1e8)] = 300.0
    building_j_per_k: Annotated[float, Key("Its capacity, J/K.", low=1.0, high=1e13)] = 2e8
    curve_span_k: Annotated[float, Key("Flow over room on the coldest day, K.", low=1.0, high=99.0)] = 35.0
    curve_design_k: Annotated[float, Key("Room over outside on that day, K.", low=1.0, high=99.0)] = 27.0
    curve_exponent: Annotated[float, Key("Of the radiators.", low=1.0, high=2.9)] = 1.3
    loss_w_per_k: Annotated[float, Key("A district's pipes to the ground, each way, W/K.", low=0.0, high=1e7)] = 100.0
    base_w: Annotated[float, Key("A district's load at any time, W.", low=0.0, high=1e9)] = 20_000.0
    load_w_per_k: Annotated[float, Key("More per kelvin below 15 °C outside, W/K.", low=0.0, high=1e8)] = 2000.0
    plant_c: Annotated[float, Key("The other plant keeps the supply at, °C.", low=20.0, high=119.0)] = 65.0
    plant_w: Annotated[float, Key("Power of the other plant, W.", low=0.0, high=1e9)] = 200_000.0
    plant_gain_w_per_k: Annotated[float, Key("Its power per kelvin below, W/K.", low=0.0, high=1e8)] = 20_000.0

    def __post_init__(self) -> None:
        if self.return_max_c > self.supply_max_c:
            raise Conflict("return_max_c", "hotter than supply_max_c")
        try:
            self.district()
        except ValueError as error:
            raise Conflict("plant_gain_w_per_k", str(error)) from error

    def rack(self, sun: SunTable) -> BoilerRack:
        return BoilerRack(
            flow_l_s=self.flow_l_s,
            emitter_w_per_k=self.emitter_w_per_k,
            building_w_per_k=self.building_w_per_k,
            building_j_per_k=self.building_j_per_k,
            supply_litres=self.supply_litres,
            return_litres=self.return_litres,
            gains_w=sun.gains_w,
            curve=HeatingCurve(self.curve_span_k, self.curve_design_k, self.curve_exponent),
            loop=LoopLimits(self.return_max_c, self.supply_max_c),
        )

    def district(self) -> DistrictLoop:
        return DistrictLoop(
            flow_l_s=self.flow_l_s,
            supply_litres=self.supply_litres,
            return_litres=self.return_litres,
            loss_w_per_k=self.loss_w_per_k,
            base_w=self.base_w,
            load_w_per_k=self.load_w_per_k,
            plant_c=self.plant_c,
            plant_max_w=self.plant_w,
            plant_gain_w_per_k=self.plant_gain_w_per_k,
            loop=LoopLimits(self.return_max_c, self.supply_max_c),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """What a simulated sink is made of; its table of the same name has the numbers.

    Of a machine: `boiler-rack` if its sensor is in a loop's supply, which then follows the heating curve; `tank` if it
    is in a tank, which then is disinfected.
    """

    kind: Annotated[
        str,
        Key("Model, as in `docs/heat-sinks.md`; `room-1r1c` has its numbers in `[heater.room]`.", choices=KINDS),
    ] = "room-1r1c"
    sun: Annotated[SunTable, Key("Windows of a room, and heat of people and devices.")] = SunTable()
    room_2r2c: Annotated[Room2R2CTable, Key("For `room-2r2c`.")] = Room2R2CTable()
    room_5r1c: Annotated[Room5R1CTable, Key("For `room-5r1c`.")] = Room5R1CTable()
    room_vdi6007: Annotated[RoomTwoElementTable, Key("For `room-vdi6007`.")] = RoomTwoElementTable()
    tank: Annotated[TankTable, Key("For `tank` and `tank-layers`.")] = TankTable()
    pool: Annotated[PoolTable, Key("For `pool`.")] = PoolTable()
    loop: Annotated[LoopTable, Key("For `boiler-rack` and `district`.")] = LoopTable()

    @property
    def disinfection(self) -> Disinfection | None:
        """Of a tank, if it has one."""
        return self.tank.disinfection if self.kind in TANKS else None

    def __post_init__(self) -> None:
        if self.kind == "tank-layers":
            try:
                self.tank.model(layered=True)
            except ValueError as error:
                raise Conflict("tank", str(error), "set heater_percent = 0") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherTable:
    """Weather of a simulated sink: from a file, from a seed, or always `outside_c` of `[heater.room]`."""

    file: Annotated[Path | None, Key("EPW or TMY3 file of a year.", exists="file")] = None
    climate: Annotated[
        str | None, Key("Generated weather of a climate; instead of a file.", choices=tuple(CLIMATES))
    ] = None
    seed: Annotated[int, Key("Of generated weather.", low=0, high=2**63 - 1)] = 1

    def __post_init__(self) -> None:
        if self.file is not None and self.climate is not None:
            raise Conflict("climate", "given together with file", "keep one of the two")
