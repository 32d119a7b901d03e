"""An authority's folder: the mesh's definition, the keys that admit members, and what they admitted.

mesh.toml            public; every member needs it
authority.key        secret; authority-2.key … with several authorities
certificates/        a copy of each certificate that was issued from here
revocations          what authority.key took back; revocations-2 …
others/              lists of authorities whose keys are elsewhere, as `hearth mesh cosign` was given them
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...crypto.certificates import NO_QUOTA, NOT_VOUCHED, Certificate, MembershipPolicy, Quota, Role, Vouched, issue
from ...crypto.identity import Identity, NodeId, node_id_from_text, peer_id_text
from ...crypto.keyfile import IdentityError, IdentityReason
from ...crypto.mesh import AUTHORITIES_MAX, CertificateError, MeshDefinition
from ...crypto.revocations import BUNDLE_BYTES_MAX, RevocationList, authority_serial, pack_lists, revoke, unpack_lists
from ..membership_files import CERTIFICATE_BYTES_MAX
from ..meshfile import load_mesh_file, save_mesh_file
from .errors import UserError

DAY_S = 86_400
DAYS_MAX = 36_500
ROLE_NAMES = tuple(str(role.name).lower() for role in Role)
_SERIAL = re.compile(r"[0-9a-fA-F]{32}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")

AskPassphrase = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Authority:
    """One key with what it needs to sign: the folder's `number`-th, counted from 1."""

    number: int
    identity: Identity
    mesh: MeshDefinition


