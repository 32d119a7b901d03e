"""The worker's one wasmtime engine: its settings, its programs, and live guests."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime

from . import wasm_ffi
from .outcome import ExecutionError, ExecutionFault, Exit
from .wasm_abi import COMPONENT_HEAD
from .wasm_cache import CompiledCache
from .wasm_sections import MAX_MODULE_BYTES, ModuleShape, read_shape

MAX_STACK_BYTES = 1 << 20
MAX_TABLE_ELEMENTS = 1_000_000
MAX_LOADED_PROGRAMS = 16
NO_FUEL_LIMIT = 1 << 60
RESERVATION_BYTES = 4 << 30

_SETTINGS = (
    ("epoch_interruption", True),
    ("consume_fuel", True),
    ("max_wasm_stack", MAX_STACK_BYTES),
    ("memory_reservation", RESERVATION_BYTES),
    ("memory_may_move", False),
    ("wasm_threads", False),
    ("shared_memory", False),
    ("wasm_memory64", False),
    ("wasm_multi_memory", False),
    ("wasm_relaxed_simd", False),
    ("wasm_gc", False),
    ("wasm_function_references", False),
    ("wasm_custom_page_sizes", False),
    ("wasm_component_model", True),
    ("parallel_compilation", False),
    ("cranelift_opt_level", "speed"),
)
# A NaN that is computed has the same bits on every processor. Not for modules, but where a node judges: it makes
# arithmetic three times as slow, and who writes one can see to it where it matters; a Python function cannot.
_CANONICAL_SETTINGS = (*_SETTINGS, ("cranelift_nan_canonicalization", True))
_TRAP_OUT_OF_FUEL = wasmtime.TrapCode.OUT_OF_FUEL.value
_TRAP_STACK_OVERFLOW = wasmtime.TrapCode.STACK_OVERFLOW.value
_TRAP_NAMES = {code.value: code.name.lower().replace("_", " ") for code in wasmtime.TrapCode}


class OutsideMemory(Exception):
    """An address that the guest gave lies outside of its memory."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why guest code ended early. is_machines: on another processor it might not have, as stacks are deeper there."""

    exit: int
    detail: str
    is_machines: bool = False


class Program:
    """A compiled module with its imports resolved."""

    def __init__(self, digest: bytes, shape: ModuleShape, module: wasmtime.Module, compile_us: int) -> None:
        self.digest = digest
        self.shape = shape
        self.module = module
        self.compile_us = compile_us
        self.prepared: wasmtime.InstancePre | None = None


class ComponentProgram:
    """A compiled component of the Python world. It imports nothing. memories: as far as it was seen to have, >= 1."""

    def __init__(self, digest: bytes, component: Any, linker: Any, compile_us: int) -> None:
        self.digest = digest
        self.component = component
        self.linker = linker
        self.compile_us = compile_us
        self.memories = 1


