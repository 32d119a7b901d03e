"""WASI preview 1 for strangers: deterministic, bounded, without network, sleep, links or the host's files.

Every function that wasi-libc links is there. What a task can see follows from (seed, index), its input and
its files alone: the clock starts at EPOCH_NS and moves CLOCK_STEP_NS at each look, randomness is BLAKE2b in
counter mode. Sockets and poll answer ENOTSUP.
Source: WebAssembly/WASI, legacy/preview1/docs.md (snapshot_preview1).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import wasmtime

from . import wasm_ffi
from .outcome import Exit
from .wasm_engine import Guest, OutsideMemory, Stop
from .wasm_files import Errno, File, FileTree, Folder
from .wasm_imports import ABORT_NAME, ABORT_NAMESPACE, ABORT_SIGNATURE, NAMESPACE, SIGNATURES

EPOCH_NS = 1_577_836_800_000_000_000  # 2020-01-01T00:00:00Z
CLOCK_STEP_NS = 1_000_000
MAX_RANDOM_BYTES = 65_536
MAX_VECTORS = 1_024
MAX_TRANSFER_BYTES = 16 << 20
MAX_DESCRIPTORS = 64
MAX_PATH_BYTES = 4_096
INIT_INDEX = (1 << 64) - 1

_STDIN, _STDOUT, _STDERR, _FIRST_FILE = 0, 1, 2, 3
_TYPE_UNKNOWN, _TYPE_FOLDER, _TYPE_FILE = 0, 3, 4
_ALL_RIGHTS = 0x1FFFFFFF
_RIGHT_READ, _RIGHT_WRITE = 1 << 1, 1 << 6
_CREATE, _FOLDER_ONLY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8
_APPEND = 1


class GuestExit(Exception):
    """The guest must stop here; not an errno."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


@dataclass(slots=True)
class Descriptor:
    """An open file or folder. `path` only for the preopened ones."""

    node: File | Folder
    position: int = 0
    append: bool = False
    readable: bool = True
    writable: bool = False
    path: str | None = None


