"""A signature vouches for one payload, in one context, by one key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.signing import Context, digest, verify

ALICE = Identity.from_seed(b"\1" * 32)
BOB = Identity.from_seed(b"\2" * 32)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493

contexts = st.sampled_from(list(Context))


@given(contexts, st.binary(max_size=300))
def test_a_signature_verifies_in_its_context(context: Context, payload: bytes) -> None:
    assert verify(ALICE.node_id, context, payload, ALICE.sign(context, payload))


@given(contexts, contexts, st.binary(max_size=80), st.binary(max_size=80))
def test_a_signature_holds_for_nothing_else(
    context: Context, other_context: Context, payload: bytes, other_payload: bytes
) -> None:
    signature = ALICE.sign(context, payload)
    same = (context, payload) == (other_context, other_payload)
    assert verify(ALICE.node_id, other_context, other_payload, signature) == same
    assert (digest(context, payload) == digest(other_context, other_payload)) == same
    assert not verify(BOB.node_id, context, payload, signature)


@given(st.integers(0, 511), st.binary(max_size=80))
def test_a_flipped_bit_breaks_the_signature(bit: int, payload: bytes) -> None:
    signature = bytearray(ALICE.sign(Context.BATCH, payload))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(ALICE.node_id, Context.BATCH, payload, bytes(signature))


@given(st.binary(max_size=70), contexts, st.binary(max_size=70), st.binary(max_size=70))
def test_garbage_is_false_and_never_raises(key: bytes, context: Context, payload: bytes, signature: bytes) -> None:
    assert not verify(key, context, payload, signature)
    assert not verify(key.ljust(32, b"\0")[:32], context, payload, signature.ljust(64, b"\0")[:64])


@pytest.mark.parametrize("context", Context)
def test_what_is_signed_is_the_documented_prefix_and_the_payload(context: Context) -> None:
    message = b"hearthmesh/1/" + context.encode() + b"\0payload"
    signature = Ed25519PrivateKey.from_private_bytes(ALICE.seed).sign(message)
    assert ALICE.sign(context, b"payload") == signature
    assert "\0" not in context


def test_each_context_is_its_own() -> None:
    assert len({digest(context, b"payload") for context in Context}) == len(Context)


@pytest.mark.parametrize(
    "point",
    [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ],
)
def test_a_key_of_small_order_signs_nothing(point: str) -> None:
    # R the identity, S zero: a lax verifier (OpenSSL's) accepts this for some messages, or for all.
    forged = b"\1" + bytes(63)
    assert not any(verify(bytes.fromhex(point), Context.GRANT, bytes([n]), forged) for n in range(32))


def test_the_second_form_of_a_signature_is_refused() -> None:
    signature = ALICE.sign(Context.GRANT, b"payload")
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    malleated = signature[:32] + scalar.to_bytes(32, "little")
    assert not verify(ALICE.node_id, Context.GRANT, b"payload", malleated)
