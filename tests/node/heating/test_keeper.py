"""What an owner, a grid and time taught a heater is there after a restart, as old as it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control_settings import LimitTable, ScheduleSettings
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.heating.keeper import LEARNT_PERIOD_S, TOLD_PERIOD_S, HeatKeeper
from hearthmesh.node.heating.kept import Moment
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.observed import What
from hearthmesh.node.heating.simulated import SimulatedHeater

SECOND_US = 1_000_000
HOUR_S = 3600.0
# A Monday, noon.
NOON_S = 4.5 * 86_400
SETTINGS = HeaterSettings(
    kind="simulated",
    cores=4,
    watts_per_core=100.0,
    idle_watts=10.0,
    setpoint_c=20.0,
    room=RoomSettings(start_c=18.0),
    limits=LimitTable(tempo_red_percent=25.0),
)


class Life:
    """A heater from a start to an end, on a machine whose clocks are the test's."""

    def __init__(
        self,
        folder: Path,
        at_s: float = 0.0,
        *,
        settings: HeaterSettings = SETTINGS,
        boot: str = "a",
        set_s: float = 0.0,
    ) -> None:
        """at_s: of the world, from 0.  boot "b" began at 20 h.  set_s: how far the clock on the wall is off."""
        self.at_s, self.boot, self.set_s = at_s, boot, set_s
        self.begun_s = 20 * HOUR_S if boot == "b" else 0.0
        self.born_s = at_s
        self.path = folder / "heat.json"
        self.heater = SimulatedHeater(settings, now_us=0, local=LocalTime(NOON_S + at_s + set_s))
        self.keeper = HeatKeeper(self.path, self.heater, settings, self.moment)
        self.commands = HeatCommands(self.heater)
        self.commands.not_recalled = self.keeper.notices

    def moment(self) -> Moment:
        return Moment(self.boot, self.at_s - self.begun_s, NOON_S + self.at_s + self.set_s)

    def live(self, seconds: float = 1.0) -> None:
        self.at_s += seconds
        self.heater.advance(round((self.at_s - self.born_s) * SECOND_US), 0)
        self.keeper.look()

    async def end(self) -> None:
        self.live()
        await self.keeper.write()

    def set_clock(self, set_s: float = 0.0) -> None:
        self.set_s = set_s
        self.heater._local = LocalTime(NOON_S + self.born_s + set_s)

    @property
    def mode(self) -> str:
        self.live()
        return str(self.commands.status()["mode"])

    @property
    def limit(self) -> tuple[float, str]:
        self.live()
        status = self.commands.status()
        return status["limit_w"], status["limit_reason"]


@pytest.mark.parametrize("mode", ["off", "away", "eco", "comfort", "auto"])
async def test_mode_outlives_a_restart(tmp_path: Path, mode: str) -> None:
    first = Life(tmp_path)
    first.commands.wish(mode)
    await first.end()
    assert Life(tmp_path, 100.0).mode == mode
    assert Life(tmp_path, 21 * HOUR_S, boot="b").mode == mode


