"""What was there before the node is there after it, whatever happened between; and nothing of another boot ever is."""

import json
import random
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hearthmesh.node.clock import BOOT_ID
from hearthmesh.node.heating.drivers.cgroup import CgroupQuota
from hearthmesh.node.heating.drivers.cpufreq import CpuFreqLimit
from hearthmesh.node.heating.drivers.found import FoundValues
from hearthmesh.node.heating.drivers.interface import Allowed, PowerActuator
from hearthmesh.node.heating.drivers.rapl import RaplLimit
from tests.node.heating.drivers.fake_linux import FakeLinux

ZONES = [f"sys/class/powercap/intel-rapl:{number}/constraint_0_" for number in (0, 1)]
LIMIT = ZONES[0] + "power_limit_uw"
SPEED = "sys/devices/system/cpu/cpufreq/policy1/scaling_max_freq"
QUOTA = "sys/fs/cgroup/hearth.slice/cpu.max"
WHOLE = Allowed(240.0, 1.0, 4.0)


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    made = FakeLinux(tmp_path / "machine")
    made.write(SPEED, "4000000")
    made.write(QUOTA, "350000 100000")
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "found.json"


class Life:
    """Of a node, as far as its actuators go."""

    def __init__(self, linux: FakeLinux, path: Path) -> None:
        self.found = FoundValues(path, linux.root)
        self.actuators: list[PowerActuator] = [
            RaplLimit(linux.root, self.found),
            CpuFreqLimit(linux.root, self.found),
            CgroupQuota("hearth.slice", 4, linux.root, self.found),
        ]
        self.found.keep()

    def apply(self, allowed: Allowed) -> None:
        for each in self.actuators:
            each.apply(allowed)

    def crash(self) -> None:
        """It is gone, and its watchdog did its work."""
        for each in self.actuators:
            for write in each.safe_writes():
                Path(write.where).write_text(write.text)

    def leave(self) -> None:
        for each in self.actuators:
            each.release()
        self.found.put_back()


def values(linux: FakeLinux) -> tuple[str, str, str]:
    return linux.read(LIMIT), linux.read(SPEED), linux.read(QUOTA)


BEFORE = ("125000000", "4000000", "350000 100000")


@pytest.mark.parametrize("greatest", ["125000000", "0", None])
def test_crashes_lower_nothing_and_the_last_life_puts_all_back(
    linux: FakeLinux, path: Path, greatest: str | None
) -> None:
    for zone in ZONES:
        if greatest is None:
            linux.path(zone + "max_power_uw").unlink()
        else:
            linux.write(zone + "max_power_uw", greatest)
    for _ in range(3):
        for _ in range(3):
            life = Life(linux, path)
            life.apply(WHOLE)
            assert values(linux) == ("120000000", "4800000", "425000 100000")
            life.crash()
            assert values(linux) == ("12500000", "800000", "25000 100000")
        Life(linux, path).leave()
        assert values(linux) == BEFORE
        assert not path.exists()


def test_life_that_ends_before_it_changed_anything_leaves_what_the_owner_sets_afterwards(
    linux: FakeLinux, path: Path
) -> None:
    Life(linux, path).leave()
    linux.write(LIMIT, "60000000")
    life = Life(linux, path)
    life.apply(WHOLE)
    life.leave()
    assert linux.read(LIMIT) == "60000000"


def test_hardware_that_started_anew_is_what_it_is_now(linux: FakeLinux, path: Path) -> None:
    Life(linux, path).apply(Allowed(30.0, 0.1, 0.5, speed=0.3))
    linux.write(BOOT_ID, "5e0b1f37-9c7c-4e0c-9d8e-0c6b5f0f6a11")
    linux.write(LIMIT, "95000000")
    linux.write(SPEED, "4400000")
    linux.write(QUOTA, "max 100000")
    life = Life(linux, path)
    life.apply(Allowed(30.0, 0.1, 0.5, speed=0.3))
    life.crash()
    Life(linux, path).leave()
    assert values(linux) == ("95000000", "4400000", "max 100000")


def test_boot_that_is_not_known_is_not_the_same(linux: FakeLinux, path: Path) -> None:
    linux.write(BOOT_ID, "")
    Life(linux, path).crash()
    Life(linux, path).leave()
    assert linux.read(LIMIT) == "12500000"


