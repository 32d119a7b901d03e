"""What podman runs in: a bubblewrap that has podman, one image's files, and no more of the machine than a task has.

Podman, what it starts and the container are in process, mount, network and user namespaces of the enclosure, which the
kernel ends with its first process, and that with the node: no container, mount or record outlives either. The enclosure
maps one unprivileged user of the machine, root within; so neither subordinate ids nor set-uid helpers are needed.
Within, podman makes the container's own namespaces, without any capability, without a network, its root read-only.

Podman's records are in a tmpfs that ends with the enclosure. Of the disk, a task's enclosure has the image's files,
read-only; that which loads an image has the folder in which they are unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .bubblewrap import (
    SUPERVISOR,
    SandboxUnavailable,
    Tools,
    attainable,
    system_folders,
    task_view,
    unprivileged,
)
from .oci_seccomp import container_profile
from .seccomp import enclosure_filter_program

NOT_STARTED = b"not started\n"
PODMAN_BYTES = 64 << 20  # its records and sockets
ROOTFS = "/rootfs"
_NEEDED = {"podman": "podman", "crun": "crun", "conmon": "conmon"}
_HELD = "/podman/pid"  # written once the container runs
# What the container's own supervisor adds: whether podman ever started the container is ours to say.
_AFTER = f"[ -s {_HELD} ] || {{ echo not started >&3; exit $code; }}\n"
_NAMESPACES = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
# No message of a task's: what podman has to say about the machine is not the job's.
_SETTINGS = {
    "containers.conf": (
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "crun"\ntmp_dir = "/podman/tmp"\n'
    ),
    "storage.conf": (
        '[storage]\ndriver = "vfs"\ngraphroot = "/podman/graph"\nrunroot = "/podman/run"\n'
        # One user is mapped: files of an image's other users become the task's own.
        '[storage.options.vfs]\nignore_chown_errors = "true"\n'
    ),
    "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}\n',  # the digest is what is trusted
}
_LOADING = _SETTINGS["storage.conf"].replace("/podman/graph", "/store/graph")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    "HOME": "/podman",
    "XDG_RUNTIME_DIR": "/podman/user",
    "CONTAINERS_CONF": "/etc/containers/containers.conf",
}
# What a container's files must have for podman to mount upon, since it cannot make it in a read-only image.
_POINTS = ("dev", "proc", "sys", "in", "out", "tmp", "ckpt", "run", "etc")
_EMPTY = "empty"
_POINT_FILES = ("input", "run/.containerenv", "etc/hostname")


def find_podman() -> None:
    """Raises SandboxUnavailable with the first program that is absent."""
    for name, package in _NEEDED.items():
        try:
            Tools.locate(name)
        except SandboxUnavailable as error:
            raise SandboxUnavailable(f"{name} is not installed (package {package})") from error


def write_settings(folder: Path) -> None:
    """Podman's configuration, for enclosures to read. Raises SandboxUnavailable, OSError."""
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    texts = {**_SETTINGS, "loading.conf": _LOADING, _EMPTY: ""}
    contents = {name: text.encode() for name, text in texts.items()}
    for name, content in {**contents, "tasks.json": container_profile()}.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What all enclosures of a node have. settings: the folder of `write_settings`.  nice: 0 … 19.  uid: whom to
    become first (root only).  tag: names the node's sandboxes."""

    settings: Path
    nice: int
    uid: int | None
    tag: str

    def argv(self, tools: Tools, inside: Sequence[str], fds: Sequence[str], script: str, storage: str) -> list[str]:
        """inside: what else is mounted.  fds: bwrap's words about descriptors.  script: run by the first process."""
        words = []
        for name, value in {**_ENVIRONMENT, "CONTAINERS_STORAGE_CONF": f"/etc/containers/{storage}"}.items():
            words += ["--setenv", name, value]
        return [
            *unprivileged(tools, self.nice, self.uid),
            tools.bwrap,
            *(f"--unshare-{kind}" for kind in _NAMESPACES),
            *("--uid", "0", "--gid", "0", "--hostname", self.tag, "--cap-add", "ALL"),
            *("--as-pid-1", "--new-session", "--die-with-parent", "--clearenv"),
            *words,
            *system_folders(),
            *("--proc", "/proc", "--dev", "/dev", "--ro-bind", str(self.settings), "/etc/containers"),
            # Podman looks for control groups, and goes without where there are none.
            *("--dir", "/sys/fs", "--size", "4096", "--tmpfs", "/sys/fs/cgroup"),
            *("--size", str(PODMAN_BYTES), "--tmpfs", "/podman", "--dir", "/podman/user", "--dir", "/podman/tmp"),
            *("--size", str(PODMAN_BYTES), "--tmpfs", "/run", "--dir", "/var/tmp"),
            *inside,
            *("--remount-ro", "/", "--chdir", "/"),
            *fds,
            "--",
            *(tools.sh, "-c", script, "supervisor"),
        ]


