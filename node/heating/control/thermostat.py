"""The thermostat of one heater: from readings to tasks and duty, each step by a law of its own.

readings -> which to believe -> setpoint -> PI with feed-forward -> limits and overheating -> the zone's share -> tasks.
It needs nothing of the mesh: without news of others, the whole demand is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

from .dwell import Dwell
from .identify import Estimate, Identifier
from .limits import Limit, LimitSettings, PowerLimits
from .mode import TRANSITIONS, Mode, place
from .pi import PiController, PiSettings
from .power import DUTY_MIN, PowerLoop, PowerTable, Work, work_for
from .remembered import Remembered, Told
from .schedule import DAY_S
from .season import OverheatBlock, Season, SeasonSettings, SeasonWatch
from .sensor import Believed, Heating, HotWatch, Sample, SensorSettings, SensorSupervisor, Trust
from .setpoint import Reason, SetpointChooser, SetpointPlan, Target, Wish
from .start import CONFIDENCE_MIN, StartSettings, lead_s
from .surface import SurfaceWatch
from .window import WindowDetector, WindowSettings
from .zone import Cold, Member, Share, ZoneShare

# 1970 began on a Thursday.
_EPOCH_WEEK_S = 3 * DAY_S
# How far over its band a sink seems to be that takes no heat.
FULL_K = 1.0
# A task's duty from which on a member of a zone that gave nothing begins to give.
BEGIN_DUTY = 2 * DUTY_MIN
# Nothing is wanted then but protection from frost.
UNWANTED = (Reason.OFF, Reason.WINDOW)
# So far below what its sink is kept at, a member of a zone that has too little may heat without the others.
COLD_K = 1.0
# Heat of others that may or may not have flowed, beside what did: with more nothing is learnt.
LITTLE = 0.02
# How many times heavier than its owner's guess a sink may be that was not learnt.
UNLEARNT_DOUBT = 4.0


@dataclass(frozen=True, slots=True)
class ThermostatSettings:
    """band_k > 0: above setpoint + band_k nothing runs.  idle_w: heat of the idle machine, part of what holds the sink.

    guess_r_k_per_w, guess_c_j_per_k: the sink, until it was learnt.  open_loop_share: of the capacity, for when no
    sensor is to be believed, also while another heater of the zone sees.  surface: there is a sensor of the heater's
    surface, which has to be believed too.
    """

    plan: SetpointPlan
    pi: PiSettings
    limits: LimitSettings
    table: PowerTable
    band_k: float
    idle_w: float = 0.0
    dwell_s: float = 0.0
    open_loop_share: float = 0.2
    sensors: int = 1
    sensor: SensorSettings = SensorSettings()
    surface: bool = False
    window: WindowSettings = WindowSettings(drop_k=0.0, span_s=300.0, open_max_s=1800.0)
    season: SeasonSettings = SeasonSettings()
    start: StartSettings = StartSettings(lead_max_s=0.0, rate_k_per_h=1.0)
    guess_r_k_per_w: float = 1 / 20.2
    guess_c_j_per_k: float = 4.62e6


@dataclass(frozen=True, slots=True)
class Inputs:
    """now_s: of the sink's clock, which never goes back.  wall_s: unix time.  utc_offset_s: of local time.

    asleep_s: how long the machine slept since it was started, which now_s does not count.
    samples: one of each sensor.  power_w: mean heat into the sink since the last update, idle power included.
    others: those alive in the zone.  The rest is None where nothing tells.
    aim: at which temperature the sink has to be for a setpoint, by a heating curve or for a disinfection; None: at it.
    curve: of the aim what lasts, by which the floor of comfort goes as well.
    full: it takes no heat now, however cold it is.
    """

    now_s: float
    wall_s: float
    samples: tuple[Sample | None, ...]
    power_w: float
    utc_offset_s: float = 0.0
    outside_c: float | None = None
    surface: Sample | None = None
    present: bool | None = None
    contact_open: bool | None = None
    others: Sequence[Member] = ()
    aim: Callable[[float], float] | None = None
    curve: Callable[[float], float] | None = None
    full: bool = False
    asleep_s: float = 0.0

    @property
    def steady_s(self) -> float:
        """By the clock of now_s, and what the machine slept: what was told to end after a time ends by this one."""
        return self.now_s + self.asleep_s


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do until the next update.

    request_w: wanted for the whole sink, before zone and dwell.  granted_w: this heater's part of it.
    deficit_w: the same without summer's floor, or how far above the setpoint it is, as negative watts.
    heat_load: cores that make the deficit's watts, whatever they compute.
    lifted_k: how far above the setpoint the sink is kept, by a heating curve or for a disinfection.
    surface_c: of the heater's surface, if it is to be believed.
    lent_c: without a sensor to believe, the warmest temperature that others of the zone see.
    overheated_c: what blocks it shows, believed or not, of the sink or else of its surface; None also where unknown.
    most_w: what this heater can give and tells that it can: its capacity, or less while its surface is not known.
    """

    target: Target
    believed: Believed
    mode: Mode
    request_w: float
    granted_w: float
    deficit_w: float
    work: Work
    limit: Limit
    season: Season = Season.WINTER
    blocked: bool = False
    window_open: bool = False
    heat_load: float = 0.0
    alarms: tuple[str, ...] = field(default=())
    lifted_k: float = 0.0
    surface_c: float | None = None
    lent_c: float | None = None
    most_w: float = math.inf
    overheated_c: float | None = None

    @property
    def aim_c(self) -> float:
        """What the sink is kept at."""
        return self.target.setpoint_c + self.lifted_k

    @property
    def floored(self) -> bool:
        """Summer's floor runs though nothing is wanted: waste, also inside the band."""
        return self.granted_w > 0 and self.deficit_w <= 0