def test_what_the_settings_govern_no_more_is_put_back_at_once(linux: FakeLinux, path: Path) -> None:
    Life(linux, path).crash()
    found = FoundValues(path, linux.root)
    CpuFreqLimit(linux.root, found)
    assert sorted(found.keep()) == sorted(
        [str(linux.path(QUOTA)), *(str(linux.path(zone + "power_limit_uw")) for zone in ZONES)]
    )
    assert values(linux) == (BEFORE[0], "800000", BEFORE[2])
    # It is gone again, and now nothing is governed.
    assert FoundValues(path, linux.root).keep()
    assert values(linux) == BEFORE
    assert not path.exists()


def test_what_cannot_be_put_back_stays_kept_while_its_file_is_there(linux: FakeLinux, path: Path) -> None:
    life = Life(linux, path)
    life.apply(Allowed(30.0, 0.1, 0.5, speed=0.3))
    speed = linux.path(SPEED)
    speed.rename(speed.with_suffix(".away"))
    speed.mkdir()
    with capture_logs() as logs:
        life.found.put_back()
    assert [log["event"] for log in logs] == ["heater.found"]
    assert list(json.loads(path.read_text())["found"]) == [str(speed)]
    FoundValues(path, linux.root).keep()
    assert path.exists()
    speed.rmdir()
    speed.with_suffix(".away").rename(speed)
    FoundValues(path, linux.root).keep()
    assert (values(linux), path.exists()) == (BEFORE, False)


def test_watchdog_that_came_late_has_not_the_last_word(linux: FakeLinux, path: Path) -> None:
    life = Life(linux, path)
    for each in life.actuators:
        each.release()
    life.crash()
    life.found.put_back()
    assert values(linux) == BEFORE


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x00" * 80,
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "boot": "BOOT", "found": 7}',
        b'{"version": 1, "boot": "BOOT", "found": {"/etc/passwd": "1"}}',
        b'{"version": 1, "boot": "BOOT", "found": {"ROOT/sys/../etc/passwd": "1"}}',
        b'{"version": 1, "boot": "BOOT", "found": {"ROOT/sys/a": 1}}',
        b'{"version": 1, "boot": "BOOT", "found": {"ROOT/sys/a": "\\u00e9"}}',
        b'{"version": 1, "boot": "BOOT", "found": {"ROOT/SPEED": "x"}}',
        b'{"version": 1, "boot": "BOOT", "found": {"ROOT/QUOTA": "12"}}',
        b"[" * 100_000,
        b" " * (1 << 21),
    ],
)
def test_damaged_file_is_a_notice_and_counts_as_none(linux: FakeLinux, path: Path, damage: bytes) -> None:
    names = {b"BOOT": linux.read(BOOT_ID), b"ROOT": str(linux.root), b"SPEED": SPEED, b"QUOTA": QUOTA}
    for name, text in names.items():
        damage = damage.replace(name, text.encode())
    path.write_bytes(damage)
    with capture_logs() as logs:
        life = Life(linux, path)
    assert [(log["event"], log["log_level"]) for log in logs] == [("heater.found", "warning")]
    life.apply(WHOLE)
    life.crash()
    Life(linux, path).leave()
    assert (values(linux), path.exists()) == (BEFORE, False)


def test_any_damage_is_survived(linux: FakeLinux, path: Path) -> None:
    dice = random.Random(1)
    Life(linux, path)
    whole = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.randrange(len(damaged) + 1)])
        Life(linux, path).apply(WHOLE)
        # Whatever was believed of it, what this life found or was left with is kept, all of it.
        assert json.loads(path.read_bytes())["found"].keys() >= json.loads(whole)["found"].keys()


def test_folder_that_cannot_be_written_is_a_notice(linux: FakeLinux, tmp_path: Path) -> None:
    with capture_logs() as logs:
        life = Life(linux, tmp_path / "absent" / "found.json")
    assert [log["log_level"] for log in logs] == ["warning"]
    life.apply(WHOLE)
    life.leave()
    assert values(linux) == BEFORE


def test_boot_is_this_systems_where_the_root_does_not_say(linux: FakeLinux, path: Path) -> None:
    linux.path(BOOT_ID).unlink()
    Life(linux, path).crash()
    Life(linux, path).leave()
    assert values(linux) == BEFORE
