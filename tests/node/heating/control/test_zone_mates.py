"""What a zone's others say may not freeze a room, nor spoil what is learnt of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hearthmesh.node.heating.control.sensor import Sample, SensorSettings
from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.control.thermostat import Decision, Inputs, Thermostat, ThermostatSettings
from hearthmesh.node.heating.control.zone import Member, ZoneShare
from tests.node.heating.control.lumped import Lumped
from tests.node.heating.control.test_thermostat import HOUR_S, MINUTE_S, MONDAY_S, SETTINGS

EXACT = replace(SETTINGS, sensor=SensorSettings(frozen_s=0.0), dwell_s=0.0)
COLD = "too cold: others of its zone ask for less than it takes, so it heats by its own sensor"


class Heater:
    """A thermostat with its sensor in a room; offset_k: by how much that shows more."""

    def __init__(self, room: Lumped, offset_k: float = 0.0, settings: ThermostatSettings = EXACT) -> None:
        self.room, self.offset_k = room, offset_k
        self.thermostat = Thermostat(settings)
        self.power_w = 0.0
        self.decision: Decision | None = None

    @property
    def alarms(self) -> tuple[str, ...]:
        assert self.decision is not None
        return self.decision.alarms


class Zone:
    """Heaters that take each other for mates, wherever they stand; they hear what was told in the step before.

    liars: tell what they want to, each second anew.
    """

    def __init__(self, outside_c: float, *heaters: Heater, liars: tuple[Callable[[float], Member], ...] = ()) -> None:
        self.outside_c, self.liars = outside_c, liars
        # What liars are called sorts before and between them.
        self.heaters = {bytes([10 * number + 10]): heater for number, heater in enumerate(heaters)}
        for node, heater in self.heaters.items():
            heater.thermostat.join_zone(node, 10.0)
        self.told: dict[bytes, Member] = {}
        self.now_s = 0.0
        self.recent_w = [0.0]

    def step(self, duration_s: float) -> None:
        said = [liar(self.now_s) for liar in self.liars]
        decisions: dict[bytes, Decision] = {}
        for node, heater in self.heaters.items():
            decisions[node] = heater.decision = heater.thermostat.update(
                Inputs(
                    now_s=self.now_s,
                    wall_s=MONDAY_S + self.now_s,
                    samples=(Sample(heater.room.temperature_c + heater.offset_k, self.now_s),),
                    power_w=heater.power_w,
                    others=[*said, *(member for name, member in self.told.items() if name != node)],
                )
            )
        self.told = {
            node: Member(node, each.most_w, max(0.0, each.deficit_w), each.believed.temperature_c)
            for node, each in decisions.items()
        }
        for node, heater in self.heaters.items():
            heater.power_w = decisions[node].work.slots * decisions[node].work.duty * 100.0
        self.recent_w = [*self.recent_w[-3:], max(each.request_w for each in decisions.values())]
        assert sum(each.power_w for each in self.heaters.values()) <= 1.05 * max(self.recent_w) + 1e-6
        for room in {id(each.room): each.room for each in self.heaters.values()}.values():
            power_w = sum(each.power_w for each in self.heaters.values() if each.room is room)
            room.step(power_w, self.outside_c, duration_s)
        self.now_s += duration_s

    def hours(self, count: float, step_s: float = MINUTE_S) -> list[float]:
        """Temperatures of the first heater's room."""
        room, seen_c = next(iter(self.heaters.values())).room, []
        for _ in range(round(count * HOUR_S / step_s)):
            self.step(step_s)
            seen_c.append(room.temperature_c)
        return seen_c


def room(start_c: float) -> Lumped:
    return Lumped(20.0, 4.62e6, start_c)


def says(node: int, capacity_w: float, claim_w: float, temperature_c: float | None = 20.0) -> Callable[[float], Member]:
    return lambda _: Member(bytes([node]), capacity_w, claim_w, temperature_c)


def grows(now_s: float) -> Member:
    """Each minute there is a heater of twice the size."""
    return Member(bytes([1]), 10.0 * 2.0 ** (now_s / MINUTE_S % 40), 1.0, 20.0)


@pytest.mark.parametrize(
    "liar",
    [
        says(1, 10_000.0, 10.0),
        says(1, 440.0, 20.0),
        says(99, 10_000.0, 1e6),
        says(99, 10_000.0, 1e6, None),
        says(1, 1e9, 0.0),
        grows,
    ],
    ids=["large", "elsewhere", "greedy", "blind", "boundless", "growing"],
)
def test_no_mates_word_takes_a_rooms_heat_away(liar: Callable[[float], Member]) -> None:
    heater = Heater(room(10.0))
    zone = Zone(0.0, heater, liars=(liar,))
    zone.hours(96)
    seen_c = zone.hours(48)
    assert all(18.8 < temperature_c < 20.2 for temperature_c in seen_c)


