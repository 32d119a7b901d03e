"""The command line that puts one task into a bubblewrap sandbox, and whether this machine can do it.

Inside there is: /usr read-only, the owner's further read-only paths, /in (the job's files, read-only), /input
(the task's bytes, also its stdin), /out and /tmp (sized tmpfs; the task starts in /out), /ckpt where the job
has checkpoints, a /proc of its own. No network, no capability, no other process, no terminal.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from .seccomp import filter_program

INSIDE_ID = 65534  # nobody: the uid and gid that the task sees
MIN_TMPFS_BYTES = 64 << 10  # tmpfs takes a size of 0 for "no limit"
MAX_TAG_WORD = 32  # how far into the command line the tag is looked for

SEARCH_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_PACKAGES = {"bwrap": "bubblewrap", "setpriv": "util-linux", "prlimit": "util-linux", "nice": "coreutils"}
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OPTIONAL_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

# Runs inside as the first process, so that nothing inside can kill it, and with the task's rights, so that
# nothing that it says is trusted. Descriptor 0 is a socket to the node. "ready" says that whatever ends the
# sandbox with the node is in place; no answer, that the node is gone. What the command left running is dead
# before its output folder is handed out.
READY = b"ready\n"
GO = b"go\n"
SUPERVISOR = """
exec 3<&0 0</input
echo ready >&3
read -r go <&3 || exit 1
echo 1000 2>/dev/null >/proc/self/oom_score_adj
"$@" 3<&-
code=$?
kill -s KILL -- -1 2>/dev/null
{after}{tar} --create --file=- --format=ustar --hard-dereference --directory=/out . >&3 2>/dev/null
exit $code
"""


class SandboxUnavailable(Exception):
    """This machine cannot sandbox native tasks; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of the programs that a sandbox is made of."""

    bwrap: str
    setpriv: str
    prlimit: str
    nice: str
    tar: str
    sh: str

    @classmethod
    def find(cls) -> Tools:
        """Raises SandboxUnavailable with the name of the first that is absent."""
        return cls(*(cls.locate(name) for name in ("bwrap", "setpriv", "prlimit", "nice", "tar", "sh")))

    @staticmethod
    def locate(name: str) -> str:
        """Raises SandboxUnavailable."""
        path = shutil.which(name, path=SEARCH_PATH)
        if path is None:
            package = _PACKAGES.get(name, name)
            raise SandboxUnavailable(f"{name} is not installed (package {package})")
        return path


class Surroundings(Protocol):
    """What `run_sandboxed` starts and watches.

    checkpoint: host folder for /ckpt, whose size is watched.  has_container: whether the task is in process
    namespaces of its own within the sandbox, beside programs that are ours.
    """

    has_container: ClassVar[bool]

    @property
    def checkpoint(self) -> Path | None: ...

    def launch_argv(self, tools: Tools, seccomp_fd: int, input_fd: int, status_fd: int) -> list[str]:
        """The whole command line. The three descriptors must be inherited under the same numbers.

        seccomp_fd: the filter, read to its end.  input_fd: the task's bytes, likewise.  status_fd: where bwrap
        writes its JSON lines.  Descriptor 0 must be the node's socket.
        """
        ...

    def system_calls(self) -> bytes:
        """The filter that the sandbox puts on. Raises UnsupportedMachine."""
        ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One native task's surroundings.

    argv: the program and its arguments.  read_only: (host path, path inside).  checkpoint: host folder for
    /ckpt.  scratch_bytes: size of /tmp and /out, each.  limits: of each process of the task, by prlimit's
    names.  uid: whom to become first (root only); None = stay who we are.  tag: names the node's sandboxes, so
    that a later run of the same node can tell which processes are its predecessor's.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    read_only: Sequence[tuple[Path, str]]
    checkpoint: Path | None
    scratch_bytes: int
    limits: Mapping[str, int]
    nice: int
    uid: int | None
    tag: str

    has_container: ClassVar[bool] = False

    def launch_argv(self, tools: Tools, seccomp_fd: int, input_fd: int, status_fd: int) -> list[str]:
        """See `Surroundings`."""
        return [
            *unprivileged(tools, self.nice, self.uid),
            tools.bwrap,
            *_namespaces(self.tag),
            *_environment(self.environment),
            *system_view(),
            *("--symlink", "/tmp", "/dev/shm"),
            *task_view(self.scratch_bytes, self.read_only, self.checkpoint),
            *("--ro-bind-data", str(input_fd), "/input"),
            *("--remount-ro", "/", "--chdir", "/out"),
            *("--seccomp", str(seccomp_fd), "--json-status-fd", str(status_fd), "--"),
            *(tools.sh, "-c", SUPERVISOR.format(tar=tools.tar, after=""), "supervisor"),
            *_limited(tools, self.limits),
            *self.argv,
        ]

    def system_calls(self) -> bytes:
        """See `Surroundings`."""
        return filter_program()


def unprivileged(tools: Tools, nice: int, uid: int | None) -> list[str]:
    """Before a command: less urgent, and as that user and group alone. None: as who we are."""
    become = [tools.setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    return [tools.nice, "-n", str(nice), *(become if uid is not None else [])]


def _namespaces(tag: str) -> list[str]:
    unshare = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    who = ["--uid", str(INSIDE_ID), "--gid", str(INSIDE_ID), "--hostname", tag]
    return [*unshare, "--disable-userns", *who, "--as-pid-1", "--new-session", "--die-with-parent"]


def _environment(environment: Mapping[str, str]) -> list[str]:
    base = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}
    words = ["--clearenv"]
    for name, value in {**base, **environment}.items():
        words += ["--setenv", name, value]
    return words


def system_view() -> list[str]:
    """/usr and what points into it, a /proc of its own, five devices."""
    words = [*system_folders(), "--proc", "/proc", "--dir", "/dev"]
    for device in _DEVICES:
        words += ["--dev-bind", device, device]
    return words


def system_folders(under: str = "") -> list[str]:
    """/usr and what points into it, read-only. under: the folder inside that they appear in."""
    words = ["--ro-bind", "/usr", f"{under}/usr"]
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), under + folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, under + folder]
    for path in _OPTIONAL_FILES:
        words += ["--ro-bind-try", path, under + path]
    return words


def task_view(scratch_bytes: int, read_only: Sequence[tuple[Path, str]], checkpoint: Path | None) -> list[str]:
    """/tmp, /out, /in, /ckpt. See `Sandbox` for what they are made of."""
    size = str(max(scratch_bytes, MIN_TMPFS_BYTES))
    words = ["--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", "/out"]
    words += ["--dir", "/in"]
    for host, inside in read_only:
        words += ["--ro-bind", str(host), inside]
    if checkpoint is not None:
        words += ["--bind", str(checkpoint), "/ckpt"]
    return words


def _limited(tools: Tools, limits: Mapping[str, int]) -> list[str]:
    """Set inside, where the number of processes counts per sandbox; none above what we have ourselves."""
    return [tools.prlimit, *(f"--{name}={attainable(name, value)}" for name, value in limits.items()), "--"]


def attainable(name: str, value: int) -> int:
    """A limit of prlimit's names, no higher than we may set it."""
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def kill_orphans(tag: str) -> int:
    """End what an earlier process of this node left behind, and count it. The kernel ends sandboxes together
    with their node, except where the node dies within the first milliseconds of bwrap's own start."""
    count = 0
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            fd = os.pidfd_open(int(number))
        except OSError:
            continue
        try:
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            if os.path.basename(words[0]) == b"bwrap" and tag.encode() in words[1:MAX_TAG_WORD]:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                count += 1
        except OSError:
            continue
        finally:
            os.close(fd)
    return count


def memory_file(name: str, content: bytes) -> int:
    """A descriptor, closed on exec, of an anonymous file that holds `content`, at its start."""
    fd = os.memfd_create(name)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:  # the descriptor is ours until it is handed over
        os.close(fd)
        raise
    return fd


def last_line(stderr: bytes) -> str:
    """The last words of a program, as one printable line of at most 200 characters."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:200]
