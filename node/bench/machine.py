"""Where and with what it was measured: numbers without that cannot be compared."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("hearthmesh", "libp2p", "trio", "wasmtime", "msgspec", "pynacl")


def describe_machine(folder: Path) -> dict[str, str | int | float]:
    """folder: where the nodes' state lies, whose disk decides what durable costs."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem_of(folder),
        "load_1min_at_start": round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def filesystem_of(folder: Path) -> str:
    """Type of the mount that holds the folder, as "ext4" or "tmpfs". Source: proc(5), mounts."""
    place, best, found = folder.absolute(), -1, "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, mount, kind, *_ = line.split()
        point = Path(mount.replace("\\040", " "))
        if (place == point or point in place.parents) and len(point.parts) > best:
            best, found = len(point.parts), kind
    return found


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
