"""A node's or client's key, certificate and mesh, read from its files into what the machine needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..crypto.certificates import Certificate, CertificateError, MembershipPolicy
from ..crypto.identity import Identity
from ..crypto.keyfile import IdentityError
from ..crypto.revocations import RevocationList, unpack_lists
from .clock import wall_s
from .config import MeshPaths
from .meshfile import load_mesh_file
from .storage.folder import StateFolder

CERTIFICATE_BYTES_MAX = 4096


class MembershipError(Exception):
    """Key or certificate is missing or does not fit. One line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who this process is in which mesh."""

    identity: Identity
    certificate: Certificate
    certificate_bytes: bytes
    policy: MembershipPolicy


def load_membership(paths: MeshPaths, folder: StateFolder) -> Membership:
    """Raises MembershipError, ConfigError."""
    mesh = load_mesh_file(paths.definition)
    identity = load_identity(folder)
    path = paths.certificate if paths.certificate is not None else folder.certificate
    try:
        data = path.read_bytes()[:CERTIFICATE_BYTES_MAX]
    except OSError as error:
        raise MembershipError(
            f"{path}: no certificate ({error.strerror}); "
            f"ask the mesh's authority for one: hearth mesh invite {identity.peer_id}"
        ) from error
    try:
        policy = MembershipPolicy(mesh, _revocations(paths.revocations))
    except CertificateError as error:
        raise MembershipError(f"{paths.revocations}: {error}; it has to be of this mesh's authorities") from error
    try:
        certificate = policy.check(data, identity.node_id, wall_s())
    except CertificateError as error:
        raise MembershipError(
            f"{path}: {error}; ask the mesh's authority for another: hearth mesh invite {identity.peer_id}"
        ) from error
    return Membership(identity, certificate, data, policy)


def load_identity(folder: StateFolder) -> Identity:
    """The folder's key, made if there is none. Raises MembershipError."""
    path = folder.identity_key
    try:
        if not path.exists():
            identity = Identity.generate()
            identity.save(path)
            return identity
        return Identity.load(path)
    except IdentityError as error:
        raise MembershipError(str(error)) from error
    except OSError as error:
        raise MembershipError(f"{path}: the key cannot be kept: {error.strerror}") from error


def _revocations(path: Path | None) -> tuple[RevocationList, ...]:
    if path is None:
        return ()
    try:
        return unpack_lists(path.read_bytes())
    except OSError as error:
        raise MembershipError(f"{path}: the revocation list cannot be read: {error.strerror}") from error
    except CertificateError as error:
        raise MembershipError(f"{path}: {error}") from error
