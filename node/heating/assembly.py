"""From an owner's settings to a thermostat, and from its decision to what the mesh is told."""

from __future__ import annotations

from collections.abc import Iterable

from ...protocol.events import HeatReading
from ...protocol.records import HeatDigest
from ..config import HeaterSettings
from .aims import hottest_c
from .control.burn import BurnSettings
from .control.limits import Colour, LimitSettings
from .control.mode import Mode
from .control.pi import PiSettings
from .control.power import DUTY_MIN, PowerTable
from .control.schedule import WeekSchedule
from .control.season import SeasonSettings
from .control.sensor import SensorSettings
from .control.setpoint import Reason as SetpointReason
from .control.setpoint import SetpointPlan
from .control.start import StartSettings
from .control.thermostat import Decision, ThermostatSettings
from .control.window import WindowSettings
from .control.zone import Member
from .foretell import Foretold

OVERHEAT_MARGIN_K = 5.0
# A room that was set to 15 °C does not burn when the sun brings it to 25.
OVERHEAT_LEAST_C = 35.0


def setpoint_plan(heater: HeaterSettings) -> SetpointPlan:
    schedule, plain_c = heater.schedule, heater.setpoint_c
    return SetpointPlan(
        plain_c=plain_c,
        schedule=WeekSchedule(schedule.week),
        eco_c=plain_c - schedule.eco_below_k,
        away_c=plain_c - schedule.away_below_k,
        boost_c=plain_c + schedule.boost_above_k,
        boost_s=schedule.boost_s,
        frost_c=min(schedule.frost_c, plain_c),
        low_c=plain_c - schedule.lowest_below_k,
        high_c=plain_c + schedule.highest_above_k,
        away_after_s=schedule.away_after_s,
    )


def overheat_c(heater: HeaterSettings) -> float:
    """The owner's limit, or one that no setpoint reaches, no heating curve and no disinfection."""
    if heater.safety.overheat_c is not None:
        return heater.safety.overheat_c
    highest_c = max([heater.setpoint_c + heater.schedule.highest_above_k, *_scheduled_c(heater)])
    water_c = hottest_c(heater.model)
    highest_c = highest_c if water_c is None else max(highest_c, water_c)
    return max(OVERHEAT_LEAST_C, highest_c + heater.band_c + OVERHEAT_MARGIN_K)


def _scheduled_c(heater: HeaterSettings) -> list[float]:
    return [change.setpoint_c for change in WeekSchedule(heater.schedule.week).changes]


def thermostat_settings(
    heater: HeaterSettings,
    table: PowerTable,
    *,
    sensors: int = 1,
    surface: bool = False,
    exact_sensor: bool = False,
) -> ThermostatSettings:
    """surface: it has a sensor.  exact_sensor: a simulated one, which may move as fast as its clock, or stand still."""
    sensor, safety, limits = heater.sensors, heater.safety, heater.limits
    capacity_w, plan = table.capacity_w, setpoint_plan(heater)
    return ThermostatSettings(
        plan=plan,
        pi=PiSettings(heater.gain_w_per_k or capacity_w, heater.integral_s, capacity_w),
        limits=LimitSettings(
            capacity_w=capacity_w,
            floor_c=heater.setpoint_c - limits.comfort_floor_below_k,
            idle_w=heater.idle_watts,
            least_w=table.watts(DUTY_MIN),
            margin_k=limits.comfort_floor_below_k,
            frost_c=plan.frost_c,
            rebound_share=limits.rebound_percent / 100,
            rebound_s=limits.rebound_s,
            tempo_shares={
                Colour.WHITE: limits.tempo_white_percent / 100,
                Colour.RED: limits.tempo_red_percent / 100,
            },
        ),
        table=table,
        band_k=heater.band_c,
        idle_w=heater.idle_watts,
        dwell_s=heater.dwell_s,
        open_loop_share=sensor.open_loop_percent / 100,
        sensors=sensors,
        surface=surface,
        sensor=SensorSettings(
            low_c=-1e4 if exact_sensor else sensor.lowest_c,
            high_c=1e4 if exact_sensor else sensor.highest_c,
            rate_k_per_s=1e9 if exact_sensor else sensor.jump_k_per_s,
            lost_s=sensor.lost_s,
            frozen_s=0.0 if exact_sensor else sensor.frozen_s,
            frozen_k=0.0 if exact_sensor else sensor.frozen_k,
            recover_s=0.0 if exact_sensor else sensor.recover_s,
            open_loop_s=sensor.open_loop_s,
            disagree_k=sensor.disagree_k,
        ),
        window=WindowSettings(heater.window.drop_k, heater.window.span_s, heater.window.open_max_s),
        season=SeasonSettings(
            summer_c=safety.summer_above_c,
            floor_w=safety.summer_floor_w,
            block_c=overheat_c(heater),
            surface_block_c=safety.surface_max_c,
        ),
        start=StartSettings(heater.schedule.early_max_s, heater.schedule.warm_up_k_per_h),
        guess_r_k_per_w=1 / heater.room.conductance_w_per_k,
        guess_c_j_per_k=heater.room.capacity_j_per_k,
    )


