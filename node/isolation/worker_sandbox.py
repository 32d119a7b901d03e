"""A wasm worker's surroundings: what it needs of the machine's files, and the bubblewrap that shows it no others."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..execution.bubblewrap import INSIDE_ID, system_view

_SEARCHED = ("PYTHONPATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Confinement:
    """The layers that workers put on. bwrap: its path, "" for none.  landlock_abi: 0 for none.

    missing: one line for each layer that this machine does not have, why and how to get it.
    """

    bwrap: str = ""
    seccomp: bool = False
    landlock_abi: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerFolders:
    """The node's own folders that workers use. read: blobs.  write: compiled modules, checkpoints."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()

    def absolute(self) -> WorkerFolders:
        """The same from whatever folder the node was started in."""
        return WorkerFolders(tuple(map(Path.absolute, self.read)), tuple(map(Path.absolute, self.write)))


def worker_argv(bwrap: str, folders: WorkerFolders, tag: str, info_fd: int, command: list[str]) -> list[str]:
    """The worker's command line within bubblewrap: no network, no other process, of the disk what it needs.

    info_fd: where bwrap writes the process id of the worker, as the node sees it.  tag: the host's name inside, by
    which the node's next run finds what was left behind.
    """
    words = [bwrap]
    words += [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    words += ["--disable-userns", "--uid", str(INSIDE_ID), "--gid", str(INSIDE_ID), "--hostname", tag]
    words += ["--cap-drop", "ALL", "--as-pid-1", "--die-with-parent", *system_view()]
    for path in interpreter_paths():
        words += ["--ro-bind-try", str(path), str(path)]
    for path in folders.read:
        words += ["--ro-bind", str(path), str(path)]
    for path in folders.write:
        words += ["--bind", str(path), str(path)]
    return [*words, "--remount-ro", "/", "--chdir", "/", "--info-fd", str(info_fd), "--", *command]


@cache
def interpreter_paths() -> tuple[Path, ...]:
    """Where this Python, its packages and Hearthmesh itself lie, outside of /usr. Never the root folder."""
    import hearthmesh

    found = [Path(sys.executable).parent, Path(os.path.realpath(sys.executable)).parent]
    found += [Path(path) for path in sysconfig.get_paths().values()]
    found += [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
    found += [Path(sys.prefix) / "pyvenv.cfg"]
    package = Path(hearthmesh.__path__[0])
    found += [package, *(Path(os.path.realpath(package / part)) for part in ("node", "protocol", "crypto"))]
    found += [Path(entry) for entry in sys.path if entry.startswith(str(package.parent)) or ".src" in entry]
    for name in _SEARCHED:
        found += [Path(entry) for entry in os.environ.get(name, "").split(":") if entry.startswith("/")]
    kept: dict[Path, None] = {}
    for path in found:
        if path != Path("/") and not path.is_relative_to("/usr") and path.exists():
            kept[path] = None
    return tuple(path for path in kept if not any(path != other and path.is_relative_to(other) for other in kept))


def readable_paths() -> list[Path]:
    """All that a worker reads beside the node's folders."""
    system = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null", "/dev/zero")
    return [*map(Path, system), *interpreter_paths()]
