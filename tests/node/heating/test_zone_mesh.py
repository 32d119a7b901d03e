"""A zone over the real protocol, in virtual time: heaters of one room hear of each other by their digests alone."""

import pytest
from msgspec import structs

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.assembly import heat_reading, thermostat_settings, zone_members
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control.sensor import Sample
from hearthmesh.node.heating.control.thermostat import Decision, Inputs, Thermostat
from hearthmesh.node.heating.control.zone import Member
from hearthmesh.node.heating.foretell import Foretold
from hearthmesh.node.service import ZONE_LEAST_CHANGE, ZONE_PERIOD_S
from hearthmesh.protocol.records import HeatDigest
from tests.node.heating.control.lumped import Lumped
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold

SETTINGS = HeaterSettings(cores=3, watts_per_core=50.0, idle_watts=0.0, setpoint_c=20.0, dwell_s=0.0)
TABLE = PowerTable.linear(3, 50.0)


class Hall:
    """One room with several heaters, each a machine of the protocol and a thermostat, stepped each second."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.room = Lumped(20.0, 4.62e6, 19.0)
        self.heaters: dict[bytes, tuple[SimNode, Thermostat]] = {}
        self.decisions: dict[bytes, Decision] = {}
        self.wanted_w: list[float] = []

    def add(self, name: str) -> SimNode:
        node = self.cluster.add(name, zone="hall")
        node.mesh.heat.least_change = ZONE_LEAST_CHANGE
        thermostat = Thermostat(thermostat_settings(SETTINGS, TABLE))
        thermostat.join_zone(node.id, ZONE_PERIOD_S)
        self.heaters[node.id] = (node, thermostat)
        return node

    def kill(self, node: SimNode) -> None:
        self.cluster.kill(node)
        del self.heaters[node.id]
        self.decisions.pop(node.id, None)

    @property
    def powers(self) -> list[float]:
        return [decision.granted_w for decision in self.decisions.values()]

    def second(self) -> None:
        now_s = self.cluster.now_us / 1e6
        for node, thermostat in self.heaters.values():
            mates = node.mesh.zone_mates()
            inputs = Inputs(
                now_s=now_s,
                wall_s=now_s,
                samples=(Sample(self.room.temperature_c, now_s),),
                power_w=self.decisions[node.id].granted_w if node.id in self.decisions else 0.0,
                others=zone_members(mates),
            )
            decision = self.decisions[node.id] = thermostat.update(inputs)
            reading = heat_reading(
                decision,
                TABLE,
                sink="room",
                temperature_c=self.room.temperature_c,
                setpoint_c=20.0,
                limit_c=20.5,
                foretold=Foretold(10.0),
            )
            self.cluster.feed(node, reading)
        self.wanted_w.append(max(decision.request_w for decision in self.decisions.values()))
        recent_w = max(self.wanted_w[-round(ZONE_PERIOD_S) :])
        # Claims are told in whole watts, when they moved by half a hundredth.
        assert sum(self.powers) <= 1.05 * recent_w + len(self.powers)
        self.room.step(sum(self.powers), 0.0, 1.0)
        self.cluster.run(SECOND)

    def periods(self, count: float) -> None:
        for _ in range(round(count * ZONE_PERIOD_S)):
            self.second()

    def assert_fair(self) -> None:
        mean_w = sum(self.powers) / len(self.powers)
        assert mean_w > 10
        assert self.powers == pytest.approx([mean_w] * len(self.powers), rel=0.02, abs=2.0)


def test_demand_of_a_room_is_split_while_heaters_come_and_go() -> None:
    hall = Hall()
    first, second = hall.add("first"), hall.add("second")
    hall.cluster.add("stranger", heat=cold(), zone="attic")
    hall.periods(3)
    hall.assert_fair()
    hall.add("third")
    hall.periods(3)
    hall.assert_fair()
    assert len(hall.powers) == 3
    for node in (first, second):
        hall.kill(node)
        hall.periods(3)
        hall.assert_fair()
    assert hall.powers[0] == pytest.approx(150.0)


def test_only_live_workers_of_the_same_zone_are_mates() -> None:
    hall = Hall()
    first, second = hall.add("first"), hall.add("second")
    hall.cluster.add("stranger", heat=cold(), zone="attic")
    hall.periods(1)
    assert [mate.node for mate in first.mesh.zone_mates()] == [second.id]
    hall.kill(second)
    hall.periods(3)
    assert first.mesh.zone_mates() == []


def digest(sink: str, deficit_w: int, temperature_mc: int) -> HeatDigest:
    return HeatDigest(
        node=bytes(32),
        incarnation=1,
        sequence=1,
        deficit_w=deficit_w,
        capacity_w=150,
        free_slots=0,
        queue_us=0,
        sink=sink,
        temperature_mc=temperature_mc,
    )


def test_machine_that_heats_nothing_is_no_member_of_its_zone() -> None:
    said = [digest("none", 500, 0), digest("room", 40, 19_500), digest("room", -3, 0)]
    assert zone_members(said) == [Member(bytes(32), 150.0, 40.0, 19.5), Member(bytes(32), 150.0, 0.0, None)]


def test_mate_that_could_start_a_task_is_not_known_to_give_what_it_claims() -> None:
    idle, works = structs.replace(digest("room", 40, 19_500), free_slots=1), digest("room", 40, 19_500)
    assert [member.works for member in zone_members([idle, works])] == [False, True]


def test_sink_at_0_degrees_is_not_taken_for_one_that_nobody_sees() -> None:
    thermostat = Thermostat(thermostat_settings(SETTINGS, TABLE))
    for reading_c, told_c in ((0.0, 0.001), (-1.0, -1.0), (None, 0.0)):
        sample = None if reading_c is None else Sample(reading_c, 0.0)
        decision = thermostat.update(Inputs(now_s=0.0, wall_s=0.0, samples=(sample,), power_w=0.0))
        reading = heat_reading(
            decision,
            TABLE,
            sink="room",
            temperature_c=reading_c or 0.0,
            setpoint_c=20.0,
            limit_c=20.5,
            foretold=Foretold(0.0),
        )
        assert reading.temperature_c == told_c
