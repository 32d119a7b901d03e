"""What a wasm module wants and offers, read from its sections without asking wasmtime.

wasmtime-py's `exports()` takes 16 s for 20,000 exports; here everything is counted before it is read.
Source: WebAssembly core specification 2.0, section 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from .outcome import ExecutionError, ExecutionFault

MAX_MODULE_BYTES = 64 << 20
MAX_IMPORTS = 1_000
MAX_EXPORTS = 1_000
MAX_TYPES = 20_000
MAX_FUNCTIONS = 200_000
MAX_NAME_BYTES = 1_024
MAX_PARAMETERS = 64
PAGE_BYTES = 65_536

_MAGIC = b"\0asm"
_KINDS = ("function", "table", "memory", "global", "tag")
_VALUE_TYPES = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    name: str
    kind: str
    signature: str


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """Imports in order; exports as name → signature of a function ("(i32) -> i32") or its kind."""

    imports: tuple[Import, ...]
    exports: dict[str, str]
    memory_bytes: int


class _Reader:
    """A cursor over one section that never leaves it."""

    def __init__(self, module: bytes, offset: int, end: int) -> None:
        self._module = module
        self._offset = offset
        self._end = end

    def byte(self) -> int:
        if self._offset >= self._end:
            raise _invalid("a section ends too early")
        value = self._module[self._offset]
        self._offset += 1
        return value

    def number(self, bits: int = 32) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= bits:
                raise _invalid("a number is too long")
        if value >> bits:
            raise _invalid("a number is too big")
        return value

    def count(self, what: str, most: int) -> int:
        value = self.number()
        if value > most:
            raise ExecutionError(ExecutionFault.TOO_BIG, f"the module has {value} {what}, at most {most} are taken")
        return value

    def name(self) -> str:
        length = self.count("bytes in a name", MAX_NAME_BYTES)
        if self._offset + length > self._end:
            raise _invalid("a name leaves its section")
        raw = self._module[self._offset : self._offset + length]
        self._offset += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _invalid("a name is not UTF-8") from None

    def value_type(self) -> str:
        code = self.byte()
        if code not in _VALUE_TYPES:
            raise _invalid(f"value type 0x{code:02x} is not supported")
        return _VALUE_TYPES[code]

    def value_types(self) -> str:
        return ", ".join(self.value_type() for _ in range(self.count("parameters", MAX_PARAMETERS)))

    def limits(self) -> int:
        flags = self.byte()
        if flags > 1:
            raise _invalid("64-bit and shared memories are not supported")
        least = self.number()
        if flags & 1:
            self.number()
        return least


def read_shape(module: bytes) -> ModuleShape:
    """Raises ExecutionError: INVALID_MODULE, or TOO_BIG where a count passes its bound."""
    if len(module) > MAX_MODULE_BYTES:
        raise ExecutionError(
            ExecutionFault.TOO_BIG,
            f"the module has {len(module)} bytes, at most {MAX_MODULE_BYTES} are taken",
        )
    if module[:4] != _MAGIC:
        raise _invalid("it does not start like a wasm file")
    if module[4:8] != b"\1\0\0\0":
        raise _invalid("it is a component or of another version; a core module is needed")
    types: list[str] = []
    functions: list[int] = []
    imports: list[Import] = []
    exported: list[tuple[str, str, int]] = []
    memory_pages = 0
    for section, reader in _sections(module):
        if section == 1:
            types = [_function_type(reader) for _ in range(reader.count("types", MAX_TYPES))]
        elif section == 2:
            for _ in range(reader.count("imports", MAX_IMPORTS)):
                imports.append(_import(reader, types, functions))
        elif section == 3:
            functions += [reader.number() for _ in range(reader.count("functions", MAX_FUNCTIONS))]
        elif section == 5:
            memory_pages += sum(reader.limits() for _ in range(reader.count("memories", 1)))
        elif section == 7:
            for _ in range(reader.count("exports", MAX_EXPORTS)):
                exported.append((reader.name(), _kind(reader), reader.number()))
    exports = {name: _describe(kind, index, types, functions) for name, kind, index in exported}
    return ModuleShape(tuple(imports), exports, memory_pages * PAGE_BYTES)


def _sections(module: bytes) -> list[tuple[int, _Reader]]:
    found = []
    offset, seen = 8, 0
    while offset < len(module):
        head = _Reader(module, offset, len(module))
        section, length = head.byte(), head.number()
        start = head._offset
        if start + length > len(module):
            raise _invalid("a section leaves the file")
        seen += 1
        if seen > MAX_TYPES:
            raise ExecutionError(ExecutionFault.TOO_BIG, f"the module has more than {MAX_TYPES} sections")
        if section in (1, 2, 3, 5, 7):
            found.append((section, _Reader(module, start, start + length)))
        offset = start + length
    return found


def _function_type(reader: _Reader) -> str:
    if reader.byte() != 0x60:
        raise _invalid("types of the garbage-collection proposal are not supported")
    parameters = reader.value_types()
    return f"({parameters}) -> {reader.value_types() or '()'}"


def _import(reader: _Reader, types: list[str], functions: list[int]) -> Import:
    module, name, kind = reader.name(), reader.name(), _kind(reader)
    signature = ""
    if kind == "function":
        functions.append(reader.number())
        signature = _describe(kind, len(functions) - 1, types, functions)
    elif kind == "table":
        reader.value_type()
        reader.limits()
    elif kind == "memory":
        reader.limits()
    elif kind == "global":
        reader.value_type()
        reader.byte()
    else:
        reader.byte()
        reader.number()
    return Import(module, name, kind, signature)


def _kind(reader: _Reader) -> str:
    code = reader.byte()
    if code >= len(_KINDS):
        raise _invalid(f"kind {code} of an import or export is not known")
    return _KINDS[code]


def _describe(kind: str, index: int, types: list[str], functions: list[int]) -> str:
    if kind != "function":
        return kind
    if index >= len(functions) or functions[index] >= len(types):
        raise _invalid("a function's type does not exist")
    return types[functions[index]]


def _invalid(detail: str) -> ExecutionError:
    return ExecutionError(ExecutionFault.INVALID_MODULE, f"not a valid wasm module: {detail}")
