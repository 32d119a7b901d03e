"""Encryption to a node, and under a shared key.

`seal` is shaped as HPKE (RFC 9180, base mode): an ephemeral X25519 key against the recipient's Ed25519 key in
Montgomery form, HKDF-SHA256 over both public keys and the context, ChaCha20-Poly1305. It hides, and does not
say who sealed: what must have an author is signed as well.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
)
from nacl.exceptions import CryptoError

from .identity import Identity, NodeId

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
# Two formats, two version bytes, so that neither opens as the other.
_SEALED_VERSION = b"\x01"
_KEYED_VERSION = b"\x02"
SEAL_OVERHEAD_BYTES = 1 + KEY_BYTES + TAG_BYTES
KEYED_OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES

_INFO_PREFIX = b"hearthmesh/1/seal\0"


class SealError(Exception):
    """What can't be sealed or opened.  reason: for a person; it tells nothing that helps to forge."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def seal(recipient: NodeId, plaintext: bytes, context: bytes, *, ephemeral: bytes | None = None) -> bytes:
    """For the recipient's eyes, in this context: version, ephemeral key, ciphertext and tag; 49 bytes longer.

    plaintext: under 2 GiB.  ephemeral: 32 secret random bytes, for who brings its own; else the system's.
    Raises SealError if the recipient's key is no point, or of small order.
    """
    ephemeral = os.urandom(KEY_BYTES) if ephemeral is None else ephemeral
    ephemeral_public = crypto_scalarmult_base(ephemeral)
    try:
        shared = crypto_scalarmult(ephemeral, crypto_sign_ed25519_pk_to_curve25519(recipient))
    except CryptoError:
        raise SealError("the recipient's key is not a valid Ed25519 key") from None
    cipher, nonce = _derive(shared, ephemeral_public, recipient, context)
    return _SEALED_VERSION + ephemeral_public + cipher.encrypt(nonce, plaintext, _SEALED_VERSION)


def unseal(identity: Identity, sealed: bytes, context: bytes) -> bytes:
    """What was sealed to this identity in this context. Raises SealError, on any other bytes."""
    if len(sealed) < SEAL_OVERHEAD_BYTES or sealed[:1] != _SEALED_VERSION:
        raise SealError("not a sealed message of version 1")
    ephemeral_public = sealed[1 : 1 + KEY_BYTES]
    try:
        shared = crypto_scalarmult(crypto_sign_ed25519_sk_to_curve25519(identity.secret_key), ephemeral_public)
    except CryptoError:
        raise SealError("the ephemeral key is of small order") from None
    cipher, nonce = _derive(shared, ephemeral_public, identity.node_id, context)
    try:
        return cipher.decrypt(nonce, sealed[1 + KEY_BYTES :], _SEALED_VERSION)
    except InvalidTag:
        raise SealError("sealed to another node, in another context, or changed") from None


def new_key() -> bytes:
    """Random, 32 bytes, for `seal_with_key`."""
    return os.urandom(KEY_BYTES)


def seal_with_key(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Version, random nonce, ciphertext and tag; 29 bytes longer.  key: 32 bytes, for at most 2^32 messages.

    aad: not hidden, not included, but the same bytes are needed to open.
    """
    nonce = os.urandom(NONCE_BYTES)
    return _KEYED_VERSION + nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, _KEYED_VERSION + aad)


def open_with_key(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Inverse of `seal_with_key`. Raises SealError."""
    if len(sealed) < KEYED_OVERHEAD_BYTES or sealed[:1] != _KEYED_VERSION:
        raise SealError("not a keyed message of version 2")
    nonce = sealed[1 : 1 + NONCE_BYTES]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[1 + NONCE_BYTES :], _KEYED_VERSION + aad)
    except InvalidTag:
        raise SealError("another key, other associated data, or changed") from None


def _derive(
    shared: bytes, ephemeral_public: bytes, recipient: NodeId, context: bytes
) -> tuple[ChaCha20Poly1305, bytes]:
    """Key and nonce of one message. The Ed25519 key is bound too: its Montgomery form drops the sign."""
    info = _INFO_PREFIX + ephemeral_public + recipient + context
    secret = HKDF(SHA256(), KEY_BYTES + NONCE_BYTES, salt=None, info=info).derive(shared)
    return ChaCha20Poly1305(secret[:KEY_BYTES]), secret[KEY_BYTES:]
