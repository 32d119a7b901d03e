"""A Python function as a job: its source and packed arguments, on the component that runs Python, or natively."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...crypto.bounded import DecodeError, decode_bounded
from ..python.guest import hearth_values
from ..python.guest.hearth_values import ValueRefused, pack, unpack
from ..python.runtime import RuntimeUnavailable, python_component
from ..python.source import SourceRefused, source_of
from ..tasks import INIT_FILE
from .errors import ClientError
from .request import JobRequest

NATIVE_COMMAND = "python"
_GUEST = Path(hearth_values.__file__).parent
_FIXED = ("abi", "entry", "files", "arguments", "tasks")


def python_request(
    function: Callable[[Any], Any], arguments: Iterable[Any], *, runtime: str = "python", **options: Any
) -> JobRequest:
    """One task an argument. runtime: "python", whose component is built the first time; or "native", on nodes whose
    owner allows the `command`, by default `python`. Raises ClientError."""
    for name in _FIXED:
        if name in options:
            raise ClientError(f"{name} cannot be chosen for a Python function")
    if runtime not in ("python", "native"):
        raise ClientError(f'a Python function runs with runtime "python" or "native", not "{runtime[:40]}"')
    if runtime == "python" and "command" in options:
        raise ClientError('command is for runtime="native"')
    try:
        source, entry = source_of(function, native=runtime == "native")
    except SourceRefused as error:
        raise ClientError(str(error)) from error
    options.setdefault("name", entry[:128])
    if runtime == "native":
        return _native_request(source, entry, pack_all(arguments), **options)
    return python_source_request(source, entry, inputs=pack_all(arguments), **options)


def _native_request(
    source: str, entry: str, inputs: list[bytes], *, command: str = NATIVE_COMMAND, **options: Any
) -> JobRequest:
    guest = {name: (_GUEST / name).read_bytes() for name in ("hearth_native.py", "hearth_values.py")}
    return JobRequest(
        program=command,
        runtime="native",
        abi="command",
        arguments=("/in/hearth_native.py", entry, "{index}"),
        files={**guest, "job.py": source.encode()},
        inputs=inputs,
        **options,
    )


def python_source_request(source: str, entry: str, *, inputs: Iterable[bytes] | None, **options: Any) -> JobRequest:
    """As above, from source text. inputs: packed arguments; None: each task gets its index. Raises ClientError."""
    return JobRequest(
        program=component(), abi="function", entry=entry, files={INIT_FILE: source.encode()}, inputs=inputs, **options
    )


def pack_all(arguments: Iterable[Any]) -> list[bytes]:
    """Raises ClientError that names the argument."""
    packed = []
    for number, argument in enumerate(arguments):
        try:
            packed.append(pack(argument))
        except ValueRefused as error:
            raise ClientError(f"argument {number}: {error}") from error
    return packed


def unpack_result(output: bytes) -> Any:
    """What the function returned. Raises ClientError: whatever ran the task may have signed anything."""
    try:
        return unpack(output)
    except ValueRefused as error:
        raise ClientError(f"a result that is no value: {error}") from error


def unpack_native(output: bytes) -> Any:
    """What the function returned, of a native task's output. Raises ClientError, as above."""
    try:
        stdout, _ = decode_bounded(output, tuple[bytes, dict[str, bytes]], max_bytes=len(output))
    except DecodeError as error:
        raise ClientError(f"a result that is no task's output: {error}") from error
    return unpack_result(stdout)


def component() -> Path:
    """Raises ClientError."""
    try:
        return python_component()
    except RuntimeUnavailable as error:
        raise ClientError(str(error)) from error
