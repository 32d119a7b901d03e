"""A job's description read as its peers will read it: they close the link of one who sends them anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ...crypto.bounded import DecodeError, decode_bounded, encode
from ...protocol.records import RECORD_BYTES_MAX, JobSpec
from .errors import ClientError

# With its certificate, its time and its signature it is to be no longer than replicas take.
SPEC_BYTES_MAX = RECORD_BYTES_MAX // 2 - 2048
_UNSAYABLE = (OverflowError, UnicodeEncodeError, TypeError, RecursionError)
_AT = re.compile(r"(.*) - at `\$((?:\[\d+\])*)`", re.DOTALL)
# What a request calls them.
_CALLED = {"command": "program", "secrecy.classes": "trust_classes", "secrecy.owners": "trust_owners"}


def as_peers_read(spec: JobSpec) -> JobSpec:
    """The same, out of its bytes. Raises ClientError that names the field and shows its value."""
    try:
        encoded = encode(spec)
        return decode_bounded(encoded, JobSpec, max_bytes=SPEC_BYTES_MAX)
    except (DecodeError, *_UNSAYABLE) as error:
        for each in msgspec.structs.fields(JobSpec):
            _check(each.name, getattr(spec, each.name), each.type)
        why = error.reason if isinstance(error, DecodeError) else str(error)
        hint = "put long arguments into files, or make several jobs of it"
        raise ClientError(f"the job's description cannot be sent: {why}; {hint}") from error


def mistyped(name: str, value: object, wanted: str) -> ClientError:
    return ClientError(f"{name}: expected {wanted}; it is {shown(value)}")


def shown(value: object) -> str:
    """Short enough for one line."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str | int | float | bytes | None) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check(name: str, value: Any, wanted: Any) -> None:
    """Raises ClientError if peers would not take a field of the description."""
    try:
        encoded = encode(value)
    except _UNSAYABLE as error:
        raise _unsayable(name, value, error) from error
    try:
        decode_bounded(encoded, wanted, max_bytes=len(encoded))
    except DecodeError as error:
        found = _AT.fullmatch(error.reason)
        reason, steps = (found[1], found[2]) if found else (error.reason, "")
        for step in re.findall(r"\d+", steps):
            name, value = list(_parts(name, value))[int(step)]
        raise mistyped(_called(name), value, reason.removeprefix("Expected ")) from error


def _unsayable(name: str, value: Any, error: Exception) -> ClientError:
    """Of the innermost part that has no bytes."""
    for part_name, part in _parts(name, value):
        try:
            encode(part)
        except _UNSAYABLE as inner:
            return _unsayable(part_name, part, inner)
    if isinstance(error, UnicodeEncodeError):
        return mistyped(_called(name), value, "text in UTF-8")
    if isinstance(error, OverflowError):
        return mistyped(_called(name), value, "an integer below 2 ** 63")
    return mistyped(_called(name), value, "something that can be sent")


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """In the order of its encoding."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield f"{name}.{field}", getattr(value, field)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield f"{name}[{number}]", part


def _called(name: str) -> str:
    known = [field for field in _CALLED if name == field or name.startswith(f"{field}[")]
    return _CALLED[known[0]] + name.removeprefix(known[0]) if known else name