class ProgramLoader:
    """Compiles, caches and keeps the last few programs. Nothing here is bounded in time: the parent is."""

    def __init__(
        self,
        cache: CompiledCache,
        link: Callable[[wasmtime.Engine, Program], wasmtime.InstancePre],
        *,
        canonical_nans: bool = False,
    ) -> None:
        """canonical_nans: of modules; a component's always are."""
        settings = _CANONICAL_SETTINGS if canonical_nans else _SETTINGS
        self._is_canonical = canonical_nans
        self.engine = _engine(settings)
        self._cache = cache
        self._link = link
        self._loaded: OrderedDict[bytes, Program | ComponentProgram] = OrderedDict()
        self._about = (version("wasmtime"), platform.machine())
        self._key_suffix = repr((*self._about, settings)).encode()

    @cached_property
    def component_engine(self) -> wasmtime.Engine:
        """Most workers never need it."""
        return self.engine if self._is_canonical else _engine(_CANONICAL_SETTINGS)

    def load(self, path: Path, digest: bytes, *, keep: bool = True) -> Program | ComponentProgram:
        """The program in the file at `path`, whose sha256 must be `digest`. keep: also compiled, on disk.

        Raises ExecutionError: UNAVAILABLE (no such file, or other bytes), INVALID_MODULE, MISSING_IMPORT, TOO_BIG.
        """
        program = self._loaded.get(digest)
        if program is None:
            module_bytes = _read_module(path, digest)
            if module_bytes.startswith(COMPONENT_HEAD):
                program = self._build_component(module_bytes, digest, keep)
            else:
                program = self._build(module_bytes, digest, keep)
                program.prepared = self._link(self.engine, program)
            self._loaded[digest] = program
            if len(self._loaded) > MAX_LOADED_PROGRAMS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(digest)
        return program

    def _build_component(self, component_bytes: bytes, digest: bytes, keep: bool) -> ComponentProgram:
        """Its exports are looked at when it is called; its size and the parent bound the compiler.

        Raises ExecutionError.
        """
        from wasmtime import component as components  # most workers never need it

        if len(component_bytes) > MAX_MODULE_BYTES:
            raise ExecutionError(ExecutionFault.TOO_BIG, f"a component has at most {MAX_MODULE_BYTES} bytes")
        key = hashlib.sha256(b"component" + digest + repr((*self._about, _CANONICAL_SETTINGS)).encode()).hexdigest()
        engine = self.component_engine
        started_ns = time.monotonic_ns()
        compiled = self._cache.load(key) if keep else None
        try:
            if compiled is not None:
                built = components.Component.deserialize(engine, compiled)
            else:
                built = components.Component(engine, component_bytes)
                if keep:
                    self._cache.store(key, bytes(built.serialize()))
        except wasmtime.WasmtimeError as error:
            raise ExecutionError(ExecutionFault.INVALID_MODULE, _one_line(error)) from error
        wanted = sorted(built.type.imports(engine))
        if wanted:
            raise ExecutionError(
                ExecutionFault.MISSING_IMPORT, f"the component wants {wanted[0]}, which is not offered"
            )
        compile_us = (time.monotonic_ns() - started_ns) // 1_000
        return ComponentProgram(digest, built, components.Linker(engine), compile_us)

    def _build(self, module_bytes: bytes, digest: bytes, keep: bool) -> Program:
        shape = read_shape(module_bytes)
        key = hashlib.sha256(digest + self._key_suffix).hexdigest()
        started_ns = time.monotonic_ns()
        compiled = self._cache.load(key) if keep else None
        try:
            if compiled is not None:
                module = wasmtime.Module.deserialize(self.engine, compiled)
            else:
                module = wasmtime.Module(self.engine, module_bytes)
                if keep:
                    self._cache.store(key, bytes(module.serialize()))
        except wasmtime.WasmtimeError as error:
            raise ExecutionError(ExecutionFault.INVALID_MODULE, _one_line(error)) from error
        return Program(digest, shape, module, (time.monotonic_ns() - started_ns) // 1_000)


def _engine(settings: tuple[tuple[str, object], ...]) -> wasmtime.Engine:
    config = wasmtime.Config()
    for name, value in settings:
        setattr(config, name, value)
    return wasmtime.Engine(config)


class Guest:
    """One store with one live instance. Use `close`, or the memory stays until the collector comes.

    view: the address space reserved for the guest's memory. Only the first `memory_bytes` may be touched,
    the rest ends the process: check first, or use `read` and `write`.
    """

    def __init__(
        self,
        engine: wasmtime.Engine,
        memory_bytes: int,
        attach: Callable[[wasm_ffi.Address, wasm_ffi.Address], None],
    ) -> None:
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_bytes, MAX_TABLE_ELEMENTS, 1, 8, 1)
        self.context = wasm_ffi.address_of(self._store._context())
        attach(wasm_ffi.address_of(self._store.ptr()), self.context)
        self.limit_bytes = memory_bytes
        self.view = memoryview(b"")
        self._memory: Any = None
        self._memory_address = 0
        self._instance = wasm_ffi.Instance()
        self._functions: list[Any] = []
        self._trap = ctypes.c_void_p()
        self._trap_address = ctypes.addressof(self._trap)
        self._fuel = ctypes.c_uint64()
        self._fuel_address = ctypes.addressof(self._fuel)
        self._values = (ctypes.c_int64 * 8)()
        self._values_address = ctypes.addressof(self._values)

    def close(self) -> None:
        self.view = memoryview(b"")
        self._store.close()

    def start(self, program: Program, fuel: int) -> Stop | None:
        """Instantiate; this runs the module's start function, under the limits."""
        assert program.prepared is not None
        self.set_fuel(fuel)
        error = wasm_ffi.instantiate(
            wasm_ffi.address_of(program.prepared.ptr()),
            self.context,
            ctypes.addressof(self._instance),
            self._trap_address,
        )
        if error or self._trap.value:
            return self._take_stop(error)
        found = wasm_ffi.instance_export(self.context, self._instance, "memory")
        if found is not None and wasm_ffi.is_memory(found):
            self.bind_memory(found.of.memory)
        return None

    def bind_memory(self, memory: Any) -> None:
        """Remember the guest's memory; its base never moves (memory_may_move is off)."""
        self._memory = wasm_ffi.Memory.from_buffer_copy(memory)
        self._memory_address = ctypes.addressof(self._memory)
        base = wasm_ffi.memory_data(self.context, self._memory_address) or 0
        self.view = memoryview((ctypes.c_char * RESERVATION_BYTES).from_address(base)).cast("B") if base else self.view

    def has_memory(self) -> bool:
        return self._memory is not None

    def memory_bytes(self) -> int:
        """Size of the guest's memory now; 0 without one."""
        return int(wasm_ffi.memory_data_size(self.context, self._memory_address)) if self._memory is not None else 0

    def function(self, name: str) -> wasm_ffi.Address | None:
        """An exported function, good while this guest is."""
        found = wasm_ffi.instance_export(self.context, self._instance, name)
        if found is None or not wasm_ffi.is_func(found):
            return None
        kept = wasm_ffi.Func.from_buffer_copy(found.of.func)
        self._functions.append(kept)
        return ctypes.addressof(kept)

    def call1(self, function: wasm_ffi.Address, argument: int) -> Stop | None:
        """Call a function of at most one parameter; `result` has what came back."""
        self._values[0] = argument
        error = wasm_ffi.call_unchecked(self.context, function, self._values_address, 1, self._trap_address)
        return self._take_stop(error) if error or self._trap.value else None

    def call3(self, function: wasm_ffi.Address, first: int, second: int, third: int) -> Stop | None:
        """The same for up to three parameters; the unused ones are 0."""
        values = self._values
        values[0], values[2], values[4] = first, second, third
        error = wasm_ffi.call_unchecked(self.context, function, self._values_address, 3, self._trap_address)
        return self._take_stop(error) if error or self._trap.value else None

    def result(self) -> int:
        """What the last call returned, as a signed i64; an i32 is in its lower half."""
        return self._values[0]

    def set_fuel(self, fuel: int) -> None:
        wasm_ffi.set_fuel(self.context, fuel)

    def fuel_left(self) -> int:
        wasm_ffi.get_fuel(self.context, self._fuel_address)
        return self._fuel.value

    def read(self, address: int, length: int) -> bytes:
        """Raises OutsideMemory."""
        self._check(address, length)
        return bytes(self.view[address : address + length])

    def write(self, address: int, payload: bytes) -> None:
        """Raises OutsideMemory."""
        self._check(address, len(payload))
        self.view[address : address + len(payload)] = payload

    def _check(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > self.memory_bytes():
            raise OutsideMemory

    def _take_stop(self, error: int | None) -> Stop:
        """What a failed call means. The caller replaces it where the pacer or the host stopped the guest."""
        if error:
            detail = wasm_ffi.take_error(error)
            return Stop(Exit.MEMORY if "limit" in detail or "exceed" in detail else Exit.TRAP, detail)
        code = wasm_ffi.take_trap(self._trap.value or 0)
        self._trap.value = None
        if code == _TRAP_OUT_OF_FUEL:
            return Stop(Exit.FUEL, "out of fuel")
        if code is None:
            return Stop(Exit.TRAP, "stopped by the host")
        name = _TRAP_NAMES.get(code, f"trap {code}")
        if name == "unreachable" and self.memory_bytes() * 4 >= self.limit_bytes * 3:
            return Stop(Exit.MEMORY, f"gave up with {self.memory_bytes()} bytes of memory in use")
        return Stop(Exit.TRAP, name, is_machines=code == _TRAP_STACK_OVERFLOW)


def _read_module(path: Path, digest: bytes) -> bytes:
    try:
        with path.open("rb") as file:
            module_bytes = file.read(MAX_MODULE_BYTES + 1)
    except OSError as error:
        raise ExecutionError(ExecutionFault.UNAVAILABLE, f"module {digest.hex()[:16]}: {error.strerror}") from error
    if len(module_bytes) <= MAX_MODULE_BYTES and hashlib.sha256(module_bytes).digest() != digest:
        raise ExecutionError(ExecutionFault.UNAVAILABLE, f"module {digest.hex()[:16]}: the file holds other bytes")
    return module_bytes


def _one_line(error: Exception) -> str:
    return " / ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
