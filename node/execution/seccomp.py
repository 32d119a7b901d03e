"""The system-call filters of native tasks and of the wasm worker, assembled as classic BPF.

A denylist on top of a user namespace without rights: what remains reachable from inside is the kernel's own
surface, so everything that a computation does not need and that has been a way out before is refused. The
kernel runs the program at each system call over `struct seccomp_data` (linux/seccomp.h): the call's number
at offset 0, the architecture at 4, the six arguments, 64 bits each and little endian, from 16 on.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
REFUSE = 0x00050000  # or-ed with the errno that the caller sees

LOAD_WORD = 0x20  # A = data[k]
JUMP_EQUAL = 0x15  # A == k
JUMP_GREATER = 0x25  # A > k
JUMP_AT_LEAST = 0x35  # A >= k
JUMP_BITS = 0x45  # A & k
RETURN = 0x06

OFFSET_NUMBER = 0
OFFSET_ARCHITECTURE = 4
OFFSET_ARGUMENTS = 16

X32_BIT = 0x40000000  # numbers of x86-64's second ABI, which would sidestep every comparison below
NEWEST_REVIEWED = 466  # removexattrat, Linux 6.13. Later calls have the same number everywhere; none was looked at

AF_UNIX = 1
TIOCSTI = 0x5412  # types into the terminal's input
TIOCLINUX = 0x541C  # pastes the console's selection
NEW_THREAD = 0x00010000  # the clone() flag that a thread has and a process has not
NEW_NAMESPACES = (  # the clone() flags; time namespaces are for unshare and clone3 only
    0x00020000  # mount
    | 0x02000000  # cgroup
    | 0x04000000  # uts
    | 0x08000000  # ipc
    | 0x10000000  # user
    | 0x20000000  # pid
    | 0x40000000  # net
)


class UnsupportedMachine(Exception):
    """No filter is known for this processor."""


class Instruction(NamedTuple):
    """One `struct sock_filter`: the jumps count instructions to skip, when true and when not."""

    code: int
    when_true: int
    when_false: int
    operand: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """What differs between processors. column: which number of DENIED holds."""

    audit: int
    column: int
    clone: int
    socket: int
    ioctl: int
    has_x32: bool
    kill: int
    tgkill: int
    prlimit: int


ARCHITECTURES = {
    "x86_64": Architecture(
        audit=0xC000003E, column=0, clone=56, socket=41, ioctl=16, has_x32=True, kill=62, tgkill=234, prlimit=302
    ),
    "aarch64": Architecture(
        audit=0xC00000B7, column=1, clone=220, socket=198, ioctl=29, has_x32=False, kill=129, tgkill=131, prlimit=261
    ),
}

# name: (x86-64, aarch64 or None, errno). ENOSYS where the C library then takes an older way.
DENIED: dict[str, tuple[int, int | None, int]] = {
    # other processes' memory and descriptors
    "ptrace": (101, 117, errno.EPERM),
    "process_vm_readv": (310, 270, errno.EPERM),
    "process_vm_writev": (311, 271, errno.EPERM),
    "process_madvise": (440, 440, errno.EPERM),
    "kcmp": (312, 272, errno.EPERM),
    "pidfd_getfd": (438, 438, errno.EPERM),
    # namespaces and mounts
    "unshare": (272, 97, errno.EPERM),
    "setns": (308, 268, errno.EPERM),
    "clone3": (435, 435, errno.ENOSYS),  # its flags are in memory, where no filter can see them
    "mount": (165, 40, errno.EPERM),
    "umount2": (166, 39, errno.EPERM),
    "pivot_root": (155, 41, errno.EPERM),
    "chroot": (161, 51, errno.EPERM),
    "open_tree": (428, 428, errno.EPERM),
    "move_mount": (429, 429, errno.EPERM),
    "fsopen": (430, 430, errno.EPERM),
    "fsconfig": (431, 431, errno.EPERM),
    "fsmount": (432, 432, errno.EPERM),
    "fspick": (433, 433, errno.EPERM),
    "mount_setattr": (442, 442, errno.EPERM),
    "open_by_handle_at": (304, 265, errno.EPERM),
    "name_to_handle_at": (303, 264, errno.EPERM),
    "quotactl": (179, 60, errno.EPERM),
    "quotactl_fd": (443, 443, errno.EPERM),
    # one process group, so that a pause stops the whole task
    "setsid": (112, 157, errno.EPERM),
    "setpgid": (109, 154, errno.EPERM),
    # the kernel's richest surfaces
    "bpf": (321, 280, errno.EPERM),
    "perf_event_open": (298, 241, errno.EPERM),
    "userfaultfd": (323, 282, errno.EPERM),
    "io_uring_setup": (425, 425, errno.EPERM),
    "io_uring_enter": (426, 426, errno.EPERM),
    "io_uring_register": (427, 427, errno.EPERM),
    "fanotify_init": (300, 262, errno.EPERM),
    "vmsplice": (278, 75, errno.EPERM),
    "add_key": (248, 217, errno.EPERM),
    "request_key": (249, 218, errno.EPERM),
    "keyctl": (250, 219, errno.EPERM),
    "lookup_dcookie": (212, 18, errno.EPERM),
    # memory that no process maps, so that no meter would see it
    "memfd_create": (319, 279, errno.ENOSYS),
    "memfd_secret": (447, 447, errno.ENOSYS),
    "shmget": (29, 194, errno.ENOSYS),
    "semget": (64, 190, errno.ENOSYS),
    "msgget": (68, 186, errno.ENOSYS),
    "mq_open": (240, 180, errno.ENOSYS),
    # the machine
    "init_module": (175, 105, errno.EPERM),
    "finit_module": (313, 273, errno.EPERM),
    "delete_module": (176, 106, errno.EPERM),
    "kexec_load": (246, 104, errno.EPERM),
    "kexec_file_load": (320, 294, errno.EPERM),
    "reboot": (169, 142, errno.EPERM),
    "swapon": (167, 224, errno.EPERM),
    "swapoff": (168, 225, errno.EPERM),
    "acct": (163, 89, errno.EPERM),
    "syslog": (103, 116, errno.EPERM),
    "vhangup": (153, 58, errno.EPERM),
    "settimeofday": (164, 170, errno.EPERM),
    "clock_settime": (227, 112, errno.EPERM),
    "clock_adjtime": (305, 266, errno.EPERM),
    "adjtimex": (159, 171, errno.EPERM),
    "sethostname": (170, 161, errno.EPERM),
    "setdomainname": (171, 162, errno.EPERM),
    "personality": (135, 92, errno.EPERM),
    "iopl": (172, None, errno.EPERM),
    "ioperm": (173, None, errno.EPERM),
    "modify_ldt": (154, None, errno.EPERM),
    "uselib": (134, None, errno.EPERM),
    "migrate_pages": (256, 238, errno.EPERM),
    "move_pages": (279, 239, errno.EPERM),
}

# What podman and its runtime need, beside what a task may do, before the container is set up. Its own filter is
# stricter, see `oci_seccomp.py`.
_ENCLOSURE_ALLOWED = frozenset(
    {
        *("unshare", "setns", "clone3", "setsid", "setpgid", "memfd_create", "sethostname", "keyctl"),
        *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount"),
        *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "name_to_handle_at"),
    }
)

# What a wasm worker needs no more once it serves, beside what no task may do: other programs and processes, sockets but
# the one to the node, other people's signals and limits, other users' rights.
WORKER_DENIED: dict[str, tuple[int | None, int | None, int]] = {
    "execve": (59, 221, errno.EPERM),
    "execveat": (322, 281, errno.EPERM),
    "fork": (57, None, errno.EPERM),
    "vfork": (58, None, errno.EPERM),
    "socket": (41, 198, errno.EACCES),
    "socketpair": (53, 199, errno.EACCES),
    "connect": (42, 203, errno.EACCES),
    "bind": (49, 200, errno.EACCES),
    "listen": (50, 201, errno.EACCES),
    "accept": (43, 202, errno.EACCES),
    "accept4": (288, 242, errno.EACCES),
    "sendmsg": (46, 211, errno.EPERM),
    "recvmsg": (47, 212, errno.EPERM),
    "tkill": (200, 130, errno.EPERM),
    "rt_sigqueueinfo": (129, 138, errno.EPERM),
    "rt_tgsigqueueinfo": (297, 240, errno.EPERM),
    "pidfd_open": (434, 434, errno.EPERM),
    "pidfd_send_signal": (424, 424, errno.EPERM),
    "setuid": (105, 146, errno.EPERM),
    "setgid": (106, 144, errno.EPERM),
    "setreuid": (113, 145, errno.EPERM),
    "setregid": (114, 143, errno.EPERM),
    "setresuid": (117, 147, errno.EPERM),
    "setresgid": (119, 149, errno.EPERM),
    "setgroups": (116, 159, errno.EPERM),
    "capset": (126, 91, errno.EPERM),
    "mknod": (133, None, errno.EPERM),
    "mknodat": (259, 33, errno.EPERM),
    "symlink": (88, None, errno.EPERM),
    "symlinkat": (266, 36, errno.EPERM),
    "link": (86, None, errno.EPERM),
    "linkat": (265, 37, errno.EPERM),
}
# Wasmtime keeps the first state of a memory there and maps it anew for each task.
_WORKER_ALLOWED = frozenset({"memfd_create"})


def filter_program(machine: str | None = None) -> bytes:
    """The whole filter for a processor (`platform.machine()` by default), as bwrap's --seccomp reads it.

    Raises UnsupportedMachine for a processor other than x86-64 and aarch64.
    """
    machine = machine or platform.machine()
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise UnsupportedMachine(f"no system-call filter for {machine}; known: {', '.join(ARCHITECTURES)}")
    return _pack(_assemble(architecture))


def enclosure_filter_program(machine: str | None = None) -> bytes:
    """The filter around podman and a container: what sets a container up is allowed, the kernel's other surfaces are
    not. Raises UnsupportedMachine."""
    machine = machine or platform.machine()
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise UnsupportedMachine(f"no system-call filter for {machine}; known: {', '.join(ARCHITECTURES)}")
    start = _when(JUMP_EQUAL, architecture.clone, [_return(ALLOW)])
    start += _when(JUMP_EQUAL, architecture.socket, [_return(ALLOW)])
    return _pack(_assemble(architecture, start, _ENCLOSURE_ALLOWED))


def worker_filter_program(own_pid: int, machine: str | None = None) -> bytes:
    """The filter that a wasm worker puts on itself before it takes a request: threads, files that it may open anyway,
    and the socket that it has.

    own_pid: whom it may signal and limit, as it sees itself.  Raises UnsupportedMachine.
    """
    machine = machine or platform.machine()
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise UnsupportedMachine(f"no system-call filter for {machine}; known: {', '.join(ARCHITECTURES)}")
    to_itself = [_only_argument(0, own_pid, errno.EPERM), _only_argument(0, 0, errno.EPERM, own_pid)]
    start = _when(
        JUMP_EQUAL,
        architecture.clone,
        [
            _load(OFFSET_ARGUMENTS),
            Instruction(JUMP_BITS, 0, 1, NEW_NAMESPACES),
            _return(REFUSE | errno.EPERM),
            Instruction(JUMP_BITS, 1, 0, NEW_THREAD),
            _return(REFUSE | errno.EPERM),
            _return(ALLOW),
        ],
    )
    for number in (architecture.kill, architecture.tgkill):
        start += _when(JUMP_EQUAL, number, to_itself[0])
    start += _when(JUMP_EQUAL, architecture.prlimit, to_itself[1])
    for numbers in WORKER_DENIED.values():
        number_here = numbers[architecture.column]
        if number_here is not None:
            start += _when(JUMP_EQUAL, number_here, [_return(REFUSE | numbers[2])])
    return _pack(_assemble(architecture, start, _WORKER_ALLOWED))


def _pack(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _assemble(
    architecture: Architecture, first: Sequence[Instruction] = (), allowed: frozenset[str] = frozenset()
) -> list[Instruction]:
    """The common filter. first: instructions before its own, where the call's number is loaded.  allowed: names that
    are not denied after all."""
    program = [
        _load(OFFSET_ARCHITECTURE),
        Instruction(JUMP_EQUAL, 1, 0, architecture.audit),
        _return(KILL_PROCESS),
        _load(OFFSET_NUMBER),
    ]
    if architecture.has_x32:
        program += _when(JUMP_AT_LEAST, X32_BIT, [_return(REFUSE | errno.EPERM)])
    program += _when(JUMP_GREATER, NEWEST_REVIEWED, [_return(REFUSE | errno.ENOSYS)])
    program += first
    program += _when(JUMP_EQUAL, architecture.clone, _refuse_argument(0, JUMP_BITS, [NEW_NAMESPACES], errno.EPERM))
    program += _when(JUMP_EQUAL, architecture.ioctl, _refuse_argument(1, JUMP_EQUAL, [TIOCSTI, TIOCLINUX], errno.EPERM))
    program += _when(JUMP_EQUAL, architecture.socket, _only_argument(0, AF_UNIX, errno.EACCES))
    for name, numbers in DENIED.items():
        number = numbers[architecture.column]
        if number is not None and name not in allowed:
            program += _when(JUMP_EQUAL, number, [_return(REFUSE | numbers[2])])
    return [*program, _return(ALLOW)]


def _load(offset: int) -> Instruction:
    return Instruction(LOAD_WORD, 0, 0, offset)


def _return(verdict: int) -> Instruction:
    return Instruction(RETURN, 0, 0, verdict)


def _when(jump: int, operand: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, which returns, when the comparison with the call's number holds; else skip it."""
    assert len(body) < 256 and body[-1].code == RETURN
    return [Instruction(jump, 0, len(body), operand), *body]


def _refuse_argument(index: int, jump: int, operands: list[int], error: int) -> list[Instruction]:
    """Refuse the call when a comparison with its argument's low word holds (the kernel ignores the high)."""
    body = [_load(OFFSET_ARGUMENTS + 8 * index)]
    for operand in operands:
        body += [Instruction(jump, 0, 1, operand), _return(REFUSE | error)]
    return [*body, _return(ALLOW)]


def _only_argument(index: int, operand: int, error: int, *more: int) -> list[Instruction]:
    """Allow the call only when its argument's low word equals `operand`, or one of `more`."""
    operands = (operand, *more)
    tests = [Instruction(JUMP_EQUAL, len(operands) - at, 0, value) for at, value in enumerate(operands)]
    return [_load(OFFSET_ARGUMENTS + 8 * index), *tests, _return(REFUSE | error), _return(ALLOW)]
