"""Envelopes: what goes in comes out, at one place only, and of its length only a bucket shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.envelope import (
    CHUNK_BYTES,
    TAG_BYTES,
    Envelope,
    derive_key,
    padded_bytes,
    sealed_bytes,
)
from hearthmesh.crypto.sealing import SealError

KEY = bytes(range(32))
_sizes = st.one_of(
    st.integers(0, 300), st.integers(CHUNK_BYTES - 40, CHUNK_BYTES + 40), st.integers(0, 3 * CHUNK_BYTES)
)


def content_of(size: int, seed: int = 1) -> bytes:
    return (seed.to_bytes(4) * (size // 4 + 1))[:size]


@given(_sizes, st.binary(max_size=40))
def test_what_is_sealed_opens_again_whole_and_in_parts(size: int, binding: bytes) -> None:
    content, envelope = content_of(size), Envelope(KEY, "test")
    sealed = envelope.seal(content, binding)
    assert envelope.open(sealed, binding) == content
    cut = [content[at : at + 1_000] for at in range(0, size, 1_000)]
    assert b"".join(envelope.seal_parts(size, cut, binding)) == sealed
    assert b"".join(envelope.open_parts([sealed[:100], sealed[100:]], binding)) == content
    assert len(sealed) == sealed_bytes(size)


@given(_sizes)
def test_a_length_shows_as_its_bucket_only(size: int) -> None:
    bucket = padded_bytes(size + 8)
    assert size + 8 <= bucket <= max(64, (size + 8) * 9 // 8)
    assert padded_bytes(bucket) == bucket
    assert len(Envelope(KEY, "test").seal(content_of(size), b"")) == sealed_bytes(bucket - 8)


@given(_sizes, st.data())
def test_nothing_can_be_changed_cut_reordered_or_moved(size: int, data: st.DataObject) -> None:
    envelope = Envelope(KEY, "test")
    sealed = envelope.seal(content_of(size), b"here")
    forged = bytearray(sealed)
    forged[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    step = CHUNK_BYTES + TAG_BYTES
    wrong = [bytes(forged), sealed[:-1], sealed + b"\0", b"", sealed[:15]]
    if len(sealed) > step:
        wrong += [sealed[:step], sealed[step:], sealed[step:] + sealed[:step]]
    for attempt in wrong:
        with pytest.raises(SealError):
            envelope.open(attempt, b"here")
    for other, binding in (
        (envelope, b"there"),
        (Envelope(KEY, "other"), b"here"),
        (Envelope(bytes(32), "test"), b"here"),
    ):
        with pytest.raises(SealError):
            other.open(sealed, binding)


def test_the_same_content_in_the_same_place_is_the_same_envelope_and_elsewhere_another() -> None:
    envelope = Envelope(KEY, "test")
    assert envelope.seal(b"x", b"1") == Envelope(KEY, "test").seal(b"x", b"1") != envelope.seal(b"x", b"2")


def test_content_of_another_size_than_was_said_is_not_sealed() -> None:
    for parts in ((b"abc",), (b"abcde",), ()):
        with pytest.raises(SealError):
            list(Envelope(KEY, "test").seal_parts(4, parts, b""))


def test_keys_for_purposes_tell_nothing_of_each_other() -> None:
    made = {derive_key(KEY, "a"), derive_key(KEY, "b"), derive_key(KEY, "a", KEY), derive_key(bytes(32), "a")}
    assert len(made) == 4 and KEY not in made