@dataclass(frozen=True, slots=True)
class AuthorityFolder:
    root: Path

    @property
    def mesh_file(self) -> Path:
        return self.root / "mesh.toml"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    def key(self, number: int) -> Path:
        return self.root / ("authority.key" if number == 1 else f"authority-{number}.key")

    @property
    def others(self) -> Path:
        return self.root / "others"

    @property
    def bundle(self) -> Path:
        """All lists that are here in one file, for `mesh.revocations`."""
        return self.root / "revocations-all"

    def revocations(self, number: int) -> Path:
        return self.root / ("revocations" if number == 1 else f"revocations-{number}")

    # -- making --------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        authorities: int,
        passphrase: str | None,
        *,
        others: tuple[NodeId, ...] = (),
        quorum: int | None = None,
    ) -> MeshDefinition:
        """Make the keys and mesh.toml. others: authorities that keep their keys elsewhere.  quorum: default a majority.

        Raises UserError, IdentityError; an existing mesh is left as it is.
        """
        if not 1 <= authorities + len(others) <= AUTHORITIES_MAX or authorities < 1:
            raise UserError(f"--authorities: {authorities + len(others)}, 1 to {AUTHORITIES_MAX} are possible")
        if quorum is None:
            quorum = (authorities + len(others)) // 2 + 1
        identities = [Identity.generate() for _ in range(authorities)]
        keys = (*(identity.node_id for identity in identities), *others)
        try:
            mesh = MeshDefinition(name, keys, revocation_quorum=quorum)
        except ValueError as error:
            raise UserError(f"{name!r} cannot be a mesh's name: {error}") from error
        for path in (self.mesh_file, *(self.key(number + 1) for number in range(authorities))):
            if path.exists():
                raise UserError(f"{path}: is there already; choose another --folder, or remove it if nobody needs it")
        with _writing(self.root):
            self.certificates.mkdir(parents=True, exist_ok=True)
            for number, identity in enumerate(identities, 1):
                identity.save(self.key(number), passphrase)
            save_mesh_file(self.mesh_file, mesh)
        return mesh

    def create_key(self, passphrase: str | None) -> Identity:
        """The key of an authority of a mesh that somebody else founds. Raises UserError, IdentityError."""
        identity = Identity.generate()
        with _writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            identity.save(self.key(1), passphrase)
        return identity

    # -- reading -------------------------------------------------------------------------------------------

    def mesh(self) -> MeshDefinition:
        """Raises UserError, ConfigError."""
        if not self.mesh_file.exists():
            raise UserError(f"{self.mesh_file}: no such file; name the authority's --folder, or run hearth mesh init")
        return load_mesh_file(self.mesh_file)

    def authority(self, number: int, ask_passphrase: AskPassphrase) -> Authority:
        """Raises UserError, ConfigError, IdentityError."""
        mesh, path = self.mesh(), self.key(number)
        try:
            identity = Identity.load(path)
        except IdentityError as error:
            if error.reason is not IdentityReason.PASSPHRASE_NEEDED:
                raise
            identity = Identity.load(path, ask_passphrase(path))
        if identity.node_id not in mesh.authorities:
            raise UserError(f"{path}: {identity.peer_id} is no authority of {self.mesh_file}")
        return Authority(number, identity, mesh)

    def issued(self) -> list[Certificate]:
        """The copies kept here, by name and time. Files that are no certificates are left out."""
        found = []
        for path in sorted(self.certificates.glob("*.cert")):
            try:
                found.append(read_certificate(path))
            except (UserError, CertificateError):
                continue
        return sorted(found, key=lambda certificate: (certificate.name, certificate.not_before_s, certificate.serial))

    def lists(self) -> dict[NodeId, RevocationList]:
        """The newest list of each authority that is here, of its own keys and of others."""
        held = [self._held(number) for number in range(1, AUTHORITIES_MAX + 1)]
        policy = MembershipPolicy(self.mesh())
        others = [found for path in sorted(self.others.glob("*.revocations")) for found in read_lists(path)]
        for found in [*filter(None, held), *others]:
            try:
                policy.add_revocations(found.to_bytes())
            except CertificateError as error:
                raise UserError(f"{self.root}: a list of {peer_id_text(found.issuer)} does not fit: {error}") from error
        return {found.issuer: found for found in policy.revocations}

    def votes(self) -> dict[bytes, list[NodeId]]:
        """Serials that any authority takes back, with those that do, as far as their lists are here."""
        serials: dict[bytes, list[NodeId]] = {}
        for issuer, found in self.lists().items():
            for serial in found.revoked:
                serials.setdefault(serial, []).append(issuer)
        return serials

    def _held(self, number: int) -> RevocationList | None:
        path = self.revocations(number)
        try:
            return RevocationList.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        except CertificateError as error:
            raise UserError(f"{path}: not a revocation list: {error}") from error

    # -- signing -------------------------------------------------------------------------------------------

    def invite(
        self,
        authority: Authority,
        subject: NodeId,
        name: str,
        roles: Role,
        days: float,
        quota: Quota = NO_QUOTA,
        vouched: Vouched = NOT_VOUCHED,
    ) -> tuple[Certificate, Path]:
        """A certificate and the copy that is kept here. Raises UserError."""
        now_s = int(time.time())
        try:
            certificate = issue(
                authority.identity,
                authority.mesh,
                subject,
                roles,
                now_s,
                now_s + int(days * DAY_S),
                name,
                quota=quota,
                vouched=vouched,
            )
        except ValueError as error:
            raise UserError(f"no certificate for {name!r}: {error}") from error
        path = self.certificates / f"{file_name(name)}-{certificate.serial_text[:8]}.cert"
        with _writing(path):
            self.certificates.mkdir(parents=True, exist_ok=True)
            write_atomically(path, certificate.to_bytes())
        return certificate, path

    def revoke(self, authority: Authority, serials: Iterable[bytes]) -> tuple[RevocationList, Path]:
        """The authority's next list, written here. What has expired by now is dropped from it. Raises UserError."""
        now_s = int(time.time())
        expired = [held.serial for held in self.issued() if held.not_after_s < now_s]
        try:
            revoked = revoke(
                authority.identity, authority.mesh, serials, previous=self._held(authority.number), expired=expired
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        path = self.revocations(authority.number)
        with _writing(path):
            write_atomically(path, revoked.to_bytes())
        self._write_bundle()
        return revoked, path

    def cosign(self, authority: Authority, paths: Iterable[Path]) -> tuple[RevocationList, Path, list[bytes]]:
        """Take back too what other authorities' lists do; their lists are kept here.

        Returns the own list, its file, and the serials that are new in it. Raises UserError.
        """
        policy, given = MembershipPolicy(authority.mesh), []
        for path in paths:
            for found in read_lists(path):
                try:
                    policy.add_revocations(found.to_bytes())
                except CertificateError as error:
                    raise UserError(f"{path}: {error}; it has to be a list of this mesh's authorities") from error
                given.append(found)
        with _writing(self.others):
            self.others.mkdir(parents=True, exist_ok=True)
            for found in policy.revocations:
                if found.issuer != authority.identity.node_id:
                    self._keep_newest(found)
        named = dict.fromkeys(serial for found in given for serial in found.revoked)
        held = self._held(authority.number)
        fresh = [serial for serial in named if held is None or serial not in held.revoked]
        if fresh or held is None:
            held, _ = self.revoke(authority, fresh)
        else:
            self._write_bundle()
        return held, self.revocations(authority.number), fresh

    def _keep_newest(self, found: RevocationList) -> None:
        path = self.others / f"{peer_id_text(found.issuer)}.revocations"
        known = read_lists(path)[0] if path.exists() else None
        if known is None or known.sequence <= found.sequence:
            write_atomically(path, found.to_bytes())

    def _write_bundle(self) -> None:
        with _writing(self.bundle):
            write_atomically(self.bundle, pack_lists(self.lists().values()))


def parse_roles(text: str) -> Role:
    """worker,replica,… Raises UserError."""
    roles = Role(0)
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        if name not in ROLE_NAMES:
            raise UserError(f'--roles: no role "{name}"; there are: {", ".join(ROLE_NAMES)}')
        roles |= Role[name.upper()]
    if not roles:
        raise UserError(f"--roles: empty; there are: {', '.join(ROLE_NAMES)}")
    return roles


def role_names(roles: Role) -> list[str]:
    return [str(role.name).lower() for role in Role if role in roles]


def read_certificate(path: Path) -> Certificate:
    """Not checked against any mesh. Raises UserError, CertificateError."""
    try:
        with path.open("rb") as file:
            return Certificate.from_bytes(file.read(CERTIFICATE_BYTES_MAX))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except CertificateError as error:
        raise UserError(f"{path}: not a certificate: {error}") from error


def read_lists(path: Path) -> tuple[RevocationList, ...]:
    """Of any mesh, signatures unchecked. Raises UserError."""
    try:
        with path.open("rb") as file:
            return unpack_lists(file.read(BUNDLE_BYTES_MAX + 1))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except CertificateError as error:
        raise UserError(f"{path}: not a revocation list: {error}") from error


def authority_of(text: str) -> NodeId:
    """Raises UserError."""
    try:
        return node_id_from_text(text)
    except ValueError as error:
        raise UserError(f'--authority: "{text}" is no peer id: {error}') from error


def serial_of(text: str, mesh: MeshDefinition) -> bytes:
    """Of 32 hexadecimal digits, of a certificate's file, or of an authority's peer id. Raises UserError."""
    if _SERIAL.fullmatch(text):
        return bytes.fromhex(text)
    try:
        authority = node_id_from_text(text)
    except ValueError:
        pass
    else:
        if authority not in mesh.authorities:
            raise UserError(f"{text} is no authority of this mesh; of a node name its certificate or serial")
        return authority_serial(authority)
    path = Path(text)
    if not path.exists():
        raise UserError(f'"{text}" is neither a certificate\'s file nor a serial of 32 hexadecimal digits')
    return read_certificate(path).serial


def file_name(name: str) -> str:
    """A safe file name that still looks like the name."""
    return _UNSAFE.sub("_", name).lstrip(".-")[:64] or "node"


def write_atomically(path: Path, content: bytes) -> None:
    """A reader sees the old or the new file, also after a power cut. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@contextmanager
def _writing(where: Path) -> Iterator[None]:
    """Turns OSError under a path into UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or where}: cannot be written: {error.strerror}") from error
