"""Values travel as what they are, bounded, and never as code."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.python.guest.hearth_values import DEPTH_MAX, ValueRefused, pack, unpack

keys = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.tuples(st.integers(), st.text()))
values = st.recursive(
    st.one_of(keys, st.floats(allow_nan=False), st.complex_numbers(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(keys, inner)),
    max_leaves=30,
)


def typed(value: Any) -> Any:
    """The value with its types, for 1, 1.0 and True are equal."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, dict):
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    return type(value), repr(value)


@given(values)
def test_a_value_comes_back_as_what_it_was(value: object) -> None:
    assert typed(unpack(pack(value))) == typed(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(packed: bytes) -> None:
    try:
        value = unpack(packed)
    except ValueRefused:
        return
    pack(value)


@given(st.recursive(st.one_of(st.none(), st.text(), st.binary(), st.floats()), st.lists, max_leaves=9))
def test_what_is_common_is_messagepack(value: object) -> None:
    assert repr(msgspec.msgpack.decode(pack(value))) == repr(value)


def test_each_nan_is_the_same_bytes() -> None:
    assert pack(math.nan) == pack(-math.nan) == pack(math.inf - math.inf)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a builtins.object cannot travel"),
        ({1}, "a builtins.set"),
        (type("Sneaky", (int,), {})(1), "Sneaky"),
        (len, "builtin_function_or_method"),
        ("\ud800", "half a character"),
        pytest.param(1 << 40_000, "more than 4096 bytes", id="huge int"),
    ],
)
def test_what_cannot_travel_is_named(value: object, words: str) -> None:
    with pytest.raises(ValueRefused, match=words):
        pack([value])


def test_a_list_within_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueRefused, match="within itself"):
        pack(loop)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "ends too early"),
        (b"\xdd\xff\xff\xff\xff", "ends too early"),
        (b"\xc6\xff\xff\xff\xff", "ends too early"),
        (b"\xdc\0\1" * (DEPTH_MAX + 2), "deeper"),
        (b"\xc0\xc0", "after the value"),
        (b"\xde\0\1\xdc\0\0\xc0", "no key"),
        (b"\xc7\x01\x09x", "extension 9"),
    ],
)
def test_hostile_bytes_are_refused_in_one_line(packed: bytes, words: str) -> None:
    with pytest.raises(ValueRefused, match=words):
        unpack(packed)