class TaskWorld:
    """What one task sees, and what it leaves. One at a time is current in the worker."""

    def __init__(
        self,
        guest: Guest,
        seed: bytes,
        index: int,
        tree: FileTree | None,
        arguments: tuple[str, ...] = (),
        environment: tuple[str, ...] = (),
        standard_input: bytes = b"",
        output_bytes: int | None = None,
        stderr_bytes: int = 0,
    ) -> None:
        """output_bytes: most that stdout may hold; None sends stdout to stderr."""
        self.guest = guest
        self.stop: Stop | None = None
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.tree = tree
        self._seed = seed
        self._arguments = [argument.encode() + b"\0" for argument in arguments]
        self._environment = [pair.encode() + b"\0" for pair in environment]
        self._input = standard_input
        self._input_position = 0
        self._output_bytes = output_bytes
        self._stderr_bytes = stderr_bytes
        self._descriptors: dict[int, Descriptor] = {}
        for number, (path, folder) in enumerate(tree.preopened if tree else [], _FIRST_FILE):
            self._descriptors[number] = Descriptor(folder, path=path)
        self.begin(index)

    def begin(self, index: int) -> None:
        """Set clock and randomness to where task `index` starts."""
        self.stop = None
        self._index = index
        self._looks = 0
        self._drawn = b""
        self._blocks = 0

    def take_stderr(self) -> bytes:
        """The tail of what was written to stderr since the last call."""
        tail = bytes(self.stderr[-self._stderr_bytes :]) if self._stderr_bytes else b""
        self.stderr.clear()
        return tail

    # memory

    def _u32(self, address: int) -> int:
        return int.from_bytes(self.guest.read(address, 4), "little")

    def _put(self, layout: str, address: int, *values: int) -> int:
        self.guest.write(address, struct.pack("<" + layout, *values))
        return Errno.SUCCESS

    def _vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        if count > MAX_VECTORS:
            raise Errno(Errno.INVAL)
        flat = struct.unpack(f"<{2 * count}I", self.guest.read(address, 8 * count))
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _gather(self, address: int, count: int) -> bytes:
        """What is to be written; a short write where the vectors add up to more than MAX_TRANSFER_BYTES."""
        pieces, room = [], MAX_TRANSFER_BYTES
        for start, length in self._vectors(address, count):
            pieces.append(self.guest.read(start, min(length, room)))
            room -= len(pieces[-1])
        return b"".join(pieces)

    def _scatter(self, vectors: list[tuple[int, int]], payload: bytes) -> None:
        position = 0
        for start, length in vectors:
            if position >= len(payload):
                return
            self.guest.write(start, payload[position : position + length])
            position += length

    def _path(self, address: int, length: int) -> str:
        if length > MAX_PATH_BYTES:
            raise Errno(Errno.NAMETOOLONG)
        try:
            path = self.guest.read(address, length).decode()
        except UnicodeDecodeError:
            raise Errno(Errno.INVAL) from None
        if not path or "\0" in path:
            raise Errno(Errno.NOENT if not path else Errno.INVAL)
        return path

    # descriptors

    def _descriptor(self, number: int) -> Descriptor:
        found = self._descriptors.get(number)
        if found is None:
            raise Errno(Errno.BADF if number > _STDERR else Errno.SPIPE)
        return found

    def _file(self, number: int) -> tuple[Descriptor, File]:
        found = self._descriptor(number)
        if not isinstance(found.node, File):
            raise Errno(Errno.ISDIR)
        return found, found.node

    def _folder(self, number: int) -> Folder:
        node = self._descriptor(number).node
        if not isinstance(node, Folder):
            raise Errno(Errno.NOTDIR)
        return node

    def _files(self) -> FileTree:
        if self.tree is None:
            raise Errno(Errno.BADF)
        return self.tree

    # arguments, clock, randomness, process

    def args_sizes_get(self, count: int, size: int) -> int:
        return self._put_sizes(self._arguments, count, size)

    def args_get(self, pointers: int, texts: int) -> int:
        return self._put_texts(self._arguments, pointers, texts)

    def environ_sizes_get(self, count: int, size: int) -> int:
        return self._put_sizes(self._environment, count, size)

    def environ_get(self, pointers: int, texts: int) -> int:
        return self._put_texts(self._environment, pointers, texts)

    def _put_sizes(self, texts: list[bytes], count: int, size: int) -> int:
        self._put("I", count, len(texts))
        return self._put("I", size, sum(map(len, texts)))

    def _put_texts(self, texts: list[bytes], pointers: int, address: int) -> int:
        for position, text in enumerate(texts):
            self._put("I", pointers + 4 * position, address)
            self.guest.write(address, text)
            address += len(text)
        return Errno.SUCCESS

    def clock_res_get(self, clock: int, result: int) -> int:
        return self._put("Q", result, CLOCK_STEP_NS)

    def clock_time_get(self, clock: int, precision: int, result: int) -> int:
        self._looks += 1
        return self._put("Q", result, EPOCH_NS + self._looks * CLOCK_STEP_NS)

    def random_get(self, address: int, length: int) -> int:
        if length > MAX_RANDOM_BYTES:
            raise Errno(Errno.INVAL)
        while len(self._drawn) < length:
            block = struct.pack("<QQ", self._index, self._blocks)
            self._drawn += hashlib.blake2b(block, key=self._seed, person=b"hearth.random").digest()
            self._blocks += 1
        self.guest.write(address, self._drawn[:length])
        self._drawn = self._drawn[length:]
        return Errno.SUCCESS

    def sched_yield(self) -> int:
        return Errno.SUCCESS

    def proc_exit(self, code: int) -> int:
        raise GuestExit(Stop(code if code <= 255 else 255, ""))

    def proc_raise(self, signal: int) -> int:
        raise GuestExit(Stop(Exit.TRAP, f"raised signal {signal & 0xFF}"))

    def unsupported(self, *arguments: int) -> int:
        return Errno.NOTSUP

    # reading and writing

    def fd_write(self, number: int, address: int, count: int, result: int) -> int:
        payload = self._gather(address, count)
        if number == _STDERR or (number == _STDOUT and self._output_bytes is None):
            self.stderr += payload
            if len(self.stderr) > 2 * self._stderr_bytes + 4_096:
                del self.stderr[: len(self.stderr) - self._stderr_bytes]
        elif number == _STDOUT:
            assert self._output_bytes is not None
            if len(self.stdout) + len(payload) > self._output_bytes:
                raise GuestExit(Stop(Exit.OUTPUT, f"more than {self._output_bytes} bytes of output"))
            self.stdout += payload
        else:
            opened, file = self._file(number)
            if not opened.writable:
                raise Errno(Errno.BADF)
            start = file.size if opened.append else opened.position
            file.write(start, payload)
            opened.position = start + len(payload)
        return self._put("I", result, len(payload))

    def fd_pwrite(self, number: int, address: int, count: int, offset: int, result: int) -> int:
        opened, file = self._file(number)
        if not opened.writable:
            raise Errno(Errno.BADF)
        payload = self._gather(address, count)
        file.write(offset, payload)
        return self._put("I", result, len(payload))

    def fd_read(self, number: int, address: int, count: int, result: int) -> int:
        vectors = self._vectors(address, count)
        wanted = min(sum(length for _, length in vectors), MAX_TRANSFER_BYTES)
        if number == _STDIN:
            payload = self._input[self._input_position : self._input_position + wanted]
            self._input_position += len(payload)
        else:
            opened, file = self._file(number)
            if not opened.readable:
                raise Errno(Errno.BADF)
            payload = file.read(opened.position, wanted)
            opened.position += len(payload)
        self._scatter(vectors, payload)
        return self._put("I", result, len(payload))

    def fd_pread(self, number: int, address: int, count: int, offset: int, result: int) -> int:
        vectors = self._vectors(address, count)
        opened, file = self._file(number)
        if not opened.readable:
            raise Errno(Errno.BADF)
        payload = file.read(offset, min(sum(length for _, length in vectors), MAX_TRANSFER_BYTES))
        self._scatter(vectors, payload)
        return self._put("I", result, len(payload))

    def fd_seek(self, number: int, offset: int, whence: int, result: int) -> int:
        opened, file = self._file(number)
        signed = offset - (1 << 64) if offset >> 63 else offset
        if whence > 2:
            raise Errno(Errno.INVAL)
        position = (0, opened.position, file.size)[whence] + signed
        if not 0 <= position < 1 << 62:
            raise Errno(Errno.INVAL)
        opened.position = position
        return self._put("Q", result, position)

    def fd_tell(self, number: int, result: int) -> int:
        return self._put("Q", result, self._file(number)[0].position)

    def fd_sync(self, number: int) -> int:
        node = self._descriptor(number).node
        if isinstance(node, File):
            self._files().sync(node)
        return Errno.SUCCESS

    def fd_close(self, number: int) -> int:
        if number <= _STDERR:
            return Errno.SUCCESS
        opened = self._descriptor(number)
        del self._descriptors[number]
        if isinstance(opened.node, File):
            opened.node.opens -= 1
            if opened.writable:
                self._files().sync(opened.node)
            opened.node.release()
        return Errno.SUCCESS

    def fd_renumber(self, old: int, new: int) -> int:
        opened = self._descriptor(old)
        if new not in self._descriptors or opened.path is not None:
            raise Errno(Errno.BADF)
        if old != new:
            self.fd_close(new)
            self._descriptors[new] = self._descriptors.pop(old)
        return Errno.SUCCESS

    def fd_filestat_set_size(self, number: int, size: int) -> int:
        opened, file = self._file(number)
        if not opened.writable:
            raise Errno(Errno.BADF)
        file.resize(size)
        return Errno.SUCCESS

    def fd_allocate(self, number: int, offset: int, length: int) -> int:
        opened, file = self._file(number)
        if not opened.writable:
            raise Errno(Errno.BADF)
        if offset + length > file.size:
            file.resize(offset + length)
        return Errno.SUCCESS

    def fd_advise(self, number: int, offset: int, length: int, advice: int) -> int:
        self._file(number)
        return Errno.SUCCESS

    # what a descriptor is

    def fd_fdstat_get(self, number: int, result: int) -> int:
        if number <= _STDERR:
            return self._put("BxHxxxxQQ", result, _TYPE_UNKNOWN, 0, _RIGHT_READ if number == 0 else _RIGHT_WRITE, 0)
        opened = self._descriptor(number)
        flags = _APPEND if opened.append else 0
        return self._put("BxHxxxxQQ", result, _type_of(opened.node), flags, _ALL_RIGHTS, _ALL_RIGHTS)

    def fd_fdstat_set_flags(self, number: int, flags: int) -> int:
        self._file(number)[0].append = bool(flags & _APPEND)
        return Errno.SUCCESS

    def fd_fdstat_set_rights(self, number: int, base: int, inheriting: int) -> int:
        self._descriptor(number)
        return Errno.SUCCESS

    def fd_filestat_get(self, number: int, result: int) -> int:
        if number <= _STDERR:
            return self._put("QQB7xQQQQQ", result, 0, 0, _TYPE_UNKNOWN, 1, 0, 0, 0, 0)
        return self._put_status(self._descriptor(number).node, result)

    def path_filestat_get(self, number: int, flags: int, address: int, length: int, result: int) -> int:
        return self._put_status(self._files().find(self._folder(number), self._path(address, length)), result)

    def _put_status(self, node: File | Folder, result: int) -> int:
        size = node.size if isinstance(node, File) else 0
        times = (EPOCH_NS, EPOCH_NS, EPOCH_NS)
        return self._put("QQB7xQQQQQ", result, 1, node.inode, _type_of(node), 1, size, *times)

    def fd_prestat_get(self, number: int, result: int) -> int:
        path = self._preopened(number)
        return self._put("BxxxI", result, 0, len(path))

    def fd_prestat_dir_name(self, number: int, address: int, length: int) -> int:
        path = self._preopened(number)
        if length < len(path):
            raise Errno(Errno.NAMETOOLONG)
        self.guest.write(address, path)
        return Errno.SUCCESS

    def _preopened(self, number: int) -> bytes:
        opened = self._descriptors.get(number)
        if opened is None or opened.path is None:
            raise Errno(Errno.BADF)
        return opened.path.encode()

    def fd_readdir(self, number: int, address: int, length: int, cookie: int, result: int) -> int:
        folder = self._folder(number)
        listed: list[tuple[str, File | Folder]] = [(".", folder), ("..", folder), *sorted(folder.entries.items())]
        filled = bytearray()
        for position, (name, node) in enumerate(listed[cookie:] if cookie < len(listed) else [], cookie + 1):
            encoded = name.encode()
            filled += struct.pack("<QQIB3x", position, node.inode, len(encoded), _type_of(node)) + encoded
            if len(filled) >= length:
                break
        self.guest.write(address, bytes(filled[:length]))
        return self._put("I", result, min(len(filled), length))

    # the tree

    def path_open(
        self,
        number: int,
        lookup: int,
        address: int,
        length: int,
        create: int,
        rights: int,
        inheriting: int,
        flags: int,
        result: int,
    ) -> int:
        tree, path = self._files(), self._path(address, length)
        if len(self._descriptors) >= MAX_DESCRIPTORS:
            raise Errno(Errno.MFILE)
        folder, name = tree.parent(self._folder(number), path)
        node: File | Folder | None = folder.entries.get(name) if name else folder
        writes = bool(rights & _RIGHT_WRITE)
        if node is None:
            if not create & _CREATE or path.endswith("/"):
                raise Errno(Errno.NOENT)
            if create & _FOLDER_ONLY:
                raise Errno(Errno.INVAL)
            node = tree.create(folder, name)
        elif create & _CREATE and create & _EXCLUSIVE:
            raise Errno(Errno.EXIST)
        if isinstance(node, File):
            if create & _FOLDER_ONLY:
                raise Errno(Errno.NOTDIR)
            if (writes or create & _TRUNCATE) and not node.writable:
                raise Errno(Errno.ROFS)
            if create & _TRUNCATE:
                node.resize(0)
            node.opens += 1
        elif create & _TRUNCATE:
            raise Errno(Errno.ISDIR)
        opened = Descriptor(node, append=bool(flags & _APPEND), readable=bool(rights & _RIGHT_READ), writable=writes)
        free = next(n for n in range(_FIRST_FILE, _FIRST_FILE + MAX_DESCRIPTORS + 1) if n not in self._descriptors)
        self._descriptors[free] = opened
        return self._put("I", result, free)

    def path_create_directory(self, number: int, address: int, length: int) -> int:
        tree, path = self._files(), self._path(address, length)
        folder, name = tree.parent(self._folder(number), path)
        if not name or name in folder.entries:
            raise Errno(Errno.EXIST)
        tree.create_folder(folder, name, path)
        return Errno.SUCCESS

    def path_unlink_file(self, number: int, address: int, length: int) -> int:
        return self._remove(number, address, length, File, Errno.ISDIR)

    def path_remove_directory(self, number: int, address: int, length: int) -> int:
        return self._remove(number, address, length, Folder, Errno.NOTDIR)

    def _remove(self, number: int, address: int, length: int, kind: type, otherwise: int) -> int:
        tree = self._files()
        folder, name = tree.parent(self._folder(number), self._path(address, length))
        if name not in folder.entries:
            raise Errno(Errno.NOENT if name else Errno.INVAL)
        if not isinstance(folder.entries[name], kind):
            raise Errno(otherwise)
        tree.remove(folder, name)
        return Errno.SUCCESS

    def path_rename(
        self, number: int, address: int, length: int, new_number: int, new_address: int, new_length: int
    ) -> int:
        tree = self._files()
        folder, name = tree.parent(self._folder(number), self._path(address, length))
        new_folder, new_name = tree.parent(self._folder(new_number), self._path(new_address, new_length))
        if not name or not new_name:
            raise Errno(Errno.INVAL)
        tree.rename(folder, name, new_folder, new_name)
        return Errno.SUCCESS

    def path_filestat_set_times(self, *arguments: int) -> int:
        return Errno.SUCCESS

    def fd_filestat_set_times(self, *arguments: int) -> int:
        return Errno.SUCCESS


