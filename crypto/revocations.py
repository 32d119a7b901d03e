"""Revocation lists: what an authority takes back before it expires.

Each authority keeps one list, numbered; of two lists of one issuer the higher number counts, alone, so that a
list can also drop serials that have expired meanwhile. A serial counts as revoked once as many lists name it as the
mesh's quorum says: authorities sign apart, and their lists travel apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from .bounded import DecodeError, decode_canonical, encode
from .identity import Identity, NodeId
from .mesh import CertificateError, CertificateReason, Key, MeshDefinition, require_authority
from .signing import Context, digest, verify

SERIALS_MAX = 10_000
SERIAL_BYTES = 16
# 18 bytes a serial, and the rest.
REVOCATION_BYTES_MAX = 18 * SERIALS_MAX + 256

Serial = Annotated[bytes, Meta(min_length=SERIAL_BYTES, max_length=SERIAL_BYTES)]


class RevocationList(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Serials that one issuer has revoked: sorted, each once, at most 10,000."""

    mesh_id: Key
    sequence: Annotated[int, Meta(ge=1, le=1 << 53)]
    revoked: Annotated[tuple[Serial, ...], Meta(max_length=SERIALS_MAX)]
    issuer: Key
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]

    def to_bytes(self) -> bytes:
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> RevocationList:
        """Bounded and canonical; the signature is not checked here. Raises CertificateError MALFORMED."""
        try:
            found = decode_canonical(data, cls, max_bytes=REVOCATION_BYTES_MAX, max_items=SERIALS_MAX)
        except DecodeError as error:
            raise CertificateError(CertificateReason.MALFORMED, error.reason) from None
        if any(left >= right for left, right in pairwise(found.revoked)):
            raise CertificateError(CertificateReason.MALFORMED, "serials are not sorted, or not unique")
        return found

    def has_valid_signature(self) -> bool:
        return verify(self.issuer, Context.REVOCATION, self._signed_payload(), self.signature)

    def _signed_payload(self) -> bytes:
        return encode((self.mesh_id, self.sequence, self.revoked, self.issuer))


def revoke(
    authority: Identity,
    mesh: MeshDefinition,
    serials: Iterable[bytes],
    *,
    previous: RevocationList | None = None,
    expired: Iterable[bytes] = (),
) -> RevocationList:
    """The authority's next list: what the previous one holds, and these serials, without the expired ones.

    Raises ValueError: not an authority of the mesh, the previous list of another issuer or mesh, a serial
    that isn't 16 bytes, more than 10,000.
    """
    require_authority(mesh, authority)
    if previous is not None and (previous.issuer, previous.mesh_id) != (authority.node_id, mesh.mesh_id):
        raise ValueError("the previous list is of another authority or mesh")
    kept = dict.fromkeys([*(previous.revoked if previous else ()), *serials])
    for serial in expired:
        kept.pop(serial, None)
    if any(len(serial) != SERIAL_BYTES for serial in kept):
        raise ValueError(f"a serial has {SERIAL_BYTES} bytes")
    if len(kept) > SERIALS_MAX:
        raise ValueError(f"{len(kept)} serials, at most {SERIALS_MAX} allowed: drop those that have expired")
    sequence = previous.sequence + 1 if previous else 1
    unsigned = RevocationList(mesh.mesh_id, sequence, tuple(sorted(kept)), authority.node_id, bytes(64))
    signature = authority.sign(Context.REVOCATION, unsigned._signed_payload())
    return RevocationList(unsigned.mesh_id, sequence, unsigned.revoked, unsigned.issuer, signature)


def authority_serial(authority: NodeId) -> bytes:
    """What a list names to take back all that an authority issued, 16 bytes."""
    return digest(Context.REVOCATION, authority)[:SERIAL_BYTES]


def taken_back(lists: Iterable[RevocationList], quorum: int) -> frozenset[bytes]:
    """Serials that at least `quorum` of the lists name. lists: one of each issuer."""
    votes = Counter(serial for held in lists for serial in held.revoked)
    return frozenset(serial for serial, count in votes.items() if count >= quorum)


def supersedes(candidate: RevocationList, held: RevocationList | None) -> bool:
    """Whether the candidate takes the place of what is held of the same issuer.

    A total order, for authorities that number two lists alike: nodes agree on the one, whichever came first.
    """
    if held is None:
        return True
    return (candidate.sequence, candidate.to_bytes()) > (held.sequence, held.to_bytes())


BUNDLE_BYTES_MAX = 16 * (REVOCATION_BYTES_MAX + 8)


def pack_lists(lists: Iterable[RevocationList]) -> bytes:
    """Several authorities' lists for one file."""
    return encode(tuple(held.to_bytes() for held in lists))


def unpack_lists(data: bytes) -> tuple[RevocationList, ...]:
    """Of a file: one list, or what `pack_lists` made. Signatures are not checked. Raises CertificateError MALFORMED."""
    try:
        return (RevocationList.from_bytes(data),)
    except CertificateError as error:
        alone = error
    try:
        packed = decode_canonical(data, tuple[bytes, ...], max_bytes=BUNDLE_BYTES_MAX, max_items=16)
    except DecodeError:
        raise alone from None
    return tuple(RevocationList.from_bytes(part) for part in packed)


def join_revocations(
    left: Mapping[NodeId, RevocationList], right: Mapping[NodeId, RevocationList]
) -> dict[NodeId, RevocationList]:
    """The list that counts, by issuer in ascending order. Commutes, associates, is idempotent."""
    joined = dict(left)
    for issuer, candidate in right.items():
        if supersedes(candidate, joined.get(issuer)):
            joined[issuer] = candidate
    return dict(sorted(joined.items()))
