"""Rooms against published cases: VDI 6007-1 (1, 2, 7) and ASHRAE 140-2020 (600, 900, free-floating and held).

`pytest -s` on this file prints what was found, beside the limits.
"""

from __future__ import annotations

import csv
import lzma
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.node.heating.sinks.envelope import Envelope, Wall, Window
from hearthmesh.node.heating.sinks.ideal import between_w
from hearthmesh.node.heating.sinks.room import Room5R1C, RoomTwoElement
from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.weather.conditions import Weather
from hearthmesh.node.heating.weather.files import parse_weather
from hearthmesh.node.heating.weather.perez import Plane

DATA = Path(__file__).parents[3] / "data"
VDI = tomllib.loads((DATA / "heat/vdi6007.toml").read_text())
ASHRAE = tomllib.loads((DATA / "heat/ashrae140.toml").read_text())
HOUR_S = 3600.0
AIR_J_M3_K = 1.2 * 1005


def reference(case: int) -> dict[int, float]:
    with (DATA / f"heat/vdi6007_case_{case}.csv").open() as rows:
        return {int(float(row["time_s"])) // 3600 - 1: float(row["reference"]) for row in csv.DictReader(rows)}


def two_element(gains_w: float, radiant: float) -> RoomTwoElement:
    return RoomTwoElement(**VDI["room"], gains_w=gains_w, radiant_gains=radiant)


def is_day(hour: int) -> bool:
    return 6 <= hour % 24 < 18


@pytest.mark.parametrize(("case", "radiant"), [(1, 0.0), (2, 1.0)])
def test_two_element_room_passes_vdi_6007_temperatures(case: int, radiant: float) -> None:
    expected = reference(case)
    by_day, by_night = two_element(VDI["gains_w"], radiant), two_element(0.0, radiant)
    sink, weather = HeatSink(by_night, VDI["start_c"]), Weather(VDI["outside_c"])
    furthest_k = 0.0
    for hour in range(max(expected) + 1):
        sink.model = by_day if is_day(hour) else by_night
        mean_c = sink.step(0.0, weather, HOUR_S).mean_c
        if hour in expected:
            furthest_k = max(furthest_k, abs(mean_c - expected[hour]))
            assert mean_c == pytest.approx(expected[hour], abs=VDI["temperature_limit_k"]), hour
    print(f"VDI 6007-1, case {case}: at most {furthest_k:.3f} K away")


def test_two_element_room_with_a_limited_heater_passes_vdi_6007_powers() -> None:
    expected, case, parts = reference(7), VDI["case_7"], 6
    by_day, by_night = two_element(VDI["gains_w"], 1.0), two_element(0.0, 1.0)
    sink, weather, most_w = HeatSink(by_night, VDI["start_c"]), Weather(VDI["outside_c"]), case["power_max_w"]
    furthest_w = 0.0
    for hour in range(max(expected) + 1):
        sink.model, wanted_c = (by_day, case["day_c"]) if is_day(hour) else (by_night, case["night_c"])
        mean_w = 0.0
        for _ in range(parts):
            power_w = between_w(sink, wanted_c, wanted_c, weather, HOUR_S / parts, most_w, most_w)
            sink.step(power_w, weather, HOUR_S / parts)
            mean_w += power_w / parts
        if hour in expected:
            furthest_w = max(furthest_w, abs(mean_w - expected[hour]))
            assert mean_w == pytest.approx(expected[hour], abs=VDI["power_limit_w"]), hour
    print(f"VDI 6007-1, case 7: at most {furthest_w:.2f} W away")


def bestest_room(case: dict[str, Any]) -> Room5R1C:
    areas, u, window = ASHRAE["walls_m2"], ASHRAE["transmittances"], ASHRAE["window"]
    facing = {"north": 180.0, "east": -90.0, "south": 0.0, "west": 90.0}
    walls = [
        Wall(areas[name], u["wall_w_m2_k"], Plane(90.0, azimuth_deg), ASHRAE["absorptance"])
        for name, azimuth_deg in facing.items()
    ]
    walls.append(Wall(areas["roof"], u["roof_w_m2_k"], Plane(0.0), ASHRAE["absorptance"]))
    glass = Window(window["area_m2"], Plane(90.0, 0.0), window["g"], 0.0, window["u_w_m2_k"])
    kind_of = {name: name if name in ("roof", "floor") else "wall" for name in areas}
    capacities = {name: case[f"{kind}_j_m2_k"] for name, kind in kind_of.items()}
    capacity_j_per_k = sum(area * capacities[name] for name, area in areas.items())
    return Room5R1C(
        floor_m2=ASHRAE["floor_m2"],
        opaque_w_per_k=sum(area * u[f"{kind_of[name]}_w_m2_k"] for name, area in areas.items()),
        window_w_per_k=window["area_m2"] * window["u_w_m2_k"],
        vent_w_per_k=ASHRAE["air_changes_per_h"] * ASHRAE["volume_m3"] * AIR_J_M3_K / HOUR_S,
        capacity_j_per_k=capacity_j_per_k,
        mass_m2=capacity_j_per_k**2 / sum(area * capacities[name] ** 2 for name, area in areas.items()),
        surfaces_per_floor=ASHRAE["surfaces_m2"] / ASHRAE["floor_m2"],
        gains_w=ASHRAE["gains_w"],
        envelope=Envelope((glass,), tuple(walls)),
    )


def test_rooms_of_iso_13790_pass_ashrae_140_held_and_free() -> None:
    year = parse_weather(lzma.open(DATA / "weather/denver_tmy3.epw.xz", "rt").read(), "denver.epw")
    rooms = {name: bestest_room(ASHRAE[name]) for name in ("case_600", "case_900")}
    held = {name: HeatSink(room, ASHRAE["heating_c"]) for name, room in rooms.items()}
    free = {name: sink.copy() for name, sink in held.items()}
    energies_j: dict[str, list[float]] = {name: [0.0, 0.0] for name in rooms}
    temperatures_c: dict[str, list[float]] = {name: [] for name in rooms}
    # A week before January 1st makes the rooms forget where they began.
    for hour in range(-7 * 24, 8760):
        weather = year.at(hour % 8760 * HOUR_S)
        for name in rooms:
            power_w = between_w(held[name], ASHRAE["heating_c"], ASHRAE["cooling_c"], weather, HOUR_S)
            held[name].step(power_w, weather, HOUR_S)
            mean_c = free[name].step(0.0, weather, HOUR_S).mean_c
            if hour >= 0:
                temperatures_c[name].append(mean_c)
                energies_j[name][0 if power_w > 0 else 1] += abs(power_w) * HOUR_S
    for name, ranges in ASHRAE["ranges"].items():
        found = {
            "heating_mwh": energies_j[name][0] / 3.6e9,
            "cooling_mwh": energies_j[name][1] / 3.6e9,
            "free_min_c": min(temperatures_c[name]),
            "free_max_c": max(temperatures_c[name]),
        }
        print(f"ASHRAE 140, {name}:", {key: round(value, 3) for key, value in found.items()})
        assert {key: low <= found[key] <= high for key, (low, high) in ranges.items()} == dict.fromkeys(ranges, True), (
            name,
            found,
        )