@dataclass(frozen=True, slots=True)
class Container:
    """One task's surroundings.

    rootfs: bwrap's words that put the image's files into /rootfs.  command: its program and arguments.
    read_only, checkpoint, scratch_bytes, limits: as of `Sandbox`.
    """

    enclosure: Enclosure
    rootfs: Sequence[str]
    command: Sequence[str]
    environment: Mapping[str, str]
    read_only: Sequence[tuple[Path, str]]
    checkpoint: Path | None
    scratch_bytes: int
    limits: Mapping[str, int]

    has_container: ClassVar[bool] = True

    def launch_argv(self, tools: Tools, seccomp_fd: int, input_fd: int, status_fd: int) -> list[str]:
        """See `Surroundings`."""
        # A file with a name, unlike that of --ro-bind-data: podman could not mount another.
        view = [*self.rootfs, *task_view(self.scratch_bytes, self.read_only, self.checkpoint)]
        view += ["--file", str(input_fd), "/input"]
        fds = ["--seccomp", str(seccomp_fd), "--json-status-fd", str(status_fd)]
        script = SUPERVISOR.format(tar=tools.tar, after=_AFTER)
        return [*self.enclosure.argv(tools, view, fds, script, "storage.conf"), *self.podman_argv()]

    def system_calls(self) -> bytes:
        """See `Surroundings`."""
        return enclosure_filter_program()

    def podman_argv(self) -> list[str]:
        """What makes the container, within the enclosure."""
        words = ["podman", "run", "--log-level=fatal", f"--pidfile={_HELD}"]
        # Its input and outputs are the enclosure's: nothing is copied, kept or forwarded.
        words += ["--log-driver=passthrough", "--cgroups=disabled", "--systemd=false", "--oom-score-adj=1000"]
        words += ["--network=none", "--no-hosts", "--hostname=task", "--passwd=false", "--http-proxy=false"]
        words += ["--cap-drop=all", "--security-opt=no-new-privileges"]
        words += ["--security-opt=seccomp=/etc/containers/tasks.json"]
        # What is mounted over its own default is as small as it can be, and not for writing.
        words += ["--read-only", "--read-only-tmpfs=false"]
        words += ["--mount=type=tmpfs,dst=/dev,ro=true,tmpfs-size=65536,tmpfs-mode=0755"]
        words += ["--mount=type=tmpfs,dst=/sys/fs/cgroup,ro=true,tmpfs-size=4096"]
        words += ["--volume=/in:/in:ro", "--volume=/input:/input:ro", "--volume=/out:/out", "--volume=/tmp:/tmp"]
        words += ["--volume=/tmp:/dev/shm", *(["--volume=/ckpt:/ckpt"] if self.checkpoint is not None else [])]
        words += ["--workdir=/out"]
        words += [f"--env={name}={value}" for name, value in self.environment.items()]
        for name, value in self.limits.items():
            most = attainable(name, value)
            words.append(f"--ulimit={name}={most}:{most}")
        return [*words, "--rootfs", ROOTFS, *self.command]


@dataclass(frozen=True, slots=True)
class Loading:
    """Surroundings in which podman unpacks an archive. store: the folder, the user's own as its `tmp` is, in which
    `rootfs` appears.
    archive: (host path, path inside).  config: the image's configuration's digest; another image fails."""

    enclosure: Enclosure
    store: Path
    archive: tuple[Path, str]
    config: str

    has_container: ClassVar[bool] = False

    @property
    def checkpoint(self) -> Path | None:
        return None

    def launch_argv(self, tools: Tools, seccomp_fd: int, input_fd: int, status_fd: int) -> list[str]:
        """See `Surroundings`."""
        host, inside = self.archive
        view = ["--bind", str(self.store), "/store", "--ro-bind", str(host), inside]
        view += ["--bind", str(self.store / "tmp"), "/var/tmp", "--file", str(input_fd), "/input"]
        fds = ["--seccomp", str(seccomp_fd), "--json-status-fd", str(status_fd)]
        script = SUPERVISOR.format(tar=tools.tar, after="")
        command = [tools.sh, "-c", _unpack(), "unpack", inside, self.config]
        return [*self.enclosure.argv(tools, view, fds, script, "loading.conf"), *command]

    def system_calls(self) -> bytes:
        """See `Surroundings`."""
        return enclosure_filter_program()


def _unpack() -> str:
    """$1: the archive.  $2: the image. Of podman's storage the image's files are kept, and nothing else."""
    lines = ["set -e", 'podman --log-level=error pull --quiet "oci-archive:$1" >/dev/null']
    lines += ['root=$(podman image mount "$2")', 'test -n "$root"', 'cd "$root"', f"mkdir -p {' '.join(_POINTS)}"]
    lines += [f"test -e {name} || : >{name}" for name in _POINT_FILES]
    lines += ["test -L etc/mtab || test -e etc/mtab || ln -s /proc/mounts etc/mtab"]
    return "\n".join([*lines, "cd /store", 'mv "$root" /store/rootfs', "chmod u+rwx /store/rootfs"])


def host_rootfs(settings: Path) -> list[str]:
    """bwrap's words for a container of the machine's own programs: for trials. settings: of `write_settings`."""
    words = system_folders(ROOTFS)
    for name in _POINTS:
        words += ["--dir", f"{ROOTFS}/{name}"]
    for name in _POINT_FILES:
        words += ["--ro-bind", str(settings / _EMPTY), f"{ROOTFS}/{name}"]
    return [*words, "--symlink", "/proc/mounts", f"{ROOTFS}/etc/mtab"]


def trial_argv(tools: Tools, enclosure: Enclosure, program: str) -> list[str]:
    """The whole command line of a container that runs one of the machine's programs, and is watched by nobody."""
    rootfs = host_rootfs(enclosure.settings)
    container = Container(enclosure, rootfs, [program], {}, (), None, 0, {"nofile": 256, "nproc": 64, "core": 0})
    view = [*rootfs, *task_view(0, (), None), "--ro-bind", str(enclosure.settings / _EMPTY), "/input"]
    return [*enclosure.argv(tools, view, (), '"$@"; exit $?', "storage.conf"), *container.podman_argv()]


def image_rootfs(folder: Path) -> list[str]:
    """bwrap's words for a container of an image's files."""
    return ["--ro-bind", str(folder), ROOTFS]
