"""Merkle trees over batches, shaped as in RFC 6962 section 2.1.

A leaf's hash is sha256(0x00 || data), a node's sha256(0x01 || left || right). A node without a sibling moves
up as it is: never duplicated, so no two lists of leaves of one count share a root.

The root does not say how many leaves there are, and a proof for one count may hold for another. So whoever
signs a root signs the count with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
# A tree of 2**40 leaves: more tasks than a job may have.
PROOF_LENGTH_MAX = 40

_EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """32 bytes; what a tree is built from and a proof is checked against."""
    return sha256(b"\0" + data).digest()


class MerkleTree:
    """All levels of one tree, for several proofs: n hashes at first, then a proof costs none."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        level = list(leaf_hashes)
        self._levels = [level]
        while len(level) > 1:
            level = _level_above(level)
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        top = self._levels[-1]
        return top[0] if top else _EMPTY_ROOT

    def proof(self, index: int) -> list[bytes]:
        """The siblings from the leaf up. Raises IndexError outside [0, count)."""
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"leaf {index} of {len(self._levels[0])}")
        siblings = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                siblings.append(level[sibling])
            index >>= 1
        return siblings


def merkle_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """32 bytes; of no leaves, sha256 of nothing."""
    if not leaf_hashes:
        return _EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def merkle_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from the leaf up. Raises IndexError. For several proofs of one tree, use `MerkleTree`."""
    return MerkleTree(leaf_hashes).proof(index)


def verify_inclusion(root: bytes, leaf_hash: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether the leaf stands at the index of the tree of `count` leaves with this root.

    False for whatever is malformed; never raises. Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < count or count > 1 << PROOF_LENGTH_MAX or len(proof) > PROOF_LENGTH_MAX:
        return False
    if len(root) != HASH_BYTES or len(leaf_hash) != HASH_BYTES:
        return False
    node, last = leaf_hash, count - 1
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            return False
        if index & 1 or index == last:
            node = sha256(b"\1" + sibling + node).digest()
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            node = sha256(b"\1" + node + sibling).digest()
        index >>= 1
        last >>= 1
    return last == 0 and node == root


def _level_above(level: list[bytes]) -> list[bytes]:
    pairs = iter(level)
    above = [sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
    if len(level) & 1:
        above.append(level[-1])
    return above
