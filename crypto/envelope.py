"""Bytes under a key that several parties share: padded, in chunks, each bound to what it is and where it stands.

AES-256 in SIV mode (RFC 5297, from `cryptography`): there is no nonce, so none can be used twice, and the same bytes in
the same place are the same ciphertext. That is wanted: a job that is submitted twice has the same blobs. Whoever
encrypts other bytes in one place under one key shows that they differ, chunk by chunk, and nothing more.

Sizes are padded (Padmé: Nikitin and others, Reducing Metadata Leakage from Encrypted Files, 2019): what leaks of a
length is the order of log log, for at most 12 % more bytes, and all that is short looks alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .sealing import SealError

KEY_BYTES = 32
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
# The shortest content, with its length; whatever is shorter looks like this.
BUCKET_BYTES_MIN = 64
_LENGTH = Struct("<Q")
_CHUNK = Struct("<Q?")
_PREFIX = "hearthmesh/1/envelope/"


def padded_bytes(size_bytes: int) -> int:
    """The bucket that so many bytes fall into: at least 64, at most an eighth more than they are."""
    if size_bytes <= BUCKET_BYTES_MIN:
        return BUCKET_BYTES_MIN
    exponent = size_bytes.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size_bytes + mask) & ~mask


def sealed_bytes(size_bytes: int) -> int:
    """How long the envelope of so many bytes is."""
    content = padded_bytes(_LENGTH.size + size_bytes)
    return content + TAG_BYTES * -(-content // CHUNK_BYTES)


def derive_key(secret: bytes, purpose: str, *parts: bytes, size_bytes: int = KEY_BYTES) -> bytes:
    """A key that tells nothing of the secret it comes from, nor of others for another purpose. parts: 32 bytes each."""
    assert all(len(part) == KEY_BYTES for part in parts)
    info = _PREFIX.encode() + purpose.encode() + b"\0" + b"".join(parts)
    return HKDF(SHA256(), size_bytes, salt=None, info=info).derive(secret)


class Envelope:
    """Seals and opens under one key, for one purpose. Making one costs as much as sealing a kilobyte."""

    def __init__(self, key: bytes | bytearray, purpose: str) -> None:
        """key: 32 bytes."""
        assert len(key) == KEY_BYTES
        self._cipher = AESSIV(derive_key(bytes(key), purpose, size_bytes=2 * KEY_BYTES))

    def seal(self, content: bytes, binding: bytes) -> bytes:
        """binding: what it is and where it stands; the same is needed to open."""
        if _LENGTH.size + len(content) <= CHUNK_BYTES:
            padding = bytes(padded_bytes(_LENGTH.size + len(content)) - _LENGTH.size - len(content))
            return self._cipher.encrypt(_LENGTH.pack(len(content)) + content + padding, [binding, _CHUNK.pack(0, True)])
        return b"".join(self.seal_parts(len(content), (content,), binding))

    def open(self, sealed: bytes, binding: bytes) -> bytes:
        """Raises SealError, on any bytes but what `seal` made of this key, purpose and binding."""
        return b"".join(self.open_parts((sealed,), binding))

    def seal_parts(self, size_bytes: int, parts: Iterable[bytes], binding: bytes) -> Iterator[bytes]:
        """As `seal`, of content that comes in parts. Raises SealError if they are not so many bytes together."""
        left = padded_bytes(_LENGTH.size + size_bytes)
        number = 0
        for chunk in _chunks(_padded(size_bytes, parts)):
            left -= len(chunk)
            yield self._cipher.encrypt(chunk, [binding, _CHUNK.pack(number, left == 0)])
            number += 1

    def open_parts(self, parts: Iterable[bytes], binding: bytes) -> Iterator[bytes]:
        """As `open`, in parts. What it yields is authentic; that nothing lacks is known only when it ends."""
        found, size_bytes, number = 0, -1, 0
        sealed = _chunks(parts, CHUNK_BYTES + TAG_BYTES)
        chunk = next(sealed, None)
        while chunk is not None:
            following = next(sealed, None)
            content = self._open_chunk(chunk, [binding, _CHUNK.pack(number, following is None)])
            if number == 0:
                (size_bytes,) = _LENGTH.unpack_from(content)
                content = content[_LENGTH.size :]
            kept = content[: max(0, size_bytes - found)]
            found += len(kept)
            if kept:
                yield kept
            chunk, number = following, number + 1
        if found != size_bytes:
            raise SealError("not an envelope: it is cut short")

    def _open_chunk(self, chunk: bytes, binding: list[bytes]) -> bytes:
        try:
            content = self._cipher.decrypt(chunk, binding)
        except (InvalidTag, ValueError):
            raise SealError("under another key, of another place, or changed") from None
        if len(content) < _LENGTH.size:
            raise SealError("not an envelope: too short")
        return content


def _padded(size_bytes: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Length, content, zeros. Raises SealError if the parts are longer or shorter than they should be."""
    yield _LENGTH.pack(size_bytes)
    left = size_bytes
    for part in parts:
        left -= len(part)
        if left < 0:
            break
        yield part
    if left:
        raise SealError("it changed its size while it was read")
    padding = padded_bytes(_LENGTH.size + size_bytes) - _LENGTH.size - size_bytes
    while padding:
        yield bytes(min(padding, CHUNK_BYTES))
        padding -= min(padding, CHUNK_BYTES)


def _chunks(parts: Iterable[bytes], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The same bytes, cut anew."""
    buffer = bytearray()
    for part in parts:
        view = memoryview(part)
        while view:
            taken = view[: chunk_bytes - len(buffer)]
            buffer += taken
            view = view[len(taken) :]
            if len(buffer) == chunk_bytes:
                yield bytes(buffer)
                buffer.clear()
    if buffer:
        yield bytes(buffer)
