"""What a confidential job's description does not say in the clear: names and arguments."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from ...crypto.bounded import DecodeError, decode_bounded
from ...crypto.sealing import SealError
from ..records import JobSpec
from .keys import binding_of, envelope_of

HIDDEN_BYTES_MAX = 256 * 1024
# What stands in the description instead.
COVER_NAME = "confidential"
COVER_ENTRY = "confidential"


class Hidden(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """files: the real names, in the order of the description's files."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    entry: Annotated[str, Meta(max_length=64)]
    arguments: Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(max_length=256)]
    files: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=256)]


def cover_name(number: int) -> str:
    """What the description calls its number-th file."""
    return f"f{number}"


def hide(hidden: Hidden, key: bytes, salt: bytes) -> bytes:
    return envelope_of(key).seal(msgspec.msgpack.encode(hidden), binding_of(salt, "hidden", 0))


def revealed(spec: JobSpec, key: bytes | bytearray) -> JobSpec:
    """The description as its submitter wrote it, but for blobs and inputs. Raises SealError."""
    assert spec.secrecy is not None
    plain = envelope_of(key).open(spec.secrecy.hidden, binding_of(spec.secrecy.salt, "hidden", 0))
    try:
        hidden = decode_bounded(plain, Hidden, max_bytes=HIDDEN_BYTES_MAX)
    except DecodeError as error:
        raise SealError(f"what is hidden cannot be read: {error.reason}") from None
    if len(hidden.files) != len(spec.files):
        raise SealError("it names other files than the description has")
    files = tuple(replace(ref, name=name) for ref, name in zip(spec.files, hidden.files, strict=True))
    return replace(spec, name=hidden.name, entry=hidden.entry, arguments=hidden.arguments, files=files)
