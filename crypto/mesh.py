"""What a mesh is: a name, and the keys that say who belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

from .bounded import DecodeError, decode_bounded, encode
from .identity import Identity, NodeId
from .signing import PUBLIC_KEY_BYTES, Context, digest

MESH_VERSION = 1
MESH_BYTES_MAX = 1024
AUTHORITIES_MAX = 16
NAME_LENGTH_MAX = 64

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]


class CertificateReason(StrEnum):
    """Why a certificate, or a revocation list, is not accepted."""

    MALFORMED = "malformed"
    OTHER_MESH = "of another mesh"
    WRONG_SUBJECT = "of another node"
    UNKNOWN_ISSUER = "not issued by an authority of this mesh"
    BAD_SIGNATURE = "bad signature"
    NOT_YET_VALID = "not yet valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ROLE_MISSING = "lacks a role"

    @property
    def depends_on_clock(self) -> bool:
        """Whether it may be this machine's clock that is wrong, and nobody else."""
        return self in (CertificateReason.NOT_YET_VALID, CertificateReason.EXPIRED)


class CertificateError(Exception):
    """A certificate or revocation list that doesn't count.  detail: printable, for logs and the sender."""

    def __init__(self, reason: CertificateReason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class _MeshRecord(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The quorum is left out where it is 1: definitions without one keep their id."""

    version: Annotated[int, Meta(ge=1, le=1 << 16)]
    name: Name
    authorities: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=AUTHORITIES_MAX)]
    revocation_quorum: Annotated[int, Meta(ge=1, le=AUTHORITIES_MAX)] = 1


@dataclass(frozen=True)
class MeshDefinition:
    """A mesh. Its id follows from all of it, so another set of authorities is another mesh.

    name: 1 to 64 printable characters.  authorities: 1 to 16 different keys, in any order; kept sorted.
    revocation_quorum: how many of them have to take an admission back before it counts.
    Raises ValueError if they are not.
    """

    name: str
    authorities: tuple[NodeId, ...]
    version: int = MESH_VERSION
    revocation_quorum: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "authorities", tuple(sorted(self.authorities)))
        if self.version != MESH_VERSION:
            raise ValueError(f"mesh version {self.version}, this program knows {MESH_VERSION}")
        require_printable_name(self.name)
        if not 1 <= len(self.authorities) <= AUTHORITIES_MAX:
            raise ValueError(f"{len(self.authorities)} authorities, 1 to {AUTHORITIES_MAX} allowed")
        if any(len(authority) != PUBLIC_KEY_BYTES for authority in self.authorities):
            raise ValueError(f"an authority's key has {PUBLIC_KEY_BYTES} bytes")
        if len(dict.fromkeys(self.authorities)) != len(self.authorities):
            raise ValueError("an authority stands twice")
        if not 1 <= self.revocation_quorum <= len(self.authorities):
            raise ValueError(f"a quorum of {self.revocation_quorum} among {len(self.authorities)} authorities")

    @cached_property
    def mesh_id(self) -> bytes:
        """32 bytes."""
        return digest(Context.MESH, self.to_bytes())

    def to_bytes(self) -> bytes:
        required = (self.version, self.name, self.authorities)
        return encode(required if self.revocation_quorum == 1 else (*required, self.revocation_quorum))

    @classmethod
    def from_bytes(cls, data: bytes) -> MeshDefinition:
        """Inverse of `to_bytes`. Raises DecodeError."""
        record = decode_bounded(data, _MeshRecord, max_bytes=MESH_BYTES_MAX, max_items=AUTHORITIES_MAX)
        try:
            mesh = cls(record.name, record.authorities, record.version, record.revocation_quorum)
        except ValueError as error:
            raise DecodeError(0, str(error)) from None
        if mesh.authorities != record.authorities:
            raise DecodeError(0, "the authorities are not sorted")
        if mesh.to_bytes() != data:
            raise DecodeError(0, "not the canonical encoding")
        return mesh


def require_printable_name(name: str) -> None:
    """Names reach terminals and logs. Raises ValueError unless 1 to 64 characters, none of them a control."""
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        raise ValueError(f"a name has 1 to {NAME_LENGTH_MAX} characters, this one {len(name)}")
    if not name.isprintable():
        raise ValueError("a name has printable characters only")


def require_authority(mesh: MeshDefinition, authority: Identity) -> None:
    """Raises ValueError if the mesh doesn't name this key."""
    if authority.node_id not in mesh.authorities:
        raise ValueError(f"{authority.peer_id} is no authority of {mesh.name!r}")
