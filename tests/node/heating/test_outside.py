"""The sensor outside: what cannot be is not believed, nor kept quiet, and heating goes on without it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.identify import Estimate
from hearthmesh.node.heating.control.sensor import Sample
from hearthmesh.node.heating.control_settings import SensorTable
from hearthmesh.node.heating.outside import OutsideWatch
from hearthmesh.node.heating.sink_settings import ModelTable
from hearthmesh.node.settings.schema import Conflict
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.test_machine import SENSOR, Bench, linux
from tests.node.heating.test_machine_water import OUTSIDE, RACK, bench_of

__all__ = ["linux"]
HOUR_S = 3600.0
# 1-wire's word for a device that is gone, what it shows when it is switched on, and a register's least.
IMPOSSIBLE = pytest.mark.parametrize("milli", ["-127000", "85000", "-3276800"])


def rack_of(linux: FakeLinux, milli: str | None) -> Bench:
    linux.write(SENSOR, "40000")
    if milli is not None:
        linux.write(OUTSIDE, milli)
    return bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")


async def later(bench: Bench, seconds: float) -> None:
    bench.now_us += round(seconds * 1e6)
    await bench.second()


def alarms(bench: Bench) -> list[str]:
    found: list[str] = HeatCommands(bench.heater).status()["alarms"]
    return found


@IMPOSSIBLE
async def test_a_supply_does_not_follow_what_no_weather_is(linux: FakeLinux, milli: str) -> None:
    bench = rack_of(linux, "5000")
    await bench.second(2)
    assert bench.heater.decision.aim_c == pytest.approx(42.3, abs=0.05) and not alarms(bench)
    linux.write(OUTSIDE, milli)
    await bench.second(2)
    assert bench.heater.decision.aim_c == pytest.approx(42.3, abs=0.05) and not alarms(bench)
    assert bench.heater.reading().slots == 4
    await later(bench, HOUR_S)
    assert bench.heater.decision.aim_c == pytest.approx(42.3, abs=0.05)
    assert alarms(bench) == ["the outside sensor is implausible: what it told last still holds"]
    await later(bench, HOUR_S)
    assert bench.heater.decision.aim_c == pytest.approx(55.0)
    assert alarms(bench) == ["the outside sensor is implausible: the supply is as hot as on the coldest day"]
    linux.write(OUTSIDE, "6000")
    await bench.second(2)
    assert bench.heater.decision.aim_c < 42.3 and not alarms(bench)


@IMPOSSIBLE
async def test_where_no_weather_was_ever_seen_heating_goes_on_without_it(linux: FakeLinux, milli: str) -> None:
    linux.write(SENSOR, "19600")
    linux.write(OUTSIDE, milli)
    bench = bench_of(linux, ModelTable(), 20.0, outside_sensor="hwmon:room/temp3")
    await bench.second(2)
    assert bench.heater.inputs().outside_c is None
    assert alarms(bench) == ["the outside sensor is implausible: the weather is not known"]
    assert bench.heater.reading().slots == 2


async def learnt(linux: FakeLinux, *milli: str) -> Estimate:
    """What is learnt of a room that cools down, while the sensor outside shows each of these for ten minutes."""
    linux.write(SENSOR, "18000")
    linux.write(OUTSIDE, milli[0])
    bench = bench_of(linux, ModelTable(), 20.0, outside_sensor="hwmon:room/temp3")
    await bench.second()
    for count, shown in enumerate(milli):
        linux.write(SENSOR, str(18_000 - 32 * count))
        linux.write(OUTSIDE, shown)
        await later(bench, 600.0)
    return bench.heater.thermostat.estimate


@IMPOSSIBLE
async def test_nothing_is_learnt_from_what_no_weather_is(linux: FakeLinux, milli: str) -> None:
    well = await learnt(linux, *["5000"] * 30)
    assert await learnt(linux, *["5000"] * 12, *[milli] * 4, *["5000"] * 14) == well


async def test_a_sensor_outside_that_is_lost_or_never_was_there_is_an_alarm(linux: FakeLinux) -> None:
    bench = rack_of(linux, None)
    await bench.second(10)
    assert not alarms(bench)
    await bench.second()
    lost = "the outside sensor is lost: the supply is as hot as on the coldest day"
    assert alarms(bench) == [lost]
    linux.write(OUTSIDE, "5000")
    await bench.second(2)
    assert not alarms(bench)
    (linux.root / OUTSIDE).unlink()
    await later(bench, 0.49 * 2 * HOUR_S)
    assert not alarms(bench)
    await later(bench, 0.02 * 2 * HOUR_S)
    assert alarms(bench) == ["the outside sensor is lost: what it told last still holds"]
    assert bench.heater.decision.aim_c == pytest.approx(42.3, abs=0.05)
    await later(bench, HOUR_S)
    assert (bench.heater.decision.aim_c, alarms(bench)) == (pytest.approx(55.0), [lost])


async def test_who_has_no_sensor_outside_has_no_alarm(linux: FakeLinux) -> None:
    linux.write(SENSOR, "40000")
    bench = bench_of(linux, RACK, 20.0)
    await later(bench, HOUR_S)
    assert not alarms(bench) and bench.heater.decision.aim_c == pytest.approx(55.0)


def seen(watch: OutsideWatch, values: Iterable[float], *, from_s: float, period_s: float = 300.0) -> float:
    """The time after them."""
    for value in values:
        watch.see(Sample(value, from_s), from_s)
        from_s += period_s
    return from_s


@pytest.mark.parametrize(("step_k", "days"), [(0.01, 2), (1.0, 4)])
def test_a_sensor_outside_may_stand_still_for_days_in_fog_and_then_is_frozen(step_k: float, days: int) -> None:
    watch = OutsideWatch(SensorTable(), 0.0, rack=True)
    now_s = seen(watch, [0.0, step_k] * 10, from_s=0.0)
    still = int(days * 86_400 / 300.0)
    now_s = seen(watch, [step_k] * (still - 2), from_s=now_s)
    assert (watch.temperature_c, watch.problems) == (step_k, ())
    now_s = seen(watch, [step_k] * 3, from_s=now_s)
    assert watch.temperature_c is None
    constant = "if it may stand still, set outside_frozen_s = 0"
    assert watch.problems == (f"the outside sensor is frozen ({constant}): the supply is as hot as on the coldest day",)
    seen(watch, [2.0, 2.1], from_s=now_s)
    assert (watch.temperature_c, watch.problems) == (2.1, ())


def test_hourly_news_of_the_weather_may_jump_and_a_glitch_is_passed_over() -> None:
    watch = OutsideWatch(SensorTable(), 0.0, rack=False)
    now_s = seen(watch, [*[3.0] * 12, *[12.0] * 12], from_s=0.0)
    assert (watch.temperature_c, watch.problems) == (12.0, ())
    watch.see(Sample(-30.0, now_s), now_s)
    assert (watch.temperature_c, watch.problems) == (12.0, ())
    watch.see(Sample(-30.0, now_s + 5), now_s + 5)
    assert watch.temperature_c == 12.0
    seen(watch, [-30.0], from_s=now_s + 65)
    assert (watch.temperature_c, watch.problems) == (-30.0, ())


def test_a_gateway_that_is_away_for_minutes_is_no_alarm() -> None:
    watch = OutsideWatch(SensorTable(), 0.0, rack=True)
    now_s = seen(watch, [3.0] * 12, from_s=0.0) - 300.0
    for _ in range(3):
        for passed_s in (60.0, 130.0, 240.0):
            watch.see(Sample(3.0, now_s), now_s + passed_s)
            assert (watch.temperature_c, watch.problems) == (3.0, ())
        now_s = seen(watch, [3.0] * 3, from_s=now_s + 300.0) - 300.0


def test_what_does_not_hold_is_an_alarm_at_once() -> None:
    watch = OutsideWatch(SensorTable(outside_hold_s=0.0), 0.0, rack=False)
    watch.see(Sample(3.0, 0.0), 0.0)
    watch.see(Sample(3.0, 0.0), 121.0)
    assert (watch.temperature_c, watch.problems) == (None, ("the outside sensor is lost: the weather is not known",))


def test_a_constant_source_is_believed_for_good_where_its_owner_says_so() -> None:
    watch = OutsideWatch(SensorTable(outside_frozen_s=0.0), 0.0, rack=True)
    seen(watch, [5.0] * 3000, from_s=0.0)
    assert (watch.temperature_c, watch.problems) == (5.0, ())


def test_no_range_of_the_weather_is_empty() -> None:
    with pytest.raises(Conflict):
        SensorTable(outside_lowest_c=20.0, outside_highest_c=10.0)
