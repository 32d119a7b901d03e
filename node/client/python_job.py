"""A Python function as a job: its source and packed arguments, on the component that runs Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..python.guest.hearth_values import ValueRefused, pack, unpack
from ..python.runtime import RuntimeUnavailable, python_component
from ..python.source import SourceRefused, source_of
from ..tasks import INIT_FILE
from .errors import ClientError
from .request import JobRequest

_FIXED = ("runtime", "abi", "entry", "files", "arguments", "tasks")


def python_request(function: Callable[[Any], Any], arguments: Iterable[Any], **options: Any) -> JobRequest:
    """One task an argument. Builds the component the first time. Raises ClientError."""
    for name in _FIXED:
        if name in options:
            raise ClientError(f"{name} cannot be chosen for a Python function")
    try:
        source, entry = source_of(function)
    except SourceRefused as error:
        raise ClientError(str(error)) from error
    options.setdefault("name", entry[:128])
    return python_source_request(source, entry, inputs=pack_all(arguments), **options)


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


def component() -> Path:
    """Raises ClientError."""
    try:
        return python_component()
    except RuntimeUnavailable as error:
        raise ClientError(str(error)) from error
