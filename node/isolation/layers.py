"""Which layers this machine has between a task and itself, and how to get those that it lacks."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..execution.bubblewrap import SEARCH_PATH, SandboxUnavailable, Tools, last_line
from ..execution.seccomp import UnsupportedMachine, filter_program
from . import landlock
from .container_trial import try_container
from .worker_sandbox import Confinement, WorkerFolders, worker_argv

TRIAL_TIMEOUT_S = 20.0
_PR_GET_SECCOMP = 21
# Runtimes of programs that nothing holds but these layers.
STRANGERS = ("native", "oci")
_NAMESPACE_SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile for bwrap, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. needed_by: the runtimes that refuse to run without it.  mend: how to get it, "" if it is there."""

    name: str
    is_there: bool
    detail: str
    mend: str = ""
    needed_by: tuple[str, ...] = ()


def layers() -> tuple[Layer, ...]:
    """Looks, and tries: starts a few short processes, which takes a few hundred milliseconds, and up to a minute
    where a container does not start."""
    return (*layers_around_programs(), _podman())


def layers_around_programs() -> tuple[Layer, ...]:
    """As `layers`, without a container: what native tasks and the enclosure of containers need."""
    return tuple(look() for look in _LOOKS)


def lacking(found: tuple[Layer, ...], runtime: str) -> tuple[Layer, ...]:
    """The layers without which a runtime refuses."""
    return tuple(layer for layer in found if not layer.is_there and runtime in layer.needed_by)


@cache
def detect() -> Confinement:
    """What wasm workers of this process put on; found out once."""
    bubblewrap, namespaces, filters, own = _bubblewrap(), _user_namespaces(), _seccomp(), _landlock()
    enclosed = bubblewrap.is_there and namespaces.is_there
    missing = [
        f"{layer.name}: {layer.detail}; {layer.mend}"
        for layer in (bubblewrap, namespaces, filters, own)
        if not layer.is_there
    ]
    return Confinement(
        bwrap=_program("bwrap") or "" if enclosed else "",
        seccomp=filters.is_there,
        landlock_abi=landlock.abi_version() if own.is_there else 0,
        missing=tuple(missing),
    )


def _bubblewrap() -> Layer:
    needed = STRANGERS
    try:
        tools = Tools.find()
    except SandboxUnavailable as error:
        return Layer("bubblewrap", False, str(error), f"{_install('bubblewrap util-linux tar')}", needed)
    version = _output([tools.bwrap, "--version"]).removeprefix("bubblewrap ") or "of unknown version"
    return Layer("bubblewrap", True, version, needed_by=needed)


def _user_namespaces() -> Layer:
    needed = STRANGERS
    bwrap = _program("bwrap")
    for path, off, mend in _NAMESPACE_SWITCHES:
        if _read(path) == off and os.geteuid() != 0:
            return Layer("user namespaces", False, f"{path} is {off}", mend, needed)
    if bwrap is None:
        return Layer("user namespaces", False, "not tried, there is no bubblewrap", "install it first", needed)
    reader, writer = os.pipe()
    try:
        command = worker_argv(bwrap, WorkerFolders(), "hearth-trial", writer, [sys.executable, "-c", ""])
        trial = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(writer,), timeout=TRIAL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Layer("user namespaces", False, f"a trial did not end: {error}", "look at the kernel's log", needed)
    finally:
        os.close(reader)
        os.close(writer)
    if trial.returncode != 0:
        mend = "bubblewrap 0.8 or newer, and a kernel or container that allows user namespaces and a new /proc"
        return Layer("user namespaces", False, last_line(trial.stderr), mend, needed)
    return Layer("user namespaces", True, "a program started in its own", needed_by=needed)


def _seccomp() -> Layer:
    needed = STRANGERS
    try:
        filter_program()
    except UnsupportedMachine as error:
        return Layer("seccomp", False, str(error), "a node on x86-64 or aarch64", needed)
    if ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return Layer("seccomp", False, "the kernel has none", "a kernel with CONFIG_SECCOMP_FILTER", needed)
    return Layer("seccomp", True, f"filters for {platform.machine()}", needed_by=needed)


def _landlock() -> Layer:
    abi = landlock.abi_version()
    if abi == 0:
        mend = "Linux 5.13 or newer with landlock among the lsm= of its command line"
        return Layer("Landlock", False, "the kernel has none, or it is off", mend)
    return Layer("Landlock", True, f"ABI {abi}")


def _limits() -> Layer:
    kinds = ("AS", "DATA", "FSIZE", "NPROC", "NOFILE", "CPU", "CORE")
    absent = [kind for kind in kinds if not hasattr(resource, f"RLIMIT_{kind}")]
    if absent:
        return Layer("resource limits", False, f"without {', '.join(absent)}", "a node on Linux", STRANGERS)
    return Layer("resource limits", True, "memory, files, processes, CPU time", needed_by=STRANGERS)


def _control_groups() -> Layer:
    controllers = _read("/sys/fs/cgroup/cgroup.controllers")
    if controllers is None:
        return Layer("cgroup v2", False, "not mounted", "systemd.unified_cgroup_hierarchy=1; nothing depends on it yet")
    return Layer("cgroup v2", True, f"controllers: {controllers or 'none for us'}")


def _podman() -> Layer:
    needed = ("oci",)
    path = _program("podman")
    if path is None:
        return Layer("podman", False, "not installed", _install("podman crun"), needed)
    version = _output([path, "--version"]).removeprefix("podman version ")
    why = try_container()
    if why:
        mend = f"{_install('podman crun')}, podman 4 or newer; and the layers above"
        return Layer("podman", False, f"{version}, but no container started: {why}", mend, needed)
    return Layer("podman", True, f"{version}, a container started without rights", needed_by=needed)


def _unprivileged() -> Layer:
    if os.geteuid() != 0:
        return Layer("unprivileged user", True, f"the node is user {os.geteuid()}", needed_by=STRANGERS)
    if _program("setpriv") is None:
        mend = f"run the node as a user of its own, or {_install('util-linux')}"
        return Layer("unprivileged user", False, "the node is root and there is no setpriv", mend, STRANGERS)
    detail = "the node is root: native tasks become another user; a user of its own for the node is better"
    return Layer("unprivileged user", True, detail, needed_by=STRANGERS)


_LOOKS: tuple[Callable[[], Layer], ...] = (
    _bubblewrap,
    _user_namespaces,
    _seccomp,
    _landlock,
    _limits,
    _control_groups,
    _unprivileged,
)


def _program(name: str) -> str | None:
    """Where the system has it; what stands in the user's own PATH is not taken for a sandbox."""
    return shutil.which(name, path=SEARCH_PATH)


def _install(packages: str) -> str:
    for manager, words in (("apt-get", "apt install"), ("dnf", "dnf install"), ("pacman", "pacman -S")):
        if shutil.which(manager):
            return f"{words} {packages}"
    return f"install {packages}"


def _output(command: list[str]) -> str:
    try:
        found = subprocess.run(command, capture_output=True, timeout=TRIAL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.decode("utf-8", "replace").strip()[:80]


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
