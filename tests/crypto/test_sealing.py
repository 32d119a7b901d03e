"""What is sealed opens for its recipient, in its context, unchanged; and for nothing else."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.sealing import (
    KEYED_OVERHEAD_BYTES,
    SEAL_OVERHEAD_BYTES,
    SealError,
    new_key,
    open_with_key,
    seal,
    seal_with_key,
    unseal,
)

ALICE = Identity.from_seed(b"\1" * 32)
BOB = Identity.from_seed(b"\2" * 32)
VECTOR = bytes.fromhex(
    "01b4beeb946feaa6da8dcf47446978a1e81eb2845e2bacc6467a6e1f79bd609322da4c253ae605444690ac35"
    "2a8e282236789e0046e53a4625b66e49a3"
)
KEYED_VECTOR = bytes.fromhex("02cb921ea01aa429adc46c5e65b2ed5b9726866d74f1336d19c4ac88172164f1c05102f651d1ddd763")


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_the_recipient_opens_it(plaintext: bytes, context: bytes) -> None:
    sealed = seal(ALICE.node_id, plaintext, context)
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD_BYTES
    assert unseal(ALICE, sealed, context) == plaintext


@given(st.binary(max_size=40), st.binary(max_size=40), st.data())
def test_nothing_else_opens_it(plaintext: bytes, context: bytes, data: st.DataObject) -> None:
    sealed = seal(ALICE.node_id, plaintext, context)
    with pytest.raises(SealError):
        unseal(BOB, sealed, context)
    with pytest.raises(SealError):
        unseal(ALICE, sealed, data.draw(st.binary(max_size=40).filter(lambda other: other != context)))
    with pytest.raises(SealError):
        unseal(ALICE, sealed[: data.draw(st.integers(0, len(sealed) - 1))], context)
    with pytest.raises(SealError):
        unseal(ALICE, flipped(sealed, data.draw(st.integers(0, 8 * len(sealed) - 1))), context)


def test_each_bit_of_a_sealed_message_counts() -> None:
    sealed = seal(ALICE.node_id, b"share", b"context")
    # Bit 255 of an X25519 key is ignored by the exchange (RFC 7748), and has to count all the same.
    for bit in range(8 * len(sealed)):
        with pytest.raises(SealError):
            unseal(ALICE, flipped(sealed, bit), b"context")


@given(st.binary(max_size=200))
def test_garbage_does_not_open(sealed: bytes) -> None:
    for attempt in (sealed, b"\x01" + sealed, b"\x02" + sealed):
        with pytest.raises(SealError):
            unseal(ALICE, attempt, b"")
        with pytest.raises(SealError):
            open_with_key(bytes(32), attempt, b"")


@pytest.mark.parametrize("point", [b"\0" * 32, b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_small_order_keys_are_neither_sealed_to_nor_opened(point: bytes) -> None:
    with pytest.raises(SealError):
        seal(point, b"share", b"context")
    with pytest.raises(SealError):
        unseal(ALICE, b"\x01" + point + bytes(40), b"context")


@given(st.binary(max_size=64))
def test_a_recipient_that_is_no_key_is_refused(recipient: bytes) -> None:
    try:
        seal(recipient, b"share", b"context")
    except SealError:
        pass


def test_two_seals_of_one_plaintext_share_nothing() -> None:
    first, second = (seal(ALICE.node_id, b"share", b"context") for _ in range(2))
    assert first[1:33] != second[1:33] and first[33:] != second[33:]


def test_a_sealed_message_of_the_first_version_still_opens() -> None:
    assert unseal(ALICE, VECTOR, b"test context") == b"known answer"
    assert open_with_key(b"k" * 32, KEYED_VECTOR, b"test aad") == b"known answer"


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_the_format_is_the_documented_one(plaintext: bytes, context: bytes) -> None:
    """Opened by a second implementation that shares nothing with ours: HKDF by hand, OpenSSL's X25519."""
    sealed = seal(ALICE.node_id, plaintext, context)
    ephemeral, ciphertext = sealed[1:33], sealed[33:]
    private = X25519PrivateKey.from_private_bytes(hashlib.sha512(ALICE.seed).digest()[:32])
    shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    extracted = hmac.digest(bytes(32), shared, "sha256")
    info = b"hearthmesh/1/seal\0" + ephemeral + ALICE.node_id + context
    first = hmac.digest(extracted, info + b"\1", "sha256")
    second = hmac.digest(extracted, first + info + b"\2", "sha256")
    assert ChaCha20Poly1305(first).decrypt(second[:12], ciphertext, b"\x01") == plaintext


@given(st.binary(max_size=300), st.binary(max_size=40), st.data())
def test_a_key_opens_what_it_sealed_and_nothing_else(plaintext: bytes, aad: bytes, data: st.DataObject) -> None:
    key = new_key()
    sealed = seal_with_key(key, plaintext, aad)
    assert len(sealed) == len(plaintext) + KEYED_OVERHEAD_BYTES
    assert open_with_key(key, sealed, aad) == plaintext
    with pytest.raises(SealError):
        open_with_key(new_key(), sealed, aad)
    with pytest.raises(SealError):
        open_with_key(key, sealed, aad + b"x")
    with pytest.raises(SealError):
        open_with_key(key, flipped(sealed, data.draw(st.integers(0, 8 * len(sealed) - 1))), aad)


def flipped(sealed: bytes, bit: int) -> bytes:
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