def _type_of(node: File | Folder) -> int:
    return _TYPE_FILE if isinstance(node, File) else _TYPE_FOLDER


_SAME_AS = {"fd_datasync": "fd_sync"}
_UNSUPPORTED = {"path_link", "path_readlink", "path_symlink", "poll_oneoff", "sock_accept"} | {
    "sock_recv",
    "sock_send",
    "sock_shutdown",
}
_ARGUMENT_MASKS = {"i": (1 << 32) - 1, "I": (1 << 64) - 1}


class Host:
    """The host's side of every import, shared by all programs. `world` is whose turn it is."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.world: TaskWorld | None = None
        self.linker = wasmtime.Linker(engine)
        self._kept: list[Any] = []
        for name, kinds in SIGNATURES.items():
            method = "unsupported" if name in _UNSUPPORTED else _SAME_AS.get(name, name)
            self._define(NAMESPACE, name, kinds, name != "proc_exit", getattr(TaskWorld, method))
        self._define(ABORT_NAMESPACE, ABORT_NAME, ABORT_SIGNATURE, False, _abort)

    def _define(self, module: str, name: str, kinds: str, returns: bool, method: Callable[..., int]) -> None:
        types = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        functype = wasmtime.FuncType([types[kind]() for kind in kinds], [wasmtime.ValType.i32()] if returns else [])
        call = wasm_ffi.HostCall(self._entry(method, [_ARGUMENT_MASKS[kind] for kind in kinds]))
        self._kept += [functype, call]
        wasm_ffi.define_host_func(
            wasm_ffi.address_of(self.linker.ptr()), module, name, wasm_ffi.address_of(functype.ptr()), call
        )

    def _entry(self, method: Callable[..., int], masks: list[int]) -> Callable[..., int]:
        slots = [(2 * position, mask) for position, mask in enumerate(masks)]

        def enter(env: int, caller: int, values: Any, count: int) -> int:
            world = self.world
            if world is None:
                return wasm_ffi.new_trap(b"no task")
            try:
                if not world.guest.has_memory():  # a start function, before the instance is known
                    memory = wasm_ffi.caller_memory(caller)
                    if memory is not None:
                        world.guest.bind_memory(memory)
                values[0] = method(world, *[values[slot] & mask for slot, mask in slots])
                return 0
            except Errno as error:
                values[0] = error.number
                return 0
            except OutsideMemory:
                values[0] = Errno.FAULT
                return 0
            except GuestExit as leaving:
                world.stop = leaving.stop
            except Exception as error:  # boundary: nothing may unwind through wasmtime's native frames
                world.stop = Stop(Exit.KILLED, f"the host failed in a call: {error!r}"[:200])
            return wasm_ffi.new_trap(b"stopped")

        return enter


def _abort(world: TaskWorld, message: int, file: int, line: int, column: int) -> int:
    """AssemblyScript's abort: the message is UTF-16 with its size in bytes just before it."""
    text = ""
    if message:
        size = min(int.from_bytes(world.guest.read(message - 4, 4), "little"), 1_024) & ~1
        text = world.guest.read(message, size).decode("utf-16-le", "replace")
    raise GuestExit(Stop(Exit.TRAP, f"abort: {text} ({line}:{column})"))
