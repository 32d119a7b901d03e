"""A function's source, with what it needs and no more."""

import math
import os.path
import random as dice
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from heapq import heappush as push
from pathlib import Path
from random import randint
from typing import Any

import pytest

from hearthmesh.node.python.source import SourceRefused, source_of

RATE = 0.25
LEVELS = (1, [2, "three"], {"four": None})
PRICE = Decimal(1)
SPEEDS = [math.inf]


def plain(x: int) -> int:
    return x + 1


def helper(x: float, rate: float = RATE) -> float:
    return math.floor(x) * rate


def rich(x: float) -> "list[Any]":
    counted = Counter(str(level) for level in LEVELS)
    dice.seed(x)
    return [helper(x), even(int(x)), sum(counted.values()), len(str(dice.random())) > 2]


def even(number: int) -> bool:
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    return number != 0 and even(number - 1)


def uses_the_inside(x: int) -> "list[Any]":
    heap: list[int] = []
    push(heap, randint(x, x))
    return [heap, sha256(b"").hexdigest()[:4]]


def twice(x: int) -> int:
    return 2 * x


def by_default(x: int, change: "Callable[[int], int]" = twice) -> int:
    return change(x)


def uses_both(x: int) -> object:
    return [plain(x), RATE, get()]  # type: ignore[name-defined]  # noqa: F821


def uses_price(x: int) -> object:
    return PRICE * x


def uses_speeds(x: int) -> object:
    return SPEEDS


def uses_os(x: int) -> object:
    return os.path.exists(str(x))


def uses_nothing_known(x: int) -> object:
    return missing(x)  # type: ignore[name-defined]  # noqa: F821


async def waits(x: int) -> int:
    return x


def yields(x: int) -> Any:
    yield x


def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@decorate
def decorated(x: int) -> int:
    return x


def closing(y: int) -> Callable[[int], int]:
    def inner(x: int) -> int:
        return x + y

    return inner


def run(function: Callable[..., Any], argument: object) -> object:
    """As a node does: from the text alone."""
    source, name = source_of(function)
    names: dict[str, Any] = {"__name__": "job"}
    exec(compile(source, "job.py", "exec"), names)
    return names[name](argument)


def test_a_plain_function_is_its_text() -> None:
    text = "\ndef plain(x: int) -> int:\n    return x + 1\n"
    assert source_of(plain) == (text, "plain")


def test_what_a_function_names_in_its_module_goes_along() -> None:
    assert run(rich, 6.5) == rich(6.5) == [1.5, True, 3, True]


def test_functions_of_standard_modules_are_imported_from_where_they_are_offered() -> None:
    assert run(uses_the_inside, 4) == [[4], "e3b0"]


def test_a_function_stands_before_the_one_whose_default_it_is() -> None:
    assert run(by_default, 4) == 8


@pytest.mark.parametrize(
    "other", ["RATE = 0.5\ndef get(): return RATE\n", "def plain(): return 0\ndef get(): return plain()\n"]
)
def test_a_name_that_two_modules_use_for_different_things_is_refused(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_rates.py").write_text(other)
    names: dict[str, Any] = {"__name__": "other_rates"}
    exec(compile(other, str(tmp_path / "other_rates.py"), "exec"), names)
    monkeypatch.setitem(globals(), "get", names["get"])
    with pytest.raises(SourceRefused, match="(RATE|plain) is one thing for .* and another"):
        source_of(uses_both)


def test_the_text_is_the_same_each_time() -> None:
    assert source_of(rich) == source_of(rich)


def test_a_function_within_a_function_is_shipped_if_it_closes_over_nothing() -> None:
    def local(x: int) -> int:
        return plain(x) * 2

    assert run(local, 3) == 8


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x, "a lambda cannot be shipped"),
        (closing(3), r"inner is a closure over y; make that an argument"),
        (waits, "async or a generator"),
        (yields, "async or a generator"),
        (decorated, "is decorated"),
        (len, "is no plain function"),
        (Counter, "is no plain function"),
        ([].append, "is no plain function"),
        (uses_price, r"uses PRICE of its module, but a decimal.Decimal cannot travel.*pass it as an argument"),
        (uses_speeds, "has no literal"),
        (uses_os, "uses the module os"),
        (uses_nothing_known, "uses missing, which is nowhere in its module"),
    ],
)
def test_what_cannot_be_shipped_is_explained(function: Any, words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        source_of(function)
