"""Sinks of all kinds, drawn by Hypothesis."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from hearthmesh.node.heating.sinks.datacentre import DataCentre
from hearthmesh.node.heating.sinks.envelope import Envelope, Wall, Window
from hearthmesh.node.heating.sinks.loop import BoilerRack, DistrictLoop
from hearthmesh.node.heating.sinks.pool import Hall, Pool
from hearthmesh.node.heating.sinks.room import Room1R1C, Room2R2C, Room5R1C, RoomTwoElement
from hearthmesh.node.heating.sinks.sink import SinkModel
from hearthmesh.node.heating.sinks.tank import LayeredTank, MixedTank
from hearthmesh.node.heating.sinks.water import Disinfection, Draws
from hearthmesh.node.heating.weather.conditions import Weather
from hearthmesh.node.heating.weather.perez import Plane

planes = st.builds(Plane, st.floats(0, 180), st.floats(-180, 180))
envelopes = st.builds(
    Envelope,
    st.tuples(st.builds(Window, st.floats(0.5, 20), planes, st.floats(0, 1), st.floats(0, 0.5), st.floats(0.5, 6))),
    st.tuples(st.builds(Wall, st.floats(1, 100), st.floats(0.1, 3), planes, st.floats(0, 1))),
) | st.just(Envelope())
gains = st.floats(0, 2000)
losses = st.floats(1.0, 500.0)
capacities = st.floats(1e5, 1e9)
draws = st.builds(Draws, st.floats(0, 5000), cold_c=st.floats(2, 20)) | st.just(Draws())
disinfections = st.none() | st.sampled_from([60.0, 65.0, 70.0]).map(Disinfection.at_level)

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "room-1r1c": st.builds(Room1R1C, losses, capacities, gains_w=gains, envelope=envelopes),
    "room-2r2c": st.builds(
        Room2R2C,
        st.floats(1e4, 1e7),
        capacities,
        losses,
        losses,
        losses | st.just(0.0),
        gains_w=gains,
        envelope=envelopes,
    ),
    "room-5r1c": st.builds(
        Room5R1C.of_class,
        st.sampled_from(["light", "medium", "heavy"]),
        st.floats(10, 200),
        st.floats(1, 100),
        st.floats(0, 100),
        st.floats(0, 100),
    ),
    "room-vdi6007": st.builds(
        RoomTwoElement,
        st.floats(5, 100),
        st.floats(5, 300),
        st.floats(1e-4, 1e-1),
        st.floats(1e-4, 1e-1),
        st.floats(1e5, 1e8),
        st.floats(1e-4, 1e-1),
        st.floats(1e5, 1e8),
        heater_radiant=st.floats(0, 1),
        radiant_gains=st.floats(0, 1),
        gains_w=gains,
        envelope=envelopes,
    ),
    "tank": st.builds(
        MixedTank, litres=st.floats(10, 1e6), loss_w_per_k=st.floats(0.1, 100), draws=draws, disinfection=disinfections
    ),
    "tank-layers": st.builds(
        LayeredTank,
        litres=st.floats(50, 1e5),
        loss_w_per_k=st.floats(0.1, 50),
        draws=draws,
        layers=st.integers(2, 12),
        heater_height=st.floats(0, 1),
        sensor_height=st.floats(0, 1),
    )
    | st.builds(
        LayeredTank,
        litres=st.floats(50, 1e5),
        loss_w_per_k=st.floats(0.1, 50),
        draws=draws,
        disinfection=disinfections,
        layers=st.integers(2, 12),
        sensor_height=st.floats(0, 1),
    ),
    "pool": st.builds(
        Pool,
        surface_m2=st.floats(10, 2000),
        depth_m=st.floats(0.5, 4),
        hall=st.none() | st.builds(Hall, st.floats(20, 35), st.floats(0.3, 0.9)),
        activity=st.floats(0, 2),
        open_until=st.sampled_from([0, 12, 22]),
        fresh_l_per_day=st.floats(0, 1e5),
        ground_w_per_k=st.floats(0, 500),
    ),
    "boiler-rack": st.builds(
        BoilerRack,
        flow_l_s=st.floats(0.05, 5),
        emitter_w_per_k=st.floats(50, 5000),
        building_w_per_k=st.floats(50, 5000),
        building_j_per_k=st.floats(1e7, 1e10),
        pipe_w_per_k=st.floats(0, 50),
        gains_w=gains,
    ),
    "district": st.builds(
        DistrictLoop,
        flow_l_s=st.floats(0.5, 50),
        supply_litres=st.floats(2000, 1e5),
        return_litres=st.floats(2000, 1e5),
        loss_w_per_k=st.floats(1, 500),
        base_w=st.floats(0, 1e5),
        load_w_per_k=st.floats(0, 1e4),
        plant_max_w=st.floats(0, 1e6),
        plant_gain_w_per_k=st.floats(0, 1e5),
    ),
    "data-centre": st.builds(DataCentre, inlet_c=st.floats(10, 30), air_w_per_k=st.floats(100, 1e5)),
}
models: st.SearchStrategy[SinkModel] = st.one_of(*KINDS.values())

weathers = st.builds(
    Weather,
    outside_c=st.floats(-30, 40),
    time_s=st.integers(0, 365 * 24 * 60).map(lambda minute: minute * 60.0),
    humidity=st.floats(0.1, 1),
    wind_m_s=st.floats(0, 15),
    sky_c=st.none() | st.floats(-50, 30),
    global_w_m2=st.floats(0, 1000),
    beam_w_m2=st.floats(0, 900),
    diffuse_w_m2=st.floats(0, 400),
    sun_height_rad=st.floats(0.05, math.pi / 2),
    sun_azimuth_rad=st.floats(-math.pi, math.pi),
)
temperatures = st.floats(-10, 90)
powers = st.floats(0, 1e5)
durations = st.floats(1.0, 5000.0)