async def test_heater_that_was_switched_off_stays_off(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.wish("off")
    await first.end()
    second = Life(tmp_path, 100.0)
    second.live()
    assert (second.heater.reading().slots, second.heater.reading().reason) == (0, "switched off")


async def test_temperature_set_by_hand_outlives_a_restart_until_the_schedule_changes(tmp_path: Path) -> None:
    settings = replace(SETTINGS, schedule=ScheduleSettings(week=("daily 06:00 20", "daily 22:00 16")))
    first = Life(tmp_path, settings=settings)
    first.commands.wish("manual", 22.5)
    await first.end()
    second = Life(tmp_path, 9 * HOUR_S, settings=settings)
    assert (second.mode, second.commands.status()["setpoint_c"]) == ("manual", 22.5)
    assert Life(tmp_path, 11 * HOUR_S, settings=settings).mode == "auto"


async def test_boost_ends_when_it_was_to_end(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.wish("eco")
    first.live()
    first.commands.wish("boost")
    await first.end()
    second = Life(tmp_path, 0.5 * HOUR_S)
    assert second.mode == "boost"
    second.live(0.5 * HOUR_S)
    assert second.mode == "eco"
    assert Life(tmp_path, 2 * HOUR_S).mode == "eco"


async def test_limits_and_their_rebound_outlive_a_restart_and_end_in_time(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.limit(50.0, in_s=0.0, for_s=HOUR_S, name="evening peak")
    await first.end()
    second = Life(tmp_path, 0.5 * HOUR_S)
    assert second.limit == (50.0, "evening peak")
    second.live(0.5 * HOUR_S)
    assert second.limit == (290.0, "slow return after a power limit")
    # The half hour of rebound counts from the limit's end, not from the start.
    third = Life(tmp_path, 1.4 * HOUR_S)
    assert third.limit == (290.0, "slow return after a power limit")
    third.live(0.1 * HOUR_S)
    assert third.limit == (410.0, "")
    assert Life(tmp_path, 21 * HOUR_S, boot="b").limit == (410.0, "")


async def test_colours_outlive_a_restart(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.tempo("red", 1)
    await first.end()
    assert Life(tmp_path, 1.0).limit == (410.0, "")
    assert Life(tmp_path, 24 * HOUR_S, boot="b").limit == (110.0, "peak hours of a red day")


async def test_what_the_owner_said_of_windows_and_presence_outlives_a_restart(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.observe(What.WINDOW, value=True)
    first.commands.observe(What.PRESENCE, value=False, source="a sensor")
    await first.end()
    second = Life(tmp_path, 100.0)
    second.live()
    assert second.commands.status()["reason"] == "a window is open"
    assert second.commands.status()["present"] is None


async def learnt(folder: Path, days: int = 3) -> tuple[Life, float]:
    life = Life(folder)
    for _ in range(days * 48):
        # Power that comes and goes teaches, and a minute is the longest step that does.
        for _ in range(30):
            life.live(60.0)
    await life.end()
    return life, life.heater.thermostat.estimate.confidence


async def test_what_was_learnt_outlives_a_restart_and_is_doubted_the_more_the_older_it_is(tmp_path: Path) -> None:
    first, confidence = await learnt(tmp_path)
    assert confidence > 0.2
    estimates = [
        Life(tmp_path, first.at_s + days * 86_400, boot=boot).heater.thermostat.estimate
        for days, boot in ((0, "a"), (30, "b"), (365, "b"))
    ]
    assert estimates[0] == first.heater.thermostat.estimate
    assert confidence > estimates[1].confidence > estimates[2].confidence


async def test_how_coarse_a_sensor_is_outlives_a_restart(tmp_path: Path) -> None:
    first = Life(tmp_path)
    for _ in range(5):
        first.live(60.0)
    await first.end()
    steps_k = first.heater.thermostat.remember(first.heater.inputs()).steps_k
    assert steps_k[0] is not None
    second = Life(tmp_path, 400.0)
    assert second.heater.thermostat.remember(second.heater.inputs()).steps_k == steps_k


async def test_what_was_learnt_of_another_sink_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    first, _ = await learnt(tmp_path)
    first.commands.wish("off")
    await first.end()
    other = replace(SETTINGS, room=RoomSettings(start_c=18.0, loss_w_per_k=60.0))
    second = Life(tmp_path, first.at_s, settings=other)
    assert second.heater.thermostat.estimate == Life(tmp_path / "none", settings=other).heater.thermostat.estimate
    assert second.mode == "off"


async def test_sink_whose_clock_runs_faster_keeps_no_dates(tmp_path: Path) -> None:
    fast = replace(SETTINGS, time_scale=60.0)
    first = Life(tmp_path, settings=fast)
    first.commands.wish("eco")
    first.commands.limit(50.0, in_s=0.0, for_s=HOUR_S)
    first.commands.tempo("red", 1)
    await first.end()
    second = Life(tmp_path, 30.0, settings=fast)
    assert second.limit == (50.0, "demand response")
    assert second.heater.thermostat.limits.colours == {}
    third = Life(tmp_path, 240.0, settings=fast)
    assert (third.limit, third.mode) == ((410.0, ""), "eco")


async def test_clock_that_is_set_only_after_the_start_ends_what_is_over(tmp_path: Path) -> None:
    """A machine without a clock of its own starts with the time of its end."""
    first = Life(tmp_path)
    first.commands.limit(50.0, in_s=0.0, for_s=HOUR_S)
    await first.end()
    second = Life(tmp_path, 20 * HOUR_S + 10, boot="b", set_s=-20 * HOUR_S)
    assert second.limit == (50.0, "demand response")
    second.set_s = 0.0
    second.live()
    assert second.limit == (410.0, "")


@pytest.mark.parametrize(("late_s", "meanwhile"), [(10.0, "manual"), (7 * HOUR_S, "auto")])
async def test_temperature_set_by_hand_outlives_a_start_without_a_clock(
    tmp_path: Path, late_s: float, meanwhile: str
) -> None:
    """In 1970 the schedule has a change at 6:00, too; what was told is of today, 22:00."""
    settings = replace(SETTINGS, schedule=ScheduleSettings(week=("daily 06:00 20", "daily 22:00 16")))
    first = Life(tmp_path, 19.5 * HOUR_S, settings=settings)
    first.commands.wish("manual", 12.0)
    await first.end()
    written = json.loads(first.path.read_bytes())["wish"]
    second = Life(tmp_path, 20 * HOUR_S, settings=settings, boot="b", set_s=-NOON_S - 20 * HOUR_S)
    assert second.mode == "manual"
    second.live(late_s)
    assert second.mode == meanwhile
    second.set_clock()
    for _ in range(2):
        second.live()
    assert (second.mode, second.commands.status()["setpoint_c"]) == ("manual", 12.0)
    await second.end()
    assert json.loads(second.path.read_bytes())["wish"] == written
    second.live(34 * HOUR_S - second.at_s)
    assert second.mode == "auto"


async def test_what_ends_by_itself_leaves_the_rest_to_a_clock_that_is_set(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.wish("boost")
    first.commands.limit(50.0, in_s=0.0, for_s=3 * HOUR_S)
    await first.end()
    second = Life(tmp_path, 20 * HOUR_S + 10, boot="b", set_s=-20 * HOUR_S)
    assert second.mode == "boost"
    second.live(HOUR_S)
    assert (second.mode, second.limit) == ("auto", (50.0, "demand response"))
    second.set_clock()
    second.live()
    assert second.limit == (410.0, "")


async def test_what_is_told_after_the_start_is_not_ended_by_a_clock_that_is_set(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.wish("boost")
    await first.end()
    second = Life(tmp_path, 20 * HOUR_S + 10, boot="b", set_s=-20 * HOUR_S)
    second.live()
    second.commands.limit(50.0, in_s=0.0, for_s=HOUR_S)
    second.live()
    second.set_s = 0.0
    second.live()
    assert second.limit == (50.0, "demand response")


@pytest.mark.parametrize("content", [b"", b"\x00" * 512, b"{}", b'{"format": "hearthmesh heat", "version": 9}'])
async def test_file_that_cannot_be_used_is_an_alarm_and_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "heat.json").write_bytes(content)
    life = Life(tmp_path)
    life.live()
    status = life.commands.status()
    assert (status["mode"], life.heater.reading().slots) == ("auto", 4)
    assert [each for each in status["alarms"] if "put aside as heat.json.unread" in each]
    assert (tmp_path / "heat.json.unread").read_bytes() == content
    life.commands.wish("off")
    await life.end()
    assert life.commands.status()["alarms"] == []
    assert Life(tmp_path).mode == "off"


async def test_mode_is_known_though_the_rest_of_the_file_is_damaged(tmp_path: Path) -> None:
    first = Life(tmp_path)
    first.commands.wish("off")
    await first.end()
    content = json.loads(first.path.read_bytes())
    first.path.write_text(json.dumps(content | {"learnt": {}, "limits": 3, "season": "x"}))
    second = Life(tmp_path)
    assert second.mode == "off"
    assert second.keeper.notices


def test_heater_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    keeper = HeatKeeper(tmp_path / "heat.json", NoHeater(SETTINGS, 0), SETTINGS)
    keeper.look()
    trio.run(keeper.write)
    assert list(tmp_path.iterdir()) == []


async def settled(condition: Callable[[], bool], then: Callable[[], None] = lambda: None) -> None:
    """Writing is a thread's, which no virtual clock waits for. then: what is done until it is so."""
    for _ in range(10_000):
        if condition():
            return
        then()
        await trio.to_thread.run_sync(lambda: None)
    raise AssertionError("it never came to be so")


async def test_command_is_written_at_once_and_a_flood_of_them_is_not(tmp_path: Path, mock_clock: MockClock) -> None:
    life = Life(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.keeper.run)
        await trio.testing.wait_all_tasks_blocked()
        assert not life.path.exists()
        life.commands.wish("off")
        life.live()
        await settled(life.path.exists)
        await trio.testing.wait_all_tasks_blocked()
        first = life.path.read_bytes()
        for _ in range(20):
            for mode in ("eco", "away"):
                life.commands.wish(mode)
                life.live()
        await trio.testing.wait_all_tasks_blocked()
        assert life.path.read_bytes() == first
        await settled(lambda: b'"away"' in life.path.read_bytes(), lambda: mock_clock.jump(TOLD_PERIOD_S))
        # What time teaches is written each hour.
        last = life.path.read_bytes()
        life.live(60.0)
        await settled(lambda: life.path.read_bytes() != last, lambda: mock_clock.jump(LEARNT_PERIOD_S))
        nursery.cancel_scope.cancel()


async def test_what_was_read_of_a_damaged_file_is_written_at_once(tmp_path: Path, mock_clock: MockClock) -> None:
    first = Life(tmp_path)
    first.commands.wish("off")
    await first.end()
    content = json.loads(first.path.read_bytes())
    first.path.write_text(json.dumps(content | {"learnt": {}}))
    second = Life(tmp_path)
    assert not second.path.exists()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.keeper.run)
        second.live()
        await settled(second.path.exists)
        nursery.cancel_scope.cancel()
    assert Life(tmp_path).mode == "off"
    assert Life(tmp_path).keeper.notices == ()


async def test_disk_that_takes_nothing_stops_no_heater(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    life = Life(folder)
    folder.rmdir()
    life.commands.wish("off")
    await life.end()
    assert life.mode == "off"
    folder.mkdir()
    life.live()
    await life.keeper.write()
    assert Life(folder).mode == "off"
