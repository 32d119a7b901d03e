"""Membership: certificates signed by an authority of the mesh, and the policy that checks them.

Certificates and revocation lists have one encoding each, so their bytes may serve as keys of a cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from enum import IntFlag
from typing import Annotated

from msgspec import Meta, Struct, structs

from .bounded import DecodeError, decode_bounded, encode
from .identity import Identity, NodeId, peer_id_text
from .mesh import (
    NAME_LENGTH_MAX,
    CertificateError,
    CertificateReason,
    Key,
    MeshDefinition,
    Name,
    require_authority,
    require_printable_name,
)
from .revocations import (
    SERIAL_BYTES,
    RevocationList,
    Serial,
    authority_serial,
    join_revocations,
    revoke,
    supersedes,
    taken_back,
)
from .signing import Context, verify

__all__ = [
    "Certificate",
    "CertificateError",
    "CertificateReason",
    "MembershipPolicy",
    "MeshDefinition",
    "Quota",
    "RevocationList",
    "Role",
    "issue",
    "join_revocations",
    "revoke",
]

CERTIFICATE_BYTES_MAX = 1024
CLOCK_TOLERANCE_S = 120
# Some 500 bytes each.
VERIFIED_MAX = 1024

# An authority may vouch for so many trust classes of a node.
CLASSES_MAX = 4

Time = Annotated[int, Meta(ge=0, le=1 << 40)]
Place = Annotated[str, Meta(max_length=NAME_LENGTH_MAX)]
TrustClass = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,31}$")]


class Role(IntFlag):
    """What a node may do in the mesh. Bits that this version doesn't know are kept, and ask for nothing."""

    WORKER = 1
    SUBMITTER = 2
    REPLICA = 4
    RELAY = 8


NO_ROLE = Role(0)
Bound = Annotated[int, Meta(ge=0, le=1 << 53)]


