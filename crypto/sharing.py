"""A key in shares, of which two tell it and one tells nothing, and how two holders make a third share unseen.

Shamir's scheme with threshold two, over GF(2^128): a line through the secret. A key of 32 bytes is two secrets, each on
a line of its own. Who holds what is settled by x alone, a digest of job and node, so nobody hands out numbers, and two
halves of a mesh that cannot talk never give one number to two nodes.

PyCryptodome's `Crypto.Protocol.SecretSharing` has the same field, and the tests check ours against it; but it deals at
1, 2, 3 … only, and can evaluate at no other place than 0, which is what a new holder's share takes. Multiplication here
takes a time that depends on the numbers; it is done a few times a job, on machines that hold the share anyway.

Source: Shamir, How to Share a Secret (1979); enrolment after Nojoumian, Stinson and Grainger, Unconditionally Secure
Social Secret Sharing Scheme (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

SECRET_BYTES = 32
HOLDERS_NEEDED = 2
_HALF_BYTES = SECRET_BYTES // 2
# x^128 + x^7 + x^2 + x + 1
_POLYNOMIAL = (1 << 128) | 0x87
_X_PREFIX = b"hearthmesh/1/share\0"


class Share(NamedTuple):
    """One point: x is whose it is, y its two halves, 32 bytes."""

    x: int
    y: bytes


def share_place(job_id: bytes, node: bytes) -> int:
    """Where on the line a node's share of a job lies: a number of 128 bits, never 0."""
    return int.from_bytes(sha256(_X_PREFIX + job_id + node).digest()[:16], "big") | 1


def deal(secret: bytes, slope: bytes, places: Sequence[int]) -> tuple[Share, ...]:
    """Shares of a secret at distinct places that are not 0.

    slope: 32 random bytes that nobody else knows; the same ones give the same shares again.
    """
    assert len(secret) == len(slope) == SECRET_BYTES
    assert 0 not in places and len(dict.fromkeys(places)) == len(places)
    return tuple(Share(x, _xor(secret, _scale(slope, x))) for x in places)


def recover(shares: Sequence[Share]) -> bytes:
    """The secret of two shares. Raises ValueError unless there are two, of different places.

    Whether they belong together nobody can tell from them: compare the key with what is known of it.
    """
    return _at(shares, 0)


def part_for(share: Share, other: int, place: int) -> bytes:
    """What a holder puts in for a new share at `place`, together with the holder at `other`.

    The two parts add up (`add`) to the share. One part tells its maker's share to whoever sees it: so each holder gives
    the other a random piece of its own part, and the newcomer the sum of the rest and of what it was given.
    """
    if len({share.x, other, place, 0}) != 4:
        raise ValueError("the places of a newcomer and of its two helpers are different, and not 0")
    weight = _multiply(place ^ other, _inverse(share.x ^ other))
    return _scale(share.y, weight)


def add(*parts: bytes) -> bytes:
    """The sum of parts, each of 32 bytes; a difference is the same."""
    total = bytes(SECRET_BYTES)
    for part in parts:
        total = _xor(total, part)
    return total


def _at(shares: Sequence[Share], place: int) -> bytes:
    if len(shares) != HOLDERS_NEEDED or shares[0].x == shares[1].x:
        raise ValueError("two shares of different holders are needed")
    one, other = shares
    run = _inverse(one.x ^ other.x)
    return _xor(
        _scale(one.y, _multiply(place ^ other.x, run)),
        _scale(other.y, _multiply(place ^ one.x, run)),
    )


def _xor(left: bytes, right: bytes) -> bytes:
    assert len(left) == len(right) == SECRET_BYTES
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(SECRET_BYTES)


def _scale(value: bytes, factor: int) -> bytes:
    """Both halves times the factor."""
    halves = (value[:_HALF_BYTES], value[_HALF_BYTES:])
    return b"".join(_multiply(int.from_bytes(half), factor).to_bytes(_HALF_BYTES) for half in halves)


def _multiply(left: int, right: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        right >>= 1
        left <<= 1
        if left >> 128:
            left ^= _POLYNOMIAL
    return product


def _inverse(value: int) -> int:
    """By Euclid's algorithm for polynomials. value: not 0."""
    assert value, "0 has no inverse"
    a, b, x, y = value, _POLYNOMIAL, 1, 0
    while a != 1:
        shift = a.bit_length() - b.bit_length()
        if shift < 0:
            a, b, x, y, shift = b, a, y, x, -shift
        a ^= b << shift
        x ^= y << shift
    return x