class Thermostat:
    """Call `update` each control period, and `wish` in between; the next update obeys it."""

    def __init__(self, settings: ThermostatSettings) -> None:
        self.settings = settings
        self.limits = PowerLimits(settings.limits)
        self.loop = PowerLoop(settings.table)
        self.mode = Mode.WARM
        self._identifier = Identifier(settings.guess_r_k_per_w, settings.guess_c_j_per_k)
        self._chooser = SetpointChooser(settings.plan)
        self._supervisor = SensorSupervisor(settings.sensor, settings.sensors)
        self._window = WindowDetector(settings.window)
        self._hot = HotWatch(settings.sensor, settings.season.block_c, settings.sensors)
        self._block = OverheatBlock(settings.season)
        self._surface = _surface_watch(settings) if settings.surface else None
        self._season = SeasonWatch(settings.season)
        self._pi = PiController(settings.pi)
        self._dwell = Dwell(settings.dwell_s)
        self._last_s: float | None = None
        # The last temperature that was believed: without a sensor it may forbid heat, and never asks for any.
        self._seen_c: float | None = None
        self._zone: ZoneShare | None = None
        self._scale: float | None = 1.0
        # What the zone wanted last; None where there is nothing to go on from.
        self._request_w: float | None = None

    @property
    def shares(self) -> bool:
        """Whether the demand is shared with others of a zone."""
        return self._zone is not None

    def join_zone(self, node: bytes, period_s: float) -> None:
        """From now on the demand is shared with the others that `Inputs.others` names."""
        self._zone = ZoneShare(node, self.settings.pi.capacity_w, period_s)

    @property
    def estimate(self) -> Estimate:
        """What was learnt of the sink."""
        return self._identifier.estimate()

    @property
    def wished(self) -> Wish:
        return self._chooser.wish

    def wish(self, wish: Wish, inputs: Inputs, setpoint_c: float | None = None) -> None:
        """A hand on the dial: no dwell time stands in its way. Raises ValueError for a setpoint that is no number."""
        self._chooser.choose(wish, inputs.steady_s, setpoint_c=setpoint_c, local_s=_local_s(inputs))
        self._dwell.release()

    @property
    def set_while_off_c(self) -> float | None:
        """What `set_while_off` was told since it was switched off."""
        return self._chooser.set_while_off_c

    def set_while_off(self, setpoint_c: float) -> None:
        """A temperature for when it is on again; only while it is off."""
        self._chooser.set_while_off(setpoint_c)

    def remember(self, inputs: Inputs) -> Remembered:
        """What `recall` goes on from, in another life."""
        boost_until_s = self._chooser.boost_until_s
        boost_left_s = None if boost_until_s is None else boost_until_s - inputs.steady_s
        told = Told(self._chooser.chosen, boost_left_s, self.limits.kept(inputs.steady_s))
        return Remembered(told, self._identifier.learnt(), self._season.kept(), self._supervisor.steps_k)

    def recall(self, remembered: Remembered, inputs: Inputs, elapsed_s: float) -> None:
        """Go on from what was so elapsed_s >= 0 ago. What is over by now is over; what is old is known less well."""
        if remembered.learnt is not None:
            self._identifier.recall(remembered.learnt, elapsed_s)
        if remembered.season is not None:
            self._season.recall(remembered.season, elapsed_s)
        self._supervisor.recall(remembered.steps_k)
        told = remembered.told
        if told is not None:
            left_s = None if told.boost_left_s is None else told.boost_left_s - elapsed_s
            self._chooser.recall(told.chosen, left_s, inputs.steady_s, _local_s(inputs))
            self.limits.recall(told.limits, inputs.steady_s, elapsed_s)

    @property
    def told(self) -> tuple[Hashable, ...]:
        """Another one whenever it was told something else, or something of that is over."""
        colours = tuple(sorted(self.limits.colours.items()))
        return (self._chooser.chosen, self._chooser.boost_until_s, self.limits.windows, colours)

    @property
    def orders(self) -> int:
        """How often it was told something in this life; not as time passes."""
        return self._chooser.orders + self.limits.orders

    def update(self, inputs: Inputs) -> Decision:
        settings = self.settings
        # All count on no more of a heater without a sensor than it may give unseen.
        inputs = replace(inputs, others=[self._trusted(member) for member in inputs.others])
        duration_s = 0.0 if self._last_s is None else inputs.now_s - self._last_s
        self._last_s = inputs.now_s
        estimate = self._identifier.estimate()
        trust = self._supervisor.trust
        believed = self._supervisor.update(inputs.samples, inputs.now_s, _heating(inputs, estimate))
        temperature_c = believed.temperature_c
        if believed.trust is not trust:
            self._window.begin_anew()
        window_open = self._window.update(inputs.now_s, temperature_c, inputs.contact_open)
        self._learn(inputs, temperature_c, window_open)
        lent_c = None if temperature_c is not None else _warmest_c(inputs.others)
        target = self._target(inputs, lent_c if temperature_c is None else temperature_c, estimate, window_open)
        season = self._season.update(inputs.now_s, inputs.outside_c)
        lifted_k = _lifted_k(inputs, target, summer=self._season.is_surely_summer(inputs.now_s))
        shown_c = self._surface.update(inputs.surface, inputs.now_s, inputs.power_w) if self._surface else None
        # Too hot counts, whatever is wrong with the sensor that says so.
        blocked = self._block.update(self._hot.update(inputs.samples, inputs.now_s, temperature_c), shown_c)
        if blocked:
            self._window.begin_anew()
        limit = self.limits.update(
            inputs.steady_s,
            inputs.wall_s,
            inputs.wall_s + inputs.utc_offset_s,
            self._above_floor_c(inputs, temperature_c, target.setpoint_c),
            target.setpoint_c,
        )
        if self._surface is not None:
            limit = self._surface.bounded(limit)
        self.limits.drew(inputs.now_s, max(0.0, inputs.power_w - settings.idle_w))
        decision = Decision(
            target, believed, self.mode, 0.0, 0.0, 0.0, Work(0, DUTY_MIN), limit, season, blocked, window_open
        )
        surface_c = self._surface.temperature_c if self._surface else None
        most_w = self._most_w(sees=temperature_c is not None)
        decision = replace(
            decision,
            lifted_k=lifted_k,
            surface_c=surface_c,
            lent_c=lent_c,
            most_w=most_w,
            overheated_c=self._block.reading_c,
        )
        if temperature_c is None:
            decision = self._blind(decision, inputs, estimate)
        else:
            self._seen_c = temperature_c
            decision = self._seeing(decision, inputs, temperature_c, estimate, duration_s)
        return self._worked(decision, inputs.now_s)

    # -- steps ---------------------------------------------------------------------------------------------

    def _learn(self, inputs: Inputs, temperature_c: float | None, window_open: bool) -> None:
        # Who has no work for it gives nothing of what it claims, or burns it.
        power_w = inputs.power_w + sum(member.claim_w for member in inputs.others if member.works)
        doubtful_w = sum(member.claim_w for member in inputs.others if not member.works)
        if temperature_c is None or window_open or inputs.outside_c is None or doubtful_w > LITTLE * power_w:
            self._identifier.restart()
        else:
            self._identifier.update(inputs.now_s, temperature_c, inputs.outside_c, power_w)

    def _target(self, inputs: Inputs, temperature_c: float | None, estimate: Estimate, window_open: bool) -> Target:
        local_s = _local_s(inputs)
        target = self._chooser.target(inputs.steady_s, local_s, present=inputs.present, window_open=window_open)
        if target.rise_to_c is None or temperature_c is None or window_open:
            return target
        rise_to_c = target.rise_to_c if inputs.aim is None else inputs.aim(target.rise_to_c)
        # Of all heaters of the sink: what they claim now says nothing of what they could.
        power_w = self.settings.idle_w + self.settings.pi.capacity_w + sum(each.capacity_w for each in inputs.others)
        lead = lead_s(self.settings.start, estimate, temperature_c, rise_to_c, inputs.outside_c, power_w)
        return self._chooser.target(inputs.steady_s, local_s, present=inputs.present, lead_s=lead)

    def _above_floor_c(self, inputs: Inputs, temperature_c: float | None, setpoint_c: float) -> float | None:
        """As far from the floor of comfort as the sink is from what a curve makes of it; a disinfection raises none."""
        if temperature_c is None or inputs.curve is None:
            return temperature_c
        floor_c = self.limits.floor_c(setpoint_c)
        return temperature_c - (inputs.curve(floor_c) - floor_c)

    def _hold_w(self, setpoint_c: float, outside_c: float | None, estimate: Estimate) -> float | None:
        """Heat to add to the idle machine's, so that a temperature stays; None while too little is known."""
        if outside_c is None or estimate.confidence < CONFIDENCE_MIN:
            return None
        return max(0.0, estimate.hold_w(setpoint_c, outside_c) - self.settings.idle_w)

    def _blind(self, decision: Decision, inputs: Inputs, estimate: Estimate) -> Decision:
        """Without a sensor: a little of what a mate asks for that sees; without one, for a while, then nothing.

        No more than a little on another's word either: nothing here would tell that it is wrong.
        """
        if decision.lent_c is not None:
            self._seen_c = decision.lent_c
        self._place(decision, None if self._seen_c is None else self._felt_c(decision, inputs, self._seen_c))
        heats = self.mode is Mode.HEATING and not decision.blocked
        limit_w = min(self._unseen_w, decision.limit.limit_w) if heats else 0.0
        request_w = 0.0 if decision.lent_c is not None else self._open_loop_w(decision, inputs, estimate)
        granted_w = min(request_w, limit_w)
        self._pi.forget()
        if self._zone is not None:
            granted_w, found = self._share(self._zone, decision, inputs, request_w, limit_w, None)
            request_w = found.demand_w
            self._request_w = request_w if found.follows else None
            if found.follows:
                # Who sees again goes on from what the zone wants then.
                self._scale = None
        return replace(decision, mode=self.mode, request_w=request_w, granted_w=granted_w, deficit_w=granted_w)

    @property
    def _unseen_w(self) -> float:
        """The most that this heater gives without a sensor."""
        return self.settings.open_loop_share * self.settings.pi.capacity_w

    def _most_w(self, *, sees: bool) -> float:
        """As `Decision` has it. Of who sees nothing all count on no more than a share, so that is not taken twice."""
        capacity_w = self.settings.pi.capacity_w
        most_w = self._surface.most_w if self._surface is not None else math.inf
        return capacity_w if not sees and most_w >= self._unseen_w else min(capacity_w, most_w)

    def _trusted(self, member: Member) -> Member:
        share = 1.0 if member.temperature_c is not None else self.settings.open_loop_share
        return replace(member, capacity_w=share * member.capacity_w)

    def _felt_c(self, decision: Decision, inputs: Inputs, temperature_c: float) -> float:
        """A sink that takes no heat feels warm, however cold it is."""
        return max(temperature_c, decision.aim_c + self.settings.band_k + FULL_K) if inputs.full else temperature_c

    def _place(self, decision: Decision, temperature_c: float | None) -> None:
        """Whether it heats, by where a temperature lies; never without one."""
        if temperature_c is None:
            self.mode = Mode.WARM
        else:
            self.mode = TRANSITIONS[self.mode, place(temperature_c, decision.aim_c, self.settings.band_k)]

    def _open_loop_w(self, decision: Decision, inputs: Inputs, estimate: Estimate) -> float:
        """Power for the sink that flows unseen: what holds a cautious temperature, within bounds; in summer nothing."""
        if decision.believed.trust is not Trust.OPEN_LOOP or decision.blocked or self.mode is not Mode.HEATING:
            return 0.0
        cautious_c = min(decision.target.setpoint_c, self.settings.plan.eco_c)
        if decision.season is Season.SUMMER or (inputs.outside_c is not None and inputs.outside_c >= cautious_c):
            return 0.0
        most_w = self._unseen_w + sum(each.capacity_w for each in inputs.others)
        held_c = cautious_c if inputs.curve is None else inputs.curve(cautious_c)
        hold_w = self._hold_w(held_c, inputs.outside_c, estimate)
        return most_w if hold_w is None else min(hold_w, most_w)

    def _seeing(
        self, decision: Decision, inputs: Inputs, temperature_c: float, estimate: Estimate, duration_s: float
    ) -> Decision:
        capacity_w, setpoint_c = self.settings.pi.capacity_w, decision.aim_c
        temperature_c = self._felt_c(decision, inputs, temperature_c)
        self._place(decision, temperature_c)
        heats = self.mode is Mode.HEATING and not decision.blocked
        error_k = setpoint_c - temperature_c
        # The controller works in its own heater's watts; the zone wants as many times that as it has more capacity.
        others_w = sum(member.capacity_w for member in inputs.others)
        scale = 1.0 + others_w / capacity_w
        feed_w = (self._hold_w(setpoint_c, inputs.outside_c, estimate) or 0.0) / scale
        limit_w = decision.limit.limit_w if heats else 0.0
        dissents = self._zone is not None and self._zone.dissents
        if scale != self._scale:
            if self._request_w is not None and not dissents:
                # A member came or went: what the zone wants is still the same.
                self._pi.track(error_k, feed_w, self._request_w / scale)
            self._scale = scale
        lacks_w = capacity_w - self._most_w(sees=True)
        most_w = capacity_w - lacks_w / scale if inputs.others and heats else limit_w
        request_w = scale * self._pi.update(error_k, duration_s, feed_w, most_w)
        granted_w = min(request_w, limit_w)
        self._request_w = request_w
        if self._zone is not None:
            needs_w = self._needs_w(decision, temperature_c, feed_w, limit_w, dissents=dissents)
            granted_w, found = self._share(self._zone, decision, inputs, request_w, limit_w, temperature_c, needs_w)
            if self._zone.dissents:
                request_w = max(request_w, scale * needs_w)
                if not dissents:
                    # What was integrated so far was another's.
                    self._pi.forget()
            self._request_w = found.demand_w
            if found.follows:
                # Another one integrates for this zone; be as it is, so that taking over one day makes no bump.
                self._pi.track(error_k, feed_w, found.demand_w / scale)
        excess_w = max(-capacity_w, min(0.0, self.settings.pi.gain_w_per_k * error_k))
        deficit_w = -capacity_w if decision.blocked else granted_w if granted_w > 0 else excess_w
        floored = decision.season is Season.SUMMER and decision.target.reason not in UNWANTED
        if floored and not decision.blocked and not inputs.full:
            granted_w = max(granted_w, min(self.settings.season.floor_w, decision.limit.limit_w))
        return replace(decision, mode=self.mode, request_w=request_w, granted_w=granted_w, deficit_w=deficit_w)

    def _needs_w(
        self, decision: Decision, temperature_c: float, feed_w: float, limit_w: float, *, dissents: bool
    ) -> float:
        """What this heater would give alone where the sink is too cold for waiting on others, else 0.

        Too cold is COLD_K below what it is kept at, or the floor of comfort, if that is higher; until warmer by half.
        """
        if temperature_c > self._cold(decision).begins_c + (COLD_K / 2 if dissents else 0.0):
            return 0.0
        wanted_w = self.settings.pi.gain_w_per_k * (decision.aim_c - temperature_c) + feed_w
        return max(0.0, min(limit_w, wanted_w))

    def _cold(self, decision: Decision) -> Cold:
        floor_c = self.limits.floor_c(decision.target.setpoint_c) + decision.lifted_k
        return Cold(max(decision.aim_c - COLD_K, min(floor_c, decision.aim_c - COLD_K / 2)), floor_c)

    def _share(
        self,
        zone: ZoneShare,
        decision: Decision,
        inputs: Inputs,
        request_w: float,
        limit_w: float,
        temperature_c: float | None,
        needs_w: float = 0.0,
    ) -> tuple[float, Share]:
        """Watts that this heater gives, and its share."""
        gave = zone.own.claim_w > 0
        most_w = self._most_w(sees=temperature_c is not None)
        zone.own = self._trusted(Member(zone.own.node, most_w, zone.own.claim_w, temperature_c))
        cold = self._cold(decision)
        found = zone.update(inputs.now_s, request_w, inputs.others, needs_w=needs_w, cold=cold)
        granted_w = self._enough_w(min(found.claim_w, limit_w), gave)
        zone.claim(granted_w)
        return granted_w, found

    def _enough_w(self, granted_w: float, gave: bool) -> float:
        """Of a zone's demand: no less than one task makes, else nothing; begun at twice that, so that it lasts."""
        least_load = DUTY_MIN if gave else BEGIN_DUTY
        return granted_w if self.loop.asked(granted_w) >= least_load else 0.0

    def _worked(self, decision: Decision, now_s: float) -> Decision:
        """Tasks and duty. What is stopped for safety stops at once; all else keeps its dwell time."""
        load = self.loop.asked(decision.granted_w)
        wanted = work_for(load, self.settings.table.cores)
        ceiling = None
        heats = self.mode is Mode.HEATING and decision.believed.temperature_c is not None and not decision.blocked
        if heats and not wanted.slots and self._zone is None:
            wanted = work_for(DUTY_MIN, self.settings.table.cores) if decision.limit.limit_w > 0 else wanted
        if not heats or decision.limit.reason:
            ceiling = wanted.slots
        elif self._zone is not None and not decision.floored:
            # Others count on what is claimed, so tasks make no more than that; their least duty bounds their number.
            ceiling = int(load / DUTY_MIN + 1e-9)
        slots = self._dwell.update(wanted.slots, now_s, ceiling=ceiling)
        duty = min(1.0, max(DUTY_MIN, load / slots)) if slots else DUTY_MIN
        alarms = (*decision.believed.alarms, *(self._surface.alarms if self._surface else ()))
        if decision.blocked:
            alarms = (*alarms, "too hot: everything is stopped")
        if self._zone is not None and self._zone.complains:
            alarms = (*alarms, "too cold: others of its zone ask for less than it takes, so it heats by its own sensor")
        heat_load = self.loop.load(max(0.0, decision.deficit_w))
        work = Work(slots, duty, self._most_load(decision))
        return replace(decision, work=work, heat_load=heat_load, alarms=alarms)

    def _most_load(self, decision: Decision) -> float:
        """A block, and a limit, are of what runs already as well."""
        if decision.blocked:
            return 0.0
        return self.loop.asked(decision.limit.limit_w) if decision.limit.reason else math.inf


