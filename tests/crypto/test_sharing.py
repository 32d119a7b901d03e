"""Shares: any two tell the key, one tells nothing, and two make a third that nobody but its holder sees."""

from __future__ import annotations

import pytest
from Crypto.Protocol.SecretSharing import Shamir
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.sharing import Share, _inverse, _multiply, add, deal, part_for, recover, share_place

_secrets = st.binary(min_size=32, max_size=32)
_places = st.integers(1, (1 << 128) - 1)
_three = st.lists(_places, min_size=3, max_size=3, unique=True)


@given(_secrets, _secrets, _three)
def test_any_two_shares_tell_the_secret_in_any_order(secret: bytes, slope: bytes, places: list[int]) -> None:
    shares = deal(secret, slope, places)
    for one in shares:
        for other in shares:
            if one != other:
                assert recover((one, other)) == secret


@given(_secrets, _secrets, _three, _secrets)
def test_one_share_fits_every_secret(secret: bytes, slope: bytes, places: list[int], other: bytes) -> None:
    """Whatever key is guessed, there is a second share that makes it the key: one share rules nothing out."""
    share = deal(secret, slope, places[:1])[0]
    # The line through the guess and the share.
    assumed = add(other, share.y)
    weight = _inverse(share.x)
    assumed_slope = b"".join(
        _multiply(int.from_bytes(half), weight).to_bytes(16) for half in (assumed[:16], assumed[16:])
    )
    fitting = deal(other, assumed_slope, places)
    assert fitting[0] == share
    assert recover(fitting[:2]) == other


@given(_secrets, _secrets, _three, _secrets, _secrets)
def test_two_holders_make_a_third_share_that_works_with_each_old_one(
    secret: bytes, slope: bytes, places: list[int], mask: bytes, other_mask: bytes
) -> None:
    one, other = deal(secret, slope, places[:2])
    newcomer = places[2]
    mine, theirs = part_for(one, other.x, newcomer), part_for(other, one.x, newcomer)
    # What the newcomer is sent: each helper's part without the piece it gave away, and with the one it was given.
    sent = add(mine, mask, other_mask), add(theirs, other_mask, mask)
    made = Share(newcomer, add(*sent))
    assert made == deal(secret, slope, [newcomer])[0]
    assert recover((made, one)) == recover((other, made)) == secret


@given(_secrets, _secrets, _three, _secrets)
def test_what_a_helper_is_given_is_any_bytes_and_what_the_newcomer_gets_hides_each_part(
    secret: bytes, slope: bytes, places: list[int], guess: bytes
) -> None:
    """For each share that the newcomer may guess a helper to have, there are masks that explain what it was sent."""
    one, other = deal(secret, slope, places[:2])
    mine, theirs = part_for(one, other.x, places[2]), part_for(other, one.x, places[2])
    sent = add(mine, bytes(32)), add(theirs, bytes(32))
    guessed = part_for(Share(one.x, guess), other.x, places[2])
    # The other part follows from the sum, which the newcomer knows; a mask of the difference explains both.
    explained = add(sent[0], guessed)
    assert add(guessed, explained) == sent[0]
    assert add(add(*sent), guessed, explained) == sent[1]


@given(_secrets, _secrets, _three)
def test_the_field_is_that_of_an_independent_implementation(secret: bytes, slope: bytes, places: list[int]) -> None:
    shares = deal(secret, slope, places[:2])
    for half in (slice(0, 16), slice(16, 32)):
        assert Shamir.combine([(share.x, share.y[half]) for share in shares]) == secret[half]


@given(_places, _places)
def test_an_inverse_undoes_a_product(left: int, right: int) -> None:
    assert _multiply(_multiply(left, right), _inverse(right)) == left


def test_one_share_or_one_twice_is_not_enough() -> None:
    share = deal(bytes(32), bytes(range(32)), [5])[0]
    for shares in ((), (share,), (share, share)):
        with pytest.raises(ValueError):
            recover(shares)
    with pytest.raises(ValueError):
        part_for(share, 5, 7)


def test_a_place_follows_from_job_and_node_and_is_never_the_secrets_own() -> None:
    places = {share_place(bytes([job]) * 32, bytes([node]) * 32) for job in range(16) for node in range(16)}
    assert len(places) == 256 and 0 not in places
