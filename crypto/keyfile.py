"""The file of an identity: a magic line, a MessagePack record, and a sha256 of both against bit rot.

Without a passphrase the record's box is the seed, and the file must not be readable by others. With one, the
box is the seed under ChaCha20-Poly1305 with a key from scrypt (N 2^15, r 8, p 3: OWASP, Password Storage
Cheat Sheet).
"""

from __future__ import annotations

import os
import stat
import unicodedata
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta, Struct

from .bounded import DecodeError, decode_canonical, encode

_MAGIC = b"hearthmesh identity 1\n"
_CHECKSUM_BYTES = 32
_FILE_BYTES_MAX = 512
_SCRYPT_LOG2_N, _SCRYPT_R, _SCRYPT_P = 15, 8, 3
_SALT_BYTES = 16
# The key encrypts one box only: a new salt, so a new key, at every save.
_NONCE = bytes(12)
_TAG_BYTES = 16
_SEED_BYTES = 32


class IdentityReason(StrEnum):
    """Why an identity can't be saved or loaded, in words for the user."""

    MISSING = "there is no such file"
    EXISTS = "the file exists already, and an identity is never overwritten"
    UNREADABLE = "the file cannot be read"
    UNWRITABLE = "the file cannot be written"
    NOT_A_FILE = "this is not a regular file"
    OPEN_TO_OTHERS = "others may read or change the unencrypted key: set its mode to 0600"
    DAMAGED = "the file is damaged, or is no identity"
    PASSPHRASE_NEEDED = "the key is encrypted, and no passphrase was given"
    PASSPHRASE_WRONG = "the passphrase is wrong"
    PASSPHRASE_EMPTY = "an empty passphrase protects nothing"


class IdentityError(Exception):
    """An identity file that can't be used.  detail: the system's words, if it was the system."""

    def __init__(self, path: str | os.PathLike[str], reason: IdentityReason, detail: str = "") -> None:
        self.path = Path(path)
        self.reason = reason
        self.detail = detail
        super().__init__(f"{self.path}: {reason}" + (f" ({detail})" if detail else ""))


class _KeyRecord(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """scrypt_*: all 0 when the box is the bare seed.  box: seed, or seed sealed with its 16-byte tag."""

    node_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    scrypt_log2_n: Annotated[int, Meta(ge=0, le=20)]
    scrypt_r: Annotated[int, Meta(ge=0, le=16)]
    scrypt_p: Annotated[int, Meta(ge=0, le=16)]
    salt: Annotated[bytes, Meta(max_length=_SALT_BYTES)]
    box: Annotated[bytes, Meta(min_length=_SEED_BYTES, max_length=_SEED_BYTES + _TAG_BYTES)]

    @property
    def is_encrypted(self) -> bool:
        return self.scrypt_log2_n > 0


def write(path: Path, seed: bytes, node_id: bytes, passphrase: str | None) -> None:
    """Create the file with mode 0600, durably and atomically. Raises IdentityError; never overwrites."""
    if passphrase is None:
        record = _KeyRecord(node_id, 0, 0, 0, b"", seed)
    elif passphrase:
        record = _encrypted(seed, node_id, passphrase)
    else:
        raise IdentityError(path, IdentityReason.PASSPHRASE_EMPTY)
    content = _MAGIC + encode(record)
    try:
        _create(path, content + sha256(content).digest())
    except FileExistsError:
        raise IdentityError(path, IdentityReason.EXISTS) from None
    except OSError as error:
        raise IdentityError(path, IdentityReason.UNWRITABLE, error.strerror or "") from error


def read(path: Path, passphrase: str | None) -> tuple[bytes, bytes]:
    """Seed and stored public key, not checked against each other. Raises IdentityError."""
    try:
        content, mode = _read_file(path)
    except FileNotFoundError:
        raise IdentityError(path, IdentityReason.MISSING) from None
    except OSError as error:
        raise IdentityError(path, IdentityReason.UNREADABLE, error.strerror or "") from error
    if not stat.S_ISREG(mode):
        raise IdentityError(path, IdentityReason.NOT_A_FILE)
    record = _parse(path, content)
    if not record.is_encrypted:
        if mode & 0o077:
            raise IdentityError(path, IdentityReason.OPEN_TO_OTHERS, f"it is {stat.S_IMODE(mode):04o}")
        return record.box, record.node_id
    if not passphrase:
        raise IdentityError(path, IdentityReason.PASSPHRASE_NEEDED)
    try:
        return _cipher(record, passphrase).decrypt(_NONCE, record.box, record.node_id), record.node_id
    except InvalidTag:
        raise IdentityError(path, IdentityReason.PASSPHRASE_WRONG) from None


def _parse(path: Path, content: bytes) -> _KeyRecord:
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if not body.startswith(_MAGIC) or sha256(body).digest() != checksum:
        raise IdentityError(path, IdentityReason.DAMAGED)
    try:
        record = decode_canonical(body[len(_MAGIC) :], _KeyRecord, max_bytes=_FILE_BYTES_MAX)
    except DecodeError as error:
        raise IdentityError(path, IdentityReason.DAMAGED, error.reason) from None
    box_bytes = _SEED_BYTES + (_TAG_BYTES if record.is_encrypted else 0)
    parameters = (record.scrypt_r, record.scrypt_p, len(record.salt))
    if len(record.box) != box_bytes or any(bool(p) != record.is_encrypted for p in parameters):
        raise IdentityError(path, IdentityReason.DAMAGED)
    return record


def _encrypted(seed: bytes, node_id: bytes, passphrase: str) -> _KeyRecord:
    salt = os.urandom(_SALT_BYTES)
    bare = _KeyRecord(node_id, _SCRYPT_LOG2_N, _SCRYPT_R, _SCRYPT_P, salt, seed)
    box = _cipher(bare, passphrase).encrypt(_NONCE, seed, node_id)
    return _KeyRecord(node_id, _SCRYPT_LOG2_N, _SCRYPT_R, _SCRYPT_P, salt, box)


def _cipher(record: _KeyRecord, passphrase: str) -> ChaCha20Poly1305:
    kdf = Scrypt(record.salt, 32, 1 << record.scrypt_log2_n, record.scrypt_r, record.scrypt_p)
    # One passphrase may be typed in several forms of Unicode; bytes of a foreign locale come as surrogates.
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return ChaCha20Poly1305(kdf.derive(typed))


def _read_file(path: Path) -> tuple[bytes, int]:
    """Content (a bounded prefix, empty if not a regular file) and mode of the one file that was opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        content = os.read(descriptor, _FILE_BYTES_MAX + 1) if stat.S_ISREG(mode) else b""
    finally:
        os.close(descriptor)
    return content, mode


def _create(path: Path, content: bytes) -> None:
    """Write beside the path, then link to it: the name appears with all its bytes on disk, or never."""
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    finally:
        os.unlink(beside)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
