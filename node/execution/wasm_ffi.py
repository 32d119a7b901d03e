"""The few calls of wasmtime's C API that are on the hot path, bound without wasmtime-py's wrappers.

wasmtime-py takes about 30 µs a call, because it asks for the types anew and boxes every value. These
bindings take about 0.5 µs. Addresses are plain ints. Calls that run guest code release the GIL (so that the
epoch ticker can run); the short ones keep it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from wasmtime import _ffi as _wasmtime

Address = int
Func = _wasmtime.wasmtime_func_t
Memory = _wasmtime.wasmtime_memory_t
Instance = _wasmtime.wasmtime_instance_t
Extern = _wasmtime.wasmtime_extern_t

HostCall = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t
)
"""(env, caller, values, count) → trap's address or 0. `values[2 * i]` is the i-th argument; result at 0."""

EpochCall = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_uint8),
)
"""(context, env, ticks until the next call, kind) → error's address or 0."""

_NO_FINALIZER = None
_short = ctypes.PyDLL(str(_wasmtime.filename), handle=_wasmtime.dll._handle)
_long = _wasmtime.dll


def _bind(library: Any, name: str, result: Any, *parameters: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *parameters)((name, library))


def _bind_short(name: str, result: Any, *parameters: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *parameters)((name, _short))


_pointer, _size, _u64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64

call_unchecked = _bind(_long, "wasmtime_func_call_unchecked", _pointer, _pointer, _pointer, _pointer, _size, _pointer)
instantiate = _bind(_long, "wasmtime_instance_pre_instantiate", _pointer, _pointer, _pointer, _pointer, _pointer)
set_fuel = _bind_short("wasmtime_context_set_fuel", _pointer, _pointer, _u64)
get_fuel = _bind_short("wasmtime_context_get_fuel", _pointer, _pointer, _pointer)
set_epoch_deadline = _bind_short("wasmtime_context_set_epoch_deadline", None, _pointer, _u64)
memory_data = _bind_short("wasmtime_memory_data", _pointer, _pointer, _pointer)
memory_data_size = _bind_short("wasmtime_memory_data_size", _size, _pointer, _pointer)
caller_context = _bind_short("wasmtime_caller_context", _pointer, _pointer)
increment_epoch = _bind_short("wasmtime_engine_increment_epoch", None, _pointer)

_caller_export_get = _bind_short(
    "wasmtime_caller_export_get", ctypes.c_bool, _pointer, ctypes.c_char_p, _size, _pointer
)
_instance_export_get = _bind_short(
    "wasmtime_instance_export_get", ctypes.c_bool, _pointer, _pointer, ctypes.c_char_p, _size, _pointer
)
_define_func = _bind_short(
    "wasmtime_linker_define_func_unchecked",
    _pointer,
    _pointer,
    ctypes.c_char_p,
    _size,
    ctypes.c_char_p,
    _size,
    _pointer,
    HostCall,
    _pointer,
    _pointer,
)
_epoch_callback = _bind_short("wasmtime_store_epoch_deadline_callback", None, _pointer, EpochCall, _pointer, _pointer)
_trap_new = _bind_short("wasmtime_trap_new", _pointer, ctypes.c_char_p, _size)
_trap_code = _bind_short("wasmtime_trap_code", ctypes.c_bool, _pointer, _pointer)
_trap_delete = _bind_short("wasm_trap_delete", None, _pointer)
_error_new = _bind_short("wasmtime_error_new", _pointer, ctypes.c_char_p)
_error_message = _bind_short("wasmtime_error_message", None, _pointer, _pointer)
_error_delete = _bind_short("wasmtime_error_delete", None, _pointer)


def address_of(wrapped: Any) -> Address:
    """The address that one of wasmtime-py's owned pointers, or a ctypes structure, stands for."""
    if isinstance(wrapped, ctypes._Pointer):
        return ctypes.cast(wrapped, ctypes.c_void_p).value or 0
    return ctypes.addressof(wrapped)


def instance_export(context: Address, instance: Any, name: str) -> Any | None:
    """An export of a live instance as `Extern`, or None."""
    encoded, found = name.encode(), Extern()
    known = _instance_export_get(context, ctypes.addressof(instance), encoded, len(encoded), ctypes.addressof(found))
    return found if known else None


def caller_memory(caller: Address) -> Any | None:
    """The `memory` that the calling instance exports, or None."""
    found = Extern()
    if not _caller_export_get(caller, b"memory", 6, ctypes.addressof(found)):
        return None
    return found.of.memory if is_memory(found) else None


def is_func(found: Any) -> bool:
    return bool(found.kind == _wasmtime.WASMTIME_EXTERN_FUNC.value)


def is_memory(found: Any) -> bool:
    return bool(found.kind == _wasmtime.WASMTIME_EXTERN_MEMORY.value)


def define_host_func(linker: Address, module: str, name: str, functype: Address, call: Any) -> None:
    """Define a raw host function. The caller keeps `call` alive as long as the linker."""
    module_bytes, name_bytes = module.encode(), name.encode()
    error = _define_func(
        linker,
        module_bytes,
        len(module_bytes),
        name_bytes,
        len(name_bytes),
        functype,
        call,
        None,
        _NO_FINALIZER,
    )
    if error:
        raise RuntimeError(take_error(error))


def set_epoch_callback(store: Address, call: Any) -> None:
    """Have `call` asked at each epoch deadline. The caller keeps `call` alive as long as the store."""
    _epoch_callback(store, call, None, _NO_FINALIZER)


def new_trap(message: bytes) -> Address:
    """A trap to be returned from a host function, which takes ownership."""
    return int(_trap_new(message, len(message)))


def new_error(message: bytes) -> Address:
    """An error to be returned from an epoch callback, which takes ownership."""
    return int(_error_new(message))


def take_trap(trap: Address) -> int | None:
    """Free a trap and return wasmtime's code for it; None for one of ours."""
    code = ctypes.c_uint8(255)
    known = _trap_code(trap, ctypes.addressof(code))
    _trap_delete(trap)
    return code.value if known else None


def take_error(error: Address) -> str:
    """Free an error and return its message's first line."""
    vector = _wasmtime.wasm_byte_vec_t()
    _error_message(error, ctypes.addressof(vector))
    text = bytes(_wasmtime.to_bytes(vector)).decode("utf-8", "replace") if vector.size else ""
    _wasmtime.wasm_byte_vec_delete(ctypes.byref(vector))
    _error_delete(error)
    return text.strip().splitlines()[0] if text.strip() else "unknown error"
