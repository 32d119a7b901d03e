"""A tree like /sys of a Linux machine with sensors, RAPL, frequencies and control groups, laid out as kernels do."""

from pathlib import Path


class FakeLinux:
    """root: what to give to the drivers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/sys/kernel/random/boot_id", "0f7a6d1e-3c52-4a8b-9a35-2f0f4a3f8b6d")
        self.write("sys/class/hwmon/hwmon0/name", "acpitz")
        self.write("sys/class/hwmon/hwmon0/temp1_input", "27800")
        self.write("sys/class/hwmon/hwmon10/name", "room")
        self.write("sys/class/hwmon/hwmon10/temp1_input", "19250")
        self.write("sys/class/hwmon/hwmon10/temp2_input", "41000")
        self.write("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp")
        self.write("sys/class/thermal/thermal_zone0/temp", "56000")
        self.write("sys/bus/w1/devices/28-0316a2795c1b/temperature", "4562")
        self.write("sys/bus/iio/devices/iio:device0/name", "bme280")
        self.write("sys/bus/iio/devices/iio:device0/in_temp_input", "21500")
        self.write("sys/bus/iio/devices/iio:device1/name", "ads1115")
        self.write("sys/bus/iio/devices/iio:device1/in_temp_raw", "1000")
        self.write("sys/bus/iio/devices/iio:device1/in_temp_scale", "20.5")
        for number in (0, 1):
            zone = f"sys/class/powercap/intel-rapl:{number}"
            self.write(f"{zone}/name", f"package-{number}")
            self.write(f"{zone}/energy_uj", str(1_000_000 * (number + 1)))
            self.write(f"{zone}/max_energy_range_uj", "262143328850")
            self.write(f"{zone}/constraint_0_name", "long_term")
            self.write(f"{zone}/constraint_0_power_limit_uw", "125000000")
            self.write(f"{zone}/constraint_0_max_power_uw", "125000000")
            self.write(f"{zone}/constraint_1_name", "short_term")
            self.write(f"{zone}/constraint_1_power_limit_uw", "250000000")
        # A part of a package: its energy is in the package's already.
        self.write("sys/class/powercap/intel-rapl:0:0/name", "core")
        self.write("sys/class/powercap/intel-rapl:0:0/energy_uj", "7")
        for number in (0, 1):
            policy = f"sys/devices/system/cpu/cpufreq/policy{number}"
            self.write(f"{policy}/cpuinfo_min_freq", "800000")
            self.write(f"{policy}/cpuinfo_max_freq", "4800000")
            self.write(f"{policy}/scaling_max_freq", "4800000")
        self.write("sys/fs/cgroup/hearth.slice/cpu.max", "max 100000")

    def path(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def read(self, name: str) -> str:
        return (self.root / name).read_text().strip()

    def breaks(self, name: str) -> None:
        """Let a file be there that fails when it is read, as the kernel's do whose device does not answer."""
        path = self.root / name
        path.unlink()
        path.symlink_to("/proc/self/mem")

    def draw(self, energy_uj: int) -> None:
        """Let both packages use so much, each half, over the end of their counters if need be."""
        for number in (0, 1):
            name = f"sys/class/powercap/intel-rapl:{number}/energy_uj"
            self.write(name, str((int(self.read(name)) + energy_uj // 2) % (262_143_328_850 + 1)))
