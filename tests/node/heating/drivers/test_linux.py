"""Linux's files: found by name, read, bounded, written, put back; and what is not there is said in one line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hearthmesh.node.heating.drivers.cgroup import CgroupQuota
from hearthmesh.node.heating.drivers.cpufreq import CpuFreqLimit
from hearthmesh.node.heating.drivers.interface import Allowed, DriverError, PowerActuator
from hearthmesh.node.heating.drivers.rapl import RaplLimit, RaplMeter
from hearthmesh.node.heating.drivers.sysfs import SysfsSensor, check_source
from tests.node.heating.drivers.fake_linux import FakeLinux


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    return FakeLinux(tmp_path)


@pytest.mark.parametrize(
    ("source", "expected_c"),
    [
        ("hwmon:room/temp1", 19.25),
        ("hwmon:acpitz/temp1", 27.8),
        ("thermal:x86_pkg_temp", 56.0),
        ("w1:28-0316a2795c1b", 4.562),
        ("iio:bme280/in_temp", 21.5),
        ("iio:ads1115/in_temp", 20.5),
    ],
)
def test_sensor_is_found_by_its_name(linux: FakeLinux, source: str, expected_c: float) -> None:
    assert SysfsSensor(source, linux.root).read_c() == pytest.approx(expected_c)


def test_file_of_millidegrees_is_a_sensor_too(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("-3500\n")
    assert SysfsSensor(f"file:{tmp_path}/probe").read_c() == -3.5


@pytest.mark.parametrize(
    ("source", "content", "problem"),
    [
        ("hwmon:attic/temp1", None, "nothing there is named attic"),
        ("hwmon:room/temp9", None, "temp9_input: cannot be read"),
        ("hwmon:room/temp1", "warm", "expected a whole number, got 'warm'"),
        ("hwmon:room/temp1", "", "expected a whole number"),
        ("hwmon:room/temp1", "9" * 9000, "expected a whole number"),
        ("hwmon:room/temp1", "2_1", "expected a whole number"),
        ("hwmon:room/temp1", "\u0663", "expected a whole number"),
    ],
)
def test_sensor_that_is_not_there_or_broken_says_where(
    linux: FakeLinux, source: str, content: str | None, problem: str
) -> None:
    if content is not None:
        linux.write("sys/class/hwmon/hwmon10/temp1_input", content)
    with pytest.raises(DriverError, match=problem):
        SysfsSensor(source, linux.root).read_c()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hwmon:room/temp1", "sys/class/hwmon/hwmon0/name"),
        ("thermal:room", "sys/class/thermal/thermal_zone0/type"),
        ("iio:ads1115/in_temp", "sys/bus/iio/devices/iio:device0/name"),
    ],
)
def test_device_that_is_broken_hides_no_other(linux: FakeLinux, source: str, name: str) -> None:
    linux.write("sys/class/thermal/thermal_zone1/type", "room")
    linux.write("sys/class/thermal/thermal_zone1/temp", "21000")
    linux.breaks(name)
    assert 15 < SysfsSensor(source, linux.root).read_c() < 25
    scheme, _, rest = source.partition(":")
    with pytest.raises(DriverError, match=f"nothing there is named attic, and .*{name}: cannot be read"):
        SysfsSensor(f"{scheme}:attic/{rest.partition('/')[2]}".rstrip("/"), linux.root).read_c()


@pytest.mark.parametrize("scale", ["2_1", "inf", "nan", "1e3", ""])
def test_scale_that_is_no_number_says_so(linux: FakeLinux, scale: str) -> None:
    linux.write("sys/bus/iio/devices/iio:device1/in_temp_scale", scale)
    with pytest.raises(DriverError, match="in_temp_scale: expected a number"):
        SysfsSensor("iio:ads1115/in_temp", linux.root).read_c()


@pytest.mark.parametrize("text", ["", "room", "hwmon:", "hwmon:room", "hwmon:/temp1", "usb:1", "w1:../../etc"])
def test_text_that_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        check_source(text)


def test_meter_adds_the_packages_and_counts_on_over_the_wrap(linux: FakeLinux) -> None:
    linux.write("sys/class/powercap/intel-rapl:1/energy_uj", "262143328000")
    meter = RaplMeter(linux.root)
    linux.draw(5_000_000)
    assert meter.energy_uj() == 5_000_000
    linux.draw(7_000_000)
    assert meter.energy_uj() == 12_000_000


ENERGY = "sys/class/powercap/intel-rapl:0/energy_uj"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(0, 200_000_000_000), max_size=10))
def test_meter_never_falls_and_loses_nothing(linux: FakeLinux, steps: list[int]) -> None:
    meter, total_uj = RaplMeter(linux.root), 0
    for step_uj in steps:
        linux.draw(2 * step_uj)
        total_uj += 2 * step_uj
        assert meter.energy_uj() == total_uj


@pytest.mark.parametrize(
    ("energy", "problem"),
    [("-5", "no negative number"), ("3_000_000", "expected a whole number"), ("262143328851", "beyond its own range")],
)
def test_counter_that_cannot_be_is_no_energy(linux: FakeLinux, energy: str, problem: str) -> None:
    meter = RaplMeter(linux.root)
    linux.draw(4_000_000)
    assert meter.energy_uj() == 4_000_000
    before = linux.read(ENERGY)
    linux.write(ENERGY, energy)
    with pytest.raises(DriverError, match=problem):
        meter.energy_uj()
    linux.write(ENERGY, before)
    if problem == "beyond its own range":
        with pytest.raises(DriverError, match=problem):
            meter.energy_uj()
    assert meter.energy_uj() == 4_000_000


def actuator(kind: str, linux: FakeLinux) -> PowerActuator:
    match kind:
        case "rapl":
            return RaplLimit(linux.root)
        case "cpufreq":
            return CpuFreqLimit(linux.root)
        case _:
            return CgroupQuota("hearth.slice", 4, linux.root)


NOTHING = Allowed(0.0, 0.0, 0.0, speed=0.0)
FILES = {
    "rapl": "sys/class/powercap/intel-rapl:1/constraint_0_power_limit_uw",
    "cpufreq": "sys/devices/system/cpu/cpufreq/policy1/scaling_max_freq",
    "cgroup": "sys/fs/cgroup/hearth.slice/cpu.max",
}


@pytest.mark.parametrize(
    ("kind", "allowed", "expected"),
    [
        ("rapl", Allowed(100.0, 0.4, 2.0), "50000000"),
        ("rapl", NOTHING, "12500000"),
        ("rapl", Allowed(1e9, 9.0, 99.0), "125000000"),
        ("cpufreq", Allowed(100.0, 0.5, 2.0, speed=0.5), "2400000"),
        ("cpufreq", NOTHING, "800000"),
        ("cpufreq", Allowed(1e9, 9.0, 99.0, speed=9.0), "4800000"),
        ("cgroup", Allowed(100.0, 0.4, 2.0), "225000 100000"),
        ("cgroup", NOTHING, "25000 100000"),
        ("cgroup", Allowed(1e9, 9.0, 99.0), "425000 100000"),
    ],
)
def test_actuator_sets_what_is_granted_within_its_bounds(
    linux: FakeLinux, kind: str, allowed: Allowed, expected: str
) -> None:
    actuator(kind, linux).apply(allowed)
    assert linux.read(FILES[kind]) == expected


@pytest.mark.parametrize("kind", FILES)
def test_actuator_gives_the_machine_back_as_it_was_found(linux: FakeLinux, kind: str) -> None:
    before = linux.read(FILES[kind])
    made = actuator(kind, linux)
    made.apply(Allowed(10.0, 0.1, 0.4, speed=0.1))
    assert linux.read(FILES[kind]) != before
    made.release()
    assert linux.read(FILES[kind]) == before


@pytest.mark.parametrize("kind", FILES)
def test_safe_values_are_the_least_that_the_actuator_ever_sets(linux: FakeLinux, kind: str) -> None:
    made = actuator(kind, linux)
    made.apply(NOTHING)
    safe = {write.where: write.text for write in made.safe_writes() if not write.device}
    assert safe[str(linux.path(FILES[kind]))] == linux.read(FILES[kind])


@pytest.mark.parametrize("make", [RaplMeter, RaplLimit, CpuFreqLimit])
def test_machine_without_the_hardware_says_so(tmp_path: Path, make: type[RaplMeter]) -> None:
    with pytest.raises(DriverError, match=str(tmp_path)):
        make(tmp_path)