def _surface_watch(settings: ThermostatSettings) -> SurfaceWatch:
    capacity_w = settings.pi.capacity_w
    return SurfaceWatch(
        settings.sensor, capacity_w, settings.season.surface_block_c, settings.open_loop_share * capacity_w
    )


def _warmest_c(others: Sequence[Member]) -> float | None:
    return max((each.temperature_c for each in others if each.temperature_c is not None), default=None)


def _lifted_k(inputs: Inputs, target: Target, *, summer: bool) -> float:
    """Where it is off, or a window is open, a curve holds all the same: it is the building that must not freeze.

    Not in summer while the weather is not known: the curve is the coldest day's then.
    """
    if target.reason in UNWANTED and summer and inputs.outside_c is None:
        return 0.0
    aim = inputs.curve if target.reason in UNWANTED else inputs.aim
    return 0.0 if aim is None else aim(target.setpoint_c) - target.setpoint_c


def _heating(inputs: Inputs, estimate: Estimate) -> Heating:
    """What the sensors have to follow. What others of a zone give is their word alone."""
    if inputs.others or estimate.confidence < CONFIDENCE_MIN:
        return Heating(inputs.power_w, estimate, doubt=UNLEARNT_DOUBT)
    return Heating(inputs.power_w, estimate, inputs.outside_c)


def _local_s(inputs: Inputs) -> float:
    """Since the Monday before 1970, 0:00."""
    return inputs.wall_s + inputs.utc_offset_s + _EPOCH_WEEK_S