def test_a_heater_that_dissents_says_so_where_it_gets_no_warmer() -> None:
    heater = Heater(room(18.0))
    zone = Zone(-7.5, heater, liars=(says(1, 10_000.0, 10.0),))
    zone.hours(0.08)
    assert COLD not in heater.alarms and heater.power_w == 0.0
    zone.hours(0.1)
    assert COLD not in heater.alarms and heater.power_w == 500.0
    # What it gives is what the room loses.
    zone.hours(1.0)
    assert COLD in heater.alarms and heater.power_w == 500.0
    heater.room.temperature_c = 19.6
    zone.step(MINUTE_S)
    assert COLD not in heater.alarms and heater.power_w == 0.0


def test_a_heater_that_dissents_says_so_at_the_floor_of_comfort_at_once() -> None:
    heater = Heater(room(15.0))
    zone = Zone(0.0, heater, liars=(says(1, 10_000.0, 10.0),))
    zone.hours(0.2)
    assert COLD in heater.alarms and heater.power_w == 500.0


def test_dissent_ends_when_the_share_is_enough() -> None:
    member = ZoneShare(bytes([9]), 500.0, period_s=10.0)
    member.own = replace(member.own, temperature_c=18.0)

    def seconds(count: int, leader: Member) -> None:
        nonlocal now_s
        for _ in range(count):
            member.update(now_s, 400.0, [leader], needs_w=400.0)
            now_s += 1.0

    now_s = 0.0
    seconds(400, says(1, 10_000.0, 10.0)(0.0))
    assert member.dissents and member.own.claim_w == 400.0
    # One that claims as much as it can leads to full power here as well.
    seconds(30, says(1, 500.0, 500.0)(0.0))
    assert member.dissents
    seconds(40, says(1, 500.0, 500.0)(0.0))
    assert not member.dissents and member.own.claim_w >= 400.0


def told_hours(zone: Zone, hours: float) -> dict[bytes, float]:
    """For how many hours each heater says that it is too cold."""
    told = dict.fromkeys(zone.heaters, 0.0)
    for _ in range(round(hours * 60)):
        zone.step(MINUTE_S)
        for node, heater in zone.heaters.items():
            told[node] += (COLD in heater.alarms) / 60
    return told


@pytest.mark.parametrize("by_hand", [0, 1])
def test_one_of_two_radiators_that_is_turned_up_is_no_alarm(by_hand: int) -> None:
    hall = room(20.0)
    heaters = [Heater(hall), Heater(hall)]
    zone = Zone(2.0, *heaters)
    zone.hours(2)
    inputs = Inputs(now_s=zone.now_s, wall_s=MONDAY_S + zone.now_s, samples=(None,), power_w=0.0)
    heaters[by_hand].thermostat.wish(Wish.MANUAL, inputs, 22.0)
    assert set(told_hours(zone, 12).values()) == {0.0}
    assert hall.temperature_c > 21.0


@pytest.mark.parametrize("offsets_k", [(0.6, 0.0, -0.6), (0.0, -0.6, 0.6), (-0.6, 0.6, 0.0)])
def test_sensors_that_differ_are_no_alarm_while_a_room_warms_up(offsets_k: tuple[float, ...]) -> None:
    hall = room(17.0)
    zone = Zone(-5.0, *(Heater(hall, offset_k) for offset_k in offsets_k))
    assert set(told_hours(zone, 12).values()) == {0.0}
    assert hall.temperature_c > 19.0


def test_two_houses_under_one_name_are_warm_both() -> None:
    one, other = Heater(room(20.0)), Heater(Lumped(35.0, 4.62e6, 20.0))
    zone = Zone(8.0, one, other)
    zone.hours(24)
    for _ in range(24 * 60):
        zone.step(MINUTE_S)
        assert one.room.temperature_c > 18.8 and other.room.temperature_c > 18.8


def test_heaters_of_one_room_that_all_dissent_give_no_more_than_is_asked_for() -> None:
    """Each step looks that they do not."""
    hall = room(17.0)
    heaters = [Heater(hall) for _ in range(3)]
    zone = Zone(0.0, *heaters, liars=(says(1, 2000.0, 10.0),))
    zone.hours(0.2)
    assert all(heater.power_w == 500.0 for heater in heaters)
    zone.hours(12, 10.0)
    assert 18.8 < hall.temperature_c < 20.1


