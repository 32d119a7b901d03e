"""What an owner lets strangers' jobs run outside of wasm. Without a command in the list, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_SLOTS = 256


@dataclass(frozen=True, slots=True)
class NativeCommand:
    """One program that jobs may name.

    arguments: come before the job's.  environment: all that the program sees, with PATH, LANG, HOME, TMPDIR.
    job_environment: names that a job may set too (never LD_PRELOAD or the like: a job's file could be it).
    read_only: host files and folders, besides /usr, that it sees under the same path.
    memory_bytes: the most that a job may ask for.  processes: the most processes and threads at a time.
    """

    path: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    job_environment: tuple[str, ...] = ()
    read_only: tuple[Path, ...] = ()
    memory_bytes: int = 1 << 30
    processes: int = 64

    def __post_init__(self) -> None:
        for path in (self.path, *self.read_only):
            if not path.is_absolute():
                raise ValueError(f"{path} must be an absolute path")
        if self.memory_bytes < 1 << 20:
            raise ValueError("memory_bytes must be at least 1 MiB (1048576)")
        if not 1 <= self.processes <= 4096:
            raise ValueError("processes must be within 1 and 4096")
        for name in (*self.environment, *self.job_environment):
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} cannot be the name of an environment variable")


@dataclass(frozen=True, slots=True)
class NativeRuntimeConfig:
    """The native runtime of one node.

    slots: tasks at a time.  uid_base: where the node is root, slot n runs as user and group uid_base + n; one
    uid a slot, because old kernels count processes per uid; no account needs to exist, and none should.
    nice: 0 … 19.  disk_reserve_bytes: a task with a checkpoint folder is stopped when its disk has less left.
    """

    commands: Mapping[str, NativeCommand] = field(default_factory=dict)
    slots: int = 1
    uid_base: int = 64_100
    nice: int = 10
    disk_reserve_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= MAX_SLOTS:
            raise ValueError(f"slots must be within 1 and {MAX_SLOTS}")
        if not 1_000 <= self.uid_base <= 2**31 - MAX_SLOTS:
            raise ValueError("uid_base must be at least 1000: the uids below belong to the system")
        if not 0 <= self.nice <= 19:
            raise ValueError("nice must be within 0 and 19")
