"""A node's identity: one Ed25519 key, which is its libp2p peer id as well."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import base58
from nacl.bindings import crypto_sign_seed_keypair

from . import keyfile
from .keyfile import IdentityError, IdentityReason
from .signing import PUBLIC_KEY_BYTES, Context, sign

__all__ = ["Identity", "IdentityError", "IdentityReason", "NodeId", "node_id_from_text", "peer_id_text"]

NodeId = bytes
"""The raw Ed25519 public key, 32 bytes."""

SEED_BYTES = 32
# Identity multihash (0x00) of 36 bytes: a libp2p PublicKey protobuf of type Ed25519 (1) with 32 bytes of key.
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_PEER_ID_TEXT_LENGTH = 52


@lru_cache(maxsize=4096)
def peer_id_text(node_id: NodeId) -> str:
    """The libp2p peer id, `12D3Koo…`, 52 characters. Raises ValueError if the key isn't 32 bytes.

    Source: libp2p specs, peer-ids/peer-ids.md.
    """
    if len(node_id) != PUBLIC_KEY_BYTES:
        raise ValueError(f"a node id has {PUBLIC_KEY_BYTES} bytes, not {len(node_id)}")
    return base58.b58encode(_PEER_ID_PREFIX + node_id).decode("ascii")


def node_id_from_text(text: str) -> NodeId:
    """Inverse of `peer_id_text`. Raises ValueError for all but the one spelling of an Ed25519 peer id."""
    if len(text) != _PEER_ID_TEXT_LENGTH:
        raise ValueError(f"an Ed25519 peer id has {_PEER_ID_TEXT_LENGTH} characters, not {len(text)}")
    try:
        raw = base58.b58decode(text)
    except ValueError:
        raise ValueError("a peer id is base58 text") from None
    node_id = raw[len(_PEER_ID_PREFIX) :]
    if not raw.startswith(_PEER_ID_PREFIX) or len(node_id) != PUBLIC_KEY_BYTES or peer_id_text(node_id) != text:
        raise ValueError("not the peer id of an Ed25519 key")
    return node_id


class Identity:
    """A private key. Neither `repr` nor an error shows it."""

    __slots__ = ("_secret_key", "node_id", "peer_id")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.node_id, self._secret_key = crypto_sign_seed_keypair(seed)
        self.peer_id = peer_id_text(self.node_id)

    @classmethod
    def generate(cls) -> Identity:
        return cls(os.urandom(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity that these 32 bytes give. Raises ValueError on another length."""
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The secret, 32 bytes; libp2p's `create_new_key_pair` takes it."""
        return self._secret_key[:SEED_BYTES]

    @property
    def secret_key(self) -> bytes:
        """The secret in libsodium's form: seed, then public key, 64 bytes."""
        return self._secret_key

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def sign(self, context: Context, payload: bytes) -> bytes:
        """The signature, 64 bytes, for `signing.verify`."""
        return sign(self._secret_key, context, payload)

    def save(self, path: str | os.PathLike[str], passphrase: str | None = None) -> None:
        """Write a new file, mode 0600, encrypted if there is a passphrase; whole and on disk, or not at all.

        Never replaces a file. Raises IdentityError. With a passphrase it takes about 0.3 s and 32 MiB.
        """
        keyfile.write(Path(path), self.seed, self.node_id, passphrase)

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: str | None = None) -> Identity:
        """Read what `save` wrote; a passphrase is unused if it is not encrypted. Raises IdentityError."""
        seed, node_id = keyfile.read(Path(path), passphrase)
        identity = cls(seed)
        if identity.node_id != node_id:
            raise IdentityError(path, IdentityReason.DAMAGED)
        return identity
