"""What an escaped task would try, each really tried; prints what came of it as JSON.

    python attempts.py JSON        {"secret": path, "folder": path, "node": pid, "port": n, "execute": bool}

Stands alone and uses the standard library only: it runs within the sandboxes that it tries. secret: a file of the
node's owner.  folder: where the sandbox lets write.  node, port: a process and a TCP port of the machine.  execute:
whether starting a program counts as an escape.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import sys
from collections.abc import Callable

_NUMBERS = {  # x86-64, aarch64
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "unshare": (272, 97),
    "mount": (165, 40),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "perf_event_open": (298, 241),
    "setns": (308, 268),
    "userfaultfd": (323, 282),
}
_PTRACE_SEIZE, _NEW_USER, _NEW_NET = 0x4206, 0x10000000, 0x40000000
_DEVICES = ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/dev/net/tun")


def _call(name: str, *arguments: int | bytes) -> None:
    """A system call. Raises OSError where it is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = _NUMBERS[name][0 if platform.machine() == "x86_64" else 1]
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if libc.syscall(ctypes.c_long(number), *words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Attempts:
    """One method an attempt: it raises OSError where it is refused, and returns what it got where not."""

    def __init__(self, secret: str, folder: str, node: int, port: int, execute: bool) -> None:
        self._secret, self._folder, self._node, self._port, self._execute = secret, folder, node, port, execute

    def read_a_file_of_the_owner(self) -> str:
        with open(self._secret) as file:
            return file.read(20)

    def write_beside_it(self) -> str:
        with open(self._secret + ".new", "w"):
            return "made a file"

    def follow_a_symlink_out(self) -> str:
        link = os.path.join(self._folder, "way-out")
        os.symlink(self._secret, link)
        try:
            with open(link) as file:
                return file.read(20)
        finally:
            os.unlink(link)

    def write_to_the_system(self) -> str:
        with open("/usr/hearth-was-here", "w"):
            return "made a file"

    def open_a_device(self) -> str:
        error: OSError | None = None
        for device in _DEVICES:
            try:
                os.close(os.open(device, os.O_RDONLY))
            except OSError as refused:
                error = refused
            else:
                return f"opened {device}"
        raise error or OSError(errno.ENOENT, "no device")

    def make_a_device(self) -> str:
        path = os.path.join(self._folder, "disk")
        os.mknod(path, 0o60600, os.makedev(8, 0))
        os.unlink(path)
        return "made a block device"

    def reach_the_network(self) -> str:
        with socket.socket() as caller:
            caller.settimeout(2.0)
            caller.connect(("127.0.0.1", self._port))
            return "connected to a port of the machine"

    def send_a_datagram(self) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", self._port))
            return "sent one"

    def signal_the_node(self) -> str:
        os.kill(self._node, 0)
        return "it could be signalled"

    def see_the_nodes_environment(self) -> str:
        with open(f"/proc/{self._node}/environ", "rb") as file:
            return f"{len(file.read())} bytes"

    def list_other_processes(self) -> str:
        own = {os.getpid(), os.getppid(), 1}
        seen = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]
        if not seen:
            raise OSError(errno.ENOENT, "only its own")
        return f"{len(seen)} seen"

    def trace_the_node(self) -> str:
        _call("ptrace", _PTRACE_SEIZE, self._node, 0, 0)
        return "attached"

    def read_the_nodes_memory(self) -> str:
        _call("process_vm_readv", self._node, 0, 0, 0, 0, 0)
        return "allowed"

    def make_a_user_namespace(self) -> str:
        _call("unshare", _NEW_USER)
        return "made"

    def make_a_network_namespace(self) -> str:
        _call("unshare", _NEW_NET)
        return "made"

    def mount_a_filesystem(self) -> str:
        _call("mount", b"none", self._folder.encode(), b"tmpfs", 0, 0)
        return "mounted"

    def set_up_io_uring(self) -> str:
        parameters = bytes(120)
        _call("io_uring_setup", 4, parameters)
        return "set up"

    def load_a_bpf_program(self) -> str:
        _call("bpf", 0, bytes(128), 128)
        return "loaded"

    def use_the_key_rings(self) -> str:
        _call("add_key", b"user", b"hearth", b"x", 1, -3)
        return "added"

    def watch_the_machine(self) -> str:
        _call("perf_event_open", bytes(128), 0, -1, -1, 0)
        return "opened"

    def handle_page_faults(self) -> str:
        _call("userfaultfd", 0)
        return "opened"

    def gain_rights(self) -> str:
        with open("/proc/self/status") as file:
            status = dict(line.split(":", 1) for line in file)
        if int(status["CapEff"], 16) or int(status["NoNewPrivs"]) != 1:
            return f"rights {status['CapEff'].strip()}"
        raise OSError(errno.EPERM, "no capability, and none to be had")

    def start_a_program(self) -> str:
        if not self._execute:
            raise OSError(errno.EPERM, "not asked")
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        return "started /bin/true"


def attempt_all(attempts: Attempts, without: tuple[str, ...] = ()) -> list[tuple[str, bool, str]]:
    """(what, whether it was refused, how) of each."""
    found = []
    for name in vars(Attempts):
        if name.startswith("_") or name in without:
            continue
        action: Callable[[], str] = getattr(attempts, name)
        try:
            got = action()
        except OSError as error:
            # EFAULT, EINVAL: the kernel looked at the arguments, so nothing had refused the call before.
            reached = error.errno in (errno.EFAULT, errno.EINVAL)
            found.append((name.replace("_", " "), not reached, errno.errorcode.get(error.errno or 0, str(error))))
        else:
            found.append((name.replace("_", " "), False, got))
    return found


def main(arguments: list[str]) -> int:
    asked = json.loads(arguments[0])
    attempts = Attempts(asked["secret"], asked["folder"], asked["node"], asked["port"], asked["execute"])
    without = () if asked["execute"] else ("start_a_program",)
    print(json.dumps(attempt_all(attempts, without)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