class Quota(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a submitter may have in flight at one node; 0 where there is no bound.

    tasks: without a result.  bytes: of specs, programs and inputs of jobs with such tasks.  cpu_s: CPU time of those.
    """

    tasks: Bound = 0
    bytes: Bound = 0
    cpu_s: Bound = 0

    def __bool__(self) -> bool:
        return self != NO_QUOTA

    def within(self, other: Quota) -> Quota:
        """The narrower of the two in each."""
        pairs = zip(structs.astuple(self), structs.astuple(other), strict=True)
        return Quota(*(min(a, b) if a and b else a or b for a, b in pairs))


NO_QUOTA = Quota()


class Vouched(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What an authority says of a node beside admitting it.

    owner, site: whose machine it is and where it stands; empty if it does not say.  classes: what it is trusted with.
    """

    owner: Place = ""
    site: Place = ""
    classes: Annotated[tuple[TrustClass, ...], Meta(max_length=CLASSES_MAX)] = ()

    def __bool__(self) -> bool:
        return self != NOT_VOUCHED


NOT_VOUCHED = Vouched()


class Certificate(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One node's membership, under one authority's signature.

    not_before_s, not_after_s: unix seconds, both included.  name: what people call the node, 1 to 64
    printable characters.  serial: random, 16 bytes, what a revocation names.  quota, vouched: encoded only as far as
    there is anything to say, so that certificates of before there were quotas are as they were.
    """

    mesh_id: Key
    subject: Key
    role_bits: Annotated[int, Meta(ge=0, le=0xFFFF)]
    not_before_s: Time
    not_after_s: Time
    serial: Serial
    name: Name
    issuer: Key
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    quota: Quota = NO_QUOTA
    vouched: Vouched = NOT_VOUCHED

    @property
    def roles(self) -> Role:
        return Role(self.role_bits)

    @property
    def serial_text(self) -> str:
        """32 hexadecimal digits."""
        return self.serial.hex()

    def to_bytes(self) -> bytes:
        return encode((*self._said(), self.signature, *self._more()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Certificate:
        """Bounded and canonical; signature and time are not checked. Raises CertificateError MALFORMED."""
        return decode_certificate(data)

    def has_valid_signature(self) -> bool:
        return verify(self.issuer, Context.CERTIFICATE, self._signed_payload(), self.signature)

    def _signed_payload(self) -> bytes:
        return encode((*self._said(), *self._more()))

    def _said(self) -> tuple[object, ...]:
        return structs.astuple(self)[:-3]

    def _more(self) -> tuple[object, ...]:
        if self.vouched:
            return (self.quota, self.vouched)
        return (self.quota,) if self.quota else ()


def issue(
    authority: Identity,
    mesh: MeshDefinition,
    subject: NodeId,
    roles: Role,
    not_before_s: int,
    not_after_s: int,
    name: str,
    serial: bytes | None = None,
    quota: Quota = NO_QUOTA,
    vouched: Vouched = NOT_VOUCHED,
) -> Certificate:
    """A signed certificate; without a serial, a random one.

    Raises ValueError: not an authority of the mesh, or a field that no node would accept.
    """
    require_authority(mesh, authority)
    if serial is None:
        serial = os.urandom(SERIAL_BYTES)
    unsigned = Certificate(
        mesh_id=mesh.mesh_id,
        subject=subject,
        role_bits=int(roles),
        not_before_s=not_before_s,
        not_after_s=not_after_s,
        serial=serial,
        name=name,
        issuer=authority.node_id,
        signature=bytes(64),
        quota=quota,
        vouched=vouched,
    )
    require_printable_name(name)
    try:
        Certificate.from_bytes(unsigned.to_bytes())
    except CertificateError as error:
        raise ValueError(error.detail) from None
    return structs.replace(unsigned, signature=authority.sign(Context.CERTIFICATE, unsigned._signed_payload()))


def decode_certificate(data: bytes) -> Certificate:
    """`Certificate.from_bytes`."""
    try:
        found = decode_bounded(data, Certificate, max_bytes=CERTIFICATE_BYTES_MAX, max_items=16)
        for text in (found.name, *filter(None, (found.vouched.owner, found.vouched.site))):
            require_printable_name(text)
    except DecodeError as error:
        raise CertificateError(CertificateReason.MALFORMED, error.reason) from None
    except ValueError as error:
        raise CertificateError(CertificateReason.MALFORMED, str(error)) from None
    if found.to_bytes() != data:
        raise CertificateError(CertificateReason.MALFORMED, "not the canonical encoding")
    if found.not_before_s > found.not_after_s:
        raise CertificateError(CertificateReason.MALFORMED, "ends before it begins")
    return found


class MembershipPolicy:
    """Who may take part in one mesh, given the revocations known so far.

    Signatures are verified once: what was valid stays in a cache of `VERIFIED_MAX` certificates. Times, roles
    and revocations are judged anew each time.
    """

    def __init__(self, mesh: MeshDefinition, revocations: Iterable[RevocationList] = ()) -> None:
        """Raises CertificateError if a revocation list isn't one of this mesh."""
        self.mesh = mesh
        self._authority_serials = {authority: authority_serial(authority) for authority in mesh.authorities}
        self._verified: OrderedDict[bytes, Certificate] = OrderedDict()
        self._lists: dict[NodeId, RevocationList] = {}
        self._revoked: frozenset[bytes] = frozenset()
        for revocation_list in revocations:
            self.add_revocations(revocation_list.to_bytes())

    @property
    def revocations(self) -> tuple[RevocationList, ...]:
        """The list that counts of each authority, to persist and to pass on."""
        return tuple(self._lists.values())

    def is_revoked(self, serial: bytes) -> bool:
        """Whether as many authorities as it takes have taken it back."""
        return serial in self._revoked

    def is_disowned(self, authority: NodeId) -> bool:
        """Whether the authorities have taken back all that this one of them issued."""
        return self._authority_serials[authority] in self._revoked

    def check(self, certificate: bytes, subject: NodeId, now_s: int, needs: int = NO_ROLE) -> Certificate:
        """The certificate, if it admits the subject now, with all the roles that are needed, as bits.

        certificate: bytes, as the peer sent them.  subject: who the connection proved the peer to be.
        now_s: unix seconds; a clock that is up to two minutes behind the issuer's still accepts a new
        certificate. Raises CertificateError.
        """
        found = self._verified_certificate(certificate, subject)
        if now_s + CLOCK_TOLERANCE_S < found.not_before_s:
            raise CertificateError(CertificateReason.NOT_YET_VALID, f"{found.not_before_s - now_s} s too early")
        if now_s > found.not_after_s:
            raise CertificateError(CertificateReason.EXPIRED, f"{now_s - found.not_after_s} s ago")
        if found.serial in self._revoked:
            raise CertificateError(CertificateReason.REVOKED, f"serial {found.serial_text}")
        if self._revoked and self.is_disowned(found.issuer):
            raise CertificateError(CertificateReason.REVOKED, f"all of {peer_id_text(found.issuer)}")
        if missing := int(needs) & ~found.role_bits:
            raise CertificateError(CertificateReason.ROLE_MISSING, str(Role(missing).name))
        return found

    def add_revocations(self, data: bytes) -> bool:
        """Take in a list from anywhere; True if it was news.

        Raises CertificateError: MALFORMED, OTHER_MESH, UNKNOWN_ISSUER or BAD_SIGNATURE.
        """
        candidate = RevocationList.from_bytes(data)
        self._require_own_issuer(candidate)
        if not supersedes(candidate, self._lists.get(candidate.issuer)):
            return False
        if not candidate.has_valid_signature():
            raise CertificateError(CertificateReason.BAD_SIGNATURE)
        self._lists = join_revocations(self._lists, {candidate.issuer: candidate})
        self._revoked = taken_back(self._lists.values(), self.mesh.revocation_quorum)
        return True

    def _verified_certificate(self, data: bytes, subject: NodeId) -> Certificate:
        cached = self._verified.get(data)
        found = Certificate.from_bytes(data) if cached is None else cached
        self._require_own_issuer(found)
        if found.subject != subject:
            raise CertificateError(CertificateReason.WRONG_SUBJECT, f"it is of {peer_id_text(found.subject)}")
        if cached is None and not found.has_valid_signature():
            raise CertificateError(CertificateReason.BAD_SIGNATURE)
        self._verified[data] = found
        self._verified.move_to_end(data)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return found

    def _require_own_issuer(self, signed: Certificate | RevocationList) -> None:
        if signed.mesh_id != self.mesh.mesh_id:
            raise CertificateError(CertificateReason.OTHER_MESH, f"mesh {signed.mesh_id.hex()[:16]}")
        if signed.issuer not in self.mesh.authorities:
            raise CertificateError(CertificateReason.UNKNOWN_ISSUER, peer_id_text(signed.issuer))
