"""Heat without work: the CPU time that was asked for, by processes that are nobody's task, and metered as such."""

import os
import resource
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.burn_child import FULL, PERIOD_S, burn
from hearthmesh.node.heating.burner import Burner
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control_settings import BurnTable
from hearthmesh.node.heating.simulated import SimulatedHeater

SECOND_US = 1_000_000
SETTINGS = HeaterSettings(
    kind="simulated",
    cores=4,
    watts_per_core=100.0,
    idle_watts=0.0,
    setpoint_c=20.0,
    dwell_s=0.0,
    room=RoomSettings(loss_w_per_k=20.0, capacity_j_per_k=4.62e6, start_c=15.0, outside_c=5.0),
    burn=BurnTable(enabled=True, after_s=60.0),
)


class Core:
    """A processor's core on a clock of its own, of which the child gets a share; it hears one duty a second."""

    def __init__(self, duties: list[int], share: float) -> None:
        self.duties = duties
        self.share = share
        self.now_s = 0.0
        self.used_s = 0.0
        self.used_by_duty: list[float] = []
        self._until_s = 0.0

    def wait(self, limit_s: float | None) -> bytes | None:
        if self.now_s >= self._until_s - 1e-9 or limit_s is None:
            self.now_s = max(self.now_s, self._until_s)
            self.used_by_duty.append(self.used_s)
            if not self.duties:
                return b""
            self._until_s += 1.0
            return bytes([self.duties.pop(0)])
        self.now_s += limit_s
        return None

    def now(self) -> float:
        self.now_s += 0.001
        self.used_s += 0.001 * self.share
        return self.now_s

    def cpu(self) -> float:
        return self.used_s


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4), st.sampled_from([1.0, 0.8]))
def test_child_uses_its_duty_or_what_others_leave_it(duties: list[int], share: float) -> None:
    core, asked = Core(list(duties), share), [min(1.0, duty / FULL) for duty in duties]
    burn(core.wait, core.now, core.cpu)
    used = [after - before for before, after in zip(core.used_by_duty, core.used_by_duty[1:], strict=False)]
    assert used == pytest.approx([min(duty, share) for duty in asked], abs=2 * PERIOD_S)


def test_real_child_burns_and_is_counted_also_when_it_is_killed() -> None:
    burner = Burner(yielding=False)
    try:
        burner.set(1.0)
        (child,) = burner.pids
        # The kernel ends it when it has used a second: that is what is waited for.
        resource.prlimit(child, resource.RLIMIT_CPU, (1, 1))
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        used_us = burner.cpu_us()
        # The kernel's two accounts of it are not the same to a tick.
        assert used_us >= 700_000
        burner.set(1.0)
        assert burner.pids != [child]
        assert burner.cpu_us() >= used_us
    finally:
        burner.close()
    assert burner.pids == []
    assert burner.cpu_us() >= used_us


def test_node_that_is_the_first_process_of_a_container_burns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    burner = Burner(yielding=False)
    try:
        burner.set(1.0)
        (child,) = burner.pids
        resource.prlimit(child, resource.RLIMIT_CPU, (1, 1))
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert ended is not None and ended.si_code == os.CLD_KILLED
    finally:
        burner.close()


def test_no_load_leaves_no_process() -> None:
    burner = Burner()
    burner.set(1.5)
    first, second = burner.pids
    burner.set(0.3)
    assert burner.pids == [first, second]
    burner.set(0.0)
    assert burner.pids == []
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


class Room:
    """A simulated room whose heater burns as it is told; tasks use as much as is given."""

    def __init__(self, settings: HeaterSettings) -> None:
        self.heater = SimulatedHeater(settings, 0)
        self.now_us = self.cpu_us = self.burn_us = 0

    def pass_s(self, seconds: int, work_load: float = 0.0, running: int = 0) -> None:
        for _ in range(seconds):
            self.now_us += SECOND_US
            self.cpu_us += round(work_load * SECOND_US)
            self.burn_us += round(self.heater.burn_load * SECOND_US)
            self.heater.advance(self.now_us, self.cpu_us, self.burn_us, running=running)


def test_room_without_work_is_kept_warm_by_burning_and_metered_apart() -> None:
    room = Room(replace(SETTINGS, time_scale=600.0))
    room.pass_s(500)
    assert room.heater.temperature_c == pytest.approx(20.0, abs=0.3)
    meter = room.heater.meter
    assert meter.burn_uj == room.burn_us * 100 == meter.total_uj
    assert (meter.work_uj, meter.idle_uj) == (0, 0)
    assert 0.95 * meter.burn_uj <= meter.burn_useful_uj <= meter.burn_uj


def test_work_takes_the_place_of_what_is_burnt_within_one_period() -> None:
    room = Room(SETTINGS)
    room.pass_s(60)
    assert room.heater.burn_load == 0.0
    room.pass_s(2)
    assert room.heater.burn_load == 4.0
    room.pass_s(1, work_load=3.0)
    assert room.heater.burn_load == 1.0
    room.pass_s(1, work_load=4.0)
    assert room.heater.burn_load == 0.0
    assert room.heater.attribute(SECOND_US) == (100_000, 100_000)


def test_tasks_that_are_kept_from_their_cores_by_others_are_not_burnt_beside() -> None:
    room = Room(SETTINGS)
    room.pass_s(62)
    room.pass_s(1, work_load=0.8, running=3)
    assert room.heater.burn_load == 1.0
    room.pass_s(1, work_load=0.8, running=4)
    assert room.heater.burn_load == 0.0


def test_burning_asks_for_work_as_before() -> None:
    """Who burns is still the coldest: work that appears comes here."""
    room = Room(SETTINGS)
    before = room.heater.reading()
    room.pass_s(62)
    reading = room.heater.reading()
    assert room.heater.burn_load == 4.0
    assert (reading.slots, reading.deficit_w) == (before.slots, before.deficit_w)


def test_heater_that_was_not_told_to_burn_stays_cold() -> None:
    room = Room(replace(SETTINGS, burn=BurnTable()))
    room.pass_s(200)
    assert (room.heater.burn_load, room.heater.meter.total_uj) == (0.0, 0)


def test_hot_room_and_a_limit_bound_what_is_burnt() -> None:
    warm = Room(replace(SETTINGS, room=replace(SETTINGS.room, start_c=24.0)))
    warm.pass_s(200)
    assert warm.heater.burn_load == 0.0
    cold = Room(replace(SETTINGS, room=replace(SETTINGS.room, start_c=18.0)))
    HeatCommands(cold.heater).limit(150.0, in_s=0.0, for_s=600.0)
    cold.pass_s(100)
    assert cold.heater.burn_load == pytest.approx(1.5)
