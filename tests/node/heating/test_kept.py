"""The memory's file: what was written is read, and whatever else is there is a notice, never an error."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.identify import Learnt
from hearthmesh.node.heating.control.limits import Colour, LimitsKept, LimitWindow, Phase
from hearthmesh.node.heating.control.remembered import Remembered, Told
from hearthmesh.node.heating.control.season import Season, SeasonKept
from hearthmesh.node.heating.control.setpoint import Chosen, Wish
from hearthmesh.node.heating.disinfected import Disinfected
from hearthmesh.node.heating.kept import FILE_BYTES_MAX, Kept, KeptError, Moment, decode, encode, load, put_aside, save
from hearthmesh.node.heating.observed import What

LIMITS = LimitsKept(
    windows=(LimitWindow(-60.0, 3600.0, 50.0, "evening peak"),),
    colours=((20_000, Colour.RED),),
    phase=Phase.LIMITED,
    baseline_w=120.0,
    rebound_w=350.0,
    ended_ago_s=7.0,
)
LEARNT = Learnt((0.05, 4.6e6), (0.015, 0.78, 0.001), (1e-6, 0.0, 0.0, 1e-4, 0.0, 1e-5), 0.01, 48)
KEPT = Kept(
    Moment("boot", 1000.0, 1.7e9),
    "machine room",
    Remembered(
        Told(Chosen(Wish.MANUAL, 21.5, 2e9), 600.0, LIMITS), LEARNT, SeasonKept(Season.SUMMER, 18.0, 1e5), (0.5, None)
    ),
    ((What.WINDOW, True),),
    Disinfected(7200.5, known=True),
)


def changed(**parts: Any) -> bytes:
    return json.dumps(json.loads(encode(KEPT)) | parts).encode()


def test_what_was_kept_is_read() -> None:
    assert decode(encode(KEPT)) == (KEPT, ())
    nothing = Kept(Moment("", 0.0, 0.0), "", Remembered())
    assert decode(encode(nothing)) == (nothing, ())


def test_what_is_no_number_is_not_kept() -> None:
    broken = replace(LEARNT, theta=(math.nan, 1.0, 0.0))
    kept = replace(KEPT, remembered=replace(KEPT.remembered, learnt=broken))
    assert decode(encode(kept)) == (replace(kept, remembered=replace(kept.remembered, learnt=None)), ())


def test_what_waits_until_it_is_on_again_is_kept() -> None:
    told = replace(KEPT.remembered.told, chosen=Chosen(Wish.OFF, 20.0, waits_c=21.5))  # type: ignore[type-var]
    kept = replace(KEPT, remembered=replace(KEPT.remembered, told=told))
    assert decode(encode(kept)) == (kept, ())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no JSON"),
        (b"\xff\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (encode(KEPT)[:-40], "is no JSON"),
        (b"[]", "is no memory of a heater"),
        (b'{"steps": [], "version": 1}', "is no memory of a heater"),
        (changed(version=2), "is of version 2, this program reads 1"),
        (changed(at={}), "does not say of when it is"),
        (changed(at={"boot": 1, "steady_s": 0, "wall_s": 0}), "does not say of when it is"),
        (changed(at={"boot": "", "steady_s": math.nan, "wall_s": 0}), "does not say of when it is"),
    ],
)
def test_file_that_is_none_is_refused_with_what_it_is(content: bytes, problem: str) -> None:
    with pytest.raises(KeptError, match=problem):
        decode(content)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("learnt", None),
        ("learnt", {"guess": [1]}),
        ("learnt", json.loads(encode(KEPT))["learnt"] | {"theta": [1, 2, math.inf]}),
        ("season", {"is": "spring", "mean_c": 1, "seen_s": 1}),
        ("owner", {"window": "open"}),
        ("disinfected", {"ago_s": -1.0, "known": True}),
        ("disinfected", {"ago_s": 1.0, "known": 1}),
        ("sensors", []),
        ("sensors", [{"step_k": -0.1}]),
        ("limits", json.loads(encode(KEPT))["limits"] | {"windows": [{}] * 65}),
        ("limits", json.loads(encode(KEPT))["limits"] | {"colours": {"x": "red"}}),
        ("limits", json.loads(encode(KEPT))["limits"] | {"baseline_w": 10**400}),
    ],
)
def test_part_that_makes_no_sense_takes_no_other_with_it(name: str, part: object) -> None:
    kept, problems = decode(changed(**{name: part}))
    assert problems == (f"{name} makes no sense",)
    told = kept.remembered.told
    assert told is not None
    assert told.chosen == Chosen(Wish.MANUAL, 21.5, 2e9)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


PARTS = ["at", "sink", "owner", "wish", "limits", "learnt", "season", "sensors", "disinfected"]


@given(st.dictionaries(st.sampled_from(PARTS), junk))
def test_anything_is_read_or_told_of(parts: dict[str, Any]) -> None:
    try:
        kept, problems = decode(changed(**parts))
    except KeptError as error:
        assert str(error)
        return
    assert all("makes no sense" in each for each in problems)
    assert decode(encode(kept)) == (kept, ())


@given(st.binary(max_size=200), st.integers(0, len(encode(KEPT)) - 1))
def test_damaged_file_is_read_or_told_of(noise: bytes, place: int) -> None:
    content = encode(KEPT)
    try:
        decode(content[:place] + noise + content[place + len(noise) :])
    except KeptError as error:
        assert str(error)


def test_file_is_replaced_as_a_whole_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "heat.json"
    (tmp_path / "heat.json.new").write_bytes(b"left by who was killed")
    for content in (b"first", b"second"):
        save(path, content)
        assert load(path) == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["heat.json"]


def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    assert load(tmp_path / "none") is None
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b" " * (FILE_BYTES_MAX + 1))
    for name in ("pipe", "folder", "link", "long"):
        with pytest.raises(KeptError):
            load(tmp_path / name)


def test_what_is_put_aside_is_there_to_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "heat.json").write_bytes(b"?")
    assert put_aside(tmp_path / "heat.json") == tmp_path / "heat.json.unread"
    assert put_aside(tmp_path / "heat.json") is None
    assert (tmp_path / "heat.json.unread").read_bytes() == b"?"


@pytest.mark.parametrize(
    ("now", "age_s"),
    [
        (Moment("a", 1600.0, 0.0), 600.0),
        (Moment("b", 50.0, 10_700.0), 700.0),
        # Not set yet, or set back: it was started so long ago at least.
        (Moment("b", 50.0, 9000.0), 50.0),
        # No boot tells two starts apart, or another machine has the same one.
        (Moment("", 1600.0, 10_700.0), 1600.0),
        (Moment("a", 900.0, 10_700.0), 900.0),
    ],
)
def test_age_is_by_the_steady_clock_within_one_start_of_the_machine(now: Moment, age_s: float) -> None:
    assert now.since(Moment("a", 1000.0, 10_000.0)) == age_s