@pytest.mark.parametrize("step_s", [1.0, 10.0])
def test_a_leader_whose_sensor_shows_two_kelvin_more_makes_no_heater_come_and_go(step_s: float) -> None:
    hall = room(19.4)
    heaters = [Heater(hall, 1.0), Heater(hall, -1.0)]
    zone = Zone(8.0, *heaters)
    zone.hours(1, step_s)
    jumps = 0
    for _ in range(round(2 * HOUR_S / step_s)):
        before = [each.power_w for each in heaters]
        zone.step(step_s)
        jumps += sum(abs(each.power_w - then) > 50.0 for each, then in zip(heaters, before, strict=True))
    assert jumps <= 16
    # The colder sensor's room is warm.
    assert hall.temperature_c - 1.0 > 18.8


def test_the_floor_of_comfort_is_kept_whoever_leads() -> None:
    """It is nearer than a kelvin to what is wanted here."""
    settings = replace(EXACT, limits=replace(EXACT.limits, floor_c=19.4, margin_k=0.6))
    heater = Heater(room(19.38), settings=settings)
    zone = Zone(0.0, heater, liars=(says(1, 10_000.0, 10.0),))
    zone.hours(0.2)
    assert COLD in heater.alarms and heater.power_w > 200.0


def test_frost_protection_holds_whoever_leads() -> None:
    heater = Heater(room(8.0), settings=replace(EXACT, limits=replace(EXACT.limits, frost_c=7.0)))
    zone = Zone(-10.0, heater, liars=(says(1, 10_000.0, 10.0),))
    heater.thermostat.wish(Wish.OFF, Inputs(now_s=0.0, wall_s=MONDAY_S, samples=(None,), power_w=0.0))
    assert all(temperature_c > 6.3 for temperature_c in zone.hours(48))


@pytest.mark.parametrize("blind_steps", [0, 1, 30])
def test_a_newcomer_that_hears_of_others_before_it_sees_has_its_share(blind_steps: int) -> None:
    """Without an integral nothing would bring it back from having asked for nothing."""
    thermostat = Thermostat(replace(EXACT, pi=replace(EXACT.pi, integral_s=0.0)))
    thermostat.join_zone(bytes([1]), 10.0)
    granted_w = 0.0
    for second in range(60):
        others = [Member(bytes([2]), 500.0, 0.0 if second < blind_steps else 125.0, 19.5)]
        sample = None if second < blind_steps else Sample(19.5, float(second))
        inputs = Inputs(now_s=second, wall_s=MONDAY_S, samples=(sample,), power_w=0.0, others=others)
        granted_w = thermostat.update(inputs).granted_w
    assert granted_w > 100.0


# -- learning ------------------------------------------------------------------------------------------------------


def learnt(*, works: bool, claims_w: float, gives_w: float) -> tuple[float, float, float]:
    """W/K, MJ/K and the confidence after a week of a mate that claims and gives so much half of the time."""
    house, thermostat = room(18.0), Thermostat(EXACT)
    thermostat.join_zone(bytes([9]), 10.0)
    power_w = 0.0
    for minute in range(7 * 24 * 60):
        now_s, on = minute * MINUTE_S, minute // 600 % 2 == 0
        outside_c = -2.0 + 6.0 * (minute // 300 % 3)
        inputs = Inputs(
            now_s=now_s,
            wall_s=MONDAY_S + now_s,
            samples=(Sample(house.temperature_c, now_s),),
            power_w=power_w,
            outside_c=outside_c,
            others=[Member(bytes([20]), 500.0, claims_w if on else 0.0, None, works=works or not on)],
        )
        decision = thermostat.update(inputs)
        power_w = decision.work.slots * decision.work.duty * 100.0
        house.step(power_w + (gives_w if on else 0.0), outside_c, MINUTE_S)
    found = thermostat.estimate
    return 1 / found.resistance_k_per_w, found.capacity_j_per_k / 1e6, found.confidence


@pytest.mark.parametrize(("works", "gives_w"), [(False, 0.0), (False, 30.0), (True, 80.0)])
def test_what_a_mate_claims_and_may_not_give_teaches_nothing_of_the_room(works: bool, gives_w: float) -> None:
    loss_w_per_k, capacity_mj_per_k, confidence = learnt(works=works, claims_w=80.0, gives_w=gives_w)
    assert confidence > 0.5
    assert loss_w_per_k == pytest.approx(20.0, rel=0.1)
    assert capacity_mj_per_k == pytest.approx(4.62, rel=0.1)