def burn_settings(heater: HeaterSettings) -> BurnSettings:
    burn = heater.burn
    return BurnSettings(burn.after_s, heater.core_count * burn.most_percent / 100 if burn.enabled else 0.0)


def heat_reading(
    decision: Decision,
    table: PowerTable,
    *,
    sink: str,
    temperature_c: float,
    setpoint_c: float,
    limit_c: float,
    foretold: Foretold,
    later_w: tuple[float, ...] = (),
    price_micro: int = 0,
) -> HeatReading:
    """What the machine is told. temperature_c: as good as it is known.  limit_c: heat beyond is waste.

    foretold, later_w: of this heater's part.  price_micro: the owner's, for heat that nobody wants.
    """
    wants = decision.deficit_w > 0
    seen_c = temperature_c if decision.believed.temperature_c is not None else decision.lent_c
    useful = seen_c is not None and seen_c <= limit_c and not decision.floored
    return HeatReading(
        deficit_w=decision.deficit_w,
        capacity_w=min(table.capacity_w, decision.most_w),
        slots=decision.work.slots,
        horizon_wh=foretold.wanted_wh if wants else 0.0,
        watts_per_slot=table.capacity_w / table.cores,
        useful=useful,
        sink=sink,
        temperature_c=_told_c(decision, temperature_c),
        buffer_wh=foretold.buffer_wh,
        hold_w=foretold.hold_w,
        later_w=later_w,
        discomfort_kh=foretold.discomfort_kh,
        price_micro=0 if useful else price_micro,
        stopped=decision.work.stopped,
        reason="" if decision.work.slots else idle_reason(decision, temperature_c, setpoint_c),
    )


def _told_c(decision: Decision, temperature_c: float) -> float:
    """0 is the word for a temperature that isn't known, so who is at 0 tells a thousandth more."""
    if decision.believed.temperature_c is None:
        return 0.0
    return temperature_c if round(temperature_c * 1000) else 0.001


def zone_members(mates: Iterable[HeatDigest]) -> list[Member]:
    """What the other heaters of a zone said. A machine that heats nothing may be of the zone, too: it is none."""
    return [
        Member(
            mate.node,
            float(mate.capacity_w),
            max(0.0, float(mate.deficit_w)),
            mate.temperature_mc / 1000 if mate.temperature_mc else None,
            works=mate.free_slots == 0,
        )
        for mate in mates
        if mate.sink != "none"
    ]


def idle_reason(decision: Decision, temperature_c: float, setpoint_c: float) -> str:
    """Why the thermostat wants no task now, the strongest reason first."""
    if decision.blocked:
        hot_c = decision.overheated_c
        return f"overheated{'' if hot_c is None else f': {hot_c:.1f} °C'}, everything is stopped"
    if decision.believed.temperature_c is None:
        seen = decision.lent_c is not None
        return "no sensor is to be believed" + (", and no other of its zone asks it for heat" if seen else "")
    if decision.target.reason is SetpointReason.OFF:
        return "switched off"
    if decision.limit.reason and decision.limit.limit_w <= 0:
        return f"no power now: {decision.limit.reason}"
    if decision.window_open:
        return "a window is open"
    if decision.mode is Mode.WARM:
        if temperature_c < setpoint_c:
            return f"the sink takes no heat now: {temperature_c:.1f} of {setpoint_c:.1f} °C"
        return f"too warm: {temperature_c:.1f} of {setpoint_c:.1f} °C"
    return f"others of its zone give the heat: {temperature_c:.1f} of {setpoint_c:.1f} °C"
