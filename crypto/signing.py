"""Signatures and digests that can't be taken for one of another kind of record.

What is signed, or hashed, is `hearthmesh/1/<context> NUL <payload>`. A context holds no NUL, so no two pairs
of context and payload give the same bytes.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256

from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

PUBLIC_KEY_BYTES = 32
SECRET_KEY_BYTES = 64
SIGNATURE_BYTES = 64


class Context(StrEnum):
    """What a signature vouches for: one per kind of record."""

    SPEC = "spec"
    GRANT = "grant"
    RELEASE = "release"
    BATCH = "batch"
    ACCEPTANCE = "acceptance"
    CANCELLATION = "cancellation"
    REPLICA_SET = "replica_set"
    FORGET = "forget"
    DIGEST = "digest"
    MEMBER = "member"
    MESH = "mesh"
    CERTIFICATE = "certificate"
    REVOCATION = "revocation"
    ANNOUNCEMENT = "announcement"
    RECHECK = "recheck"
    ACCUSATION = "accusation"


_PREFIXES = {context: f"hearthmesh/1/{context}\0".encode() for context in Context}


def sign(secret_key: bytes, context: Context, payload: bytes) -> bytes:
    """64 bytes.  secret_key: libsodium's form, seed then public key, 64 bytes; `Identity` keeps it."""
    return crypto_sign(_PREFIXES[context] + payload, secret_key)[:SIGNATURE_BYTES]


def verify(node_id: bytes, context: Context, payload: bytes, signature: bytes) -> bool:
    """Whether the node signed the payload in this context. Never raises, whatever the bytes are.

    False as well for keys that are no point or of small order, and for signatures that are not in reduced
    form.
    """
    if len(node_id) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + _PREFIXES[context] + payload, node_id)
    except BadSignatureError:
        return False
    return True


def digest(context: Context, payload: bytes) -> bytes:
    """The sha256, 32 bytes, of the payload in this context."""
    return sha256(_PREFIXES[context] + payload).digest()
