"""Rounds and quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.bench.statistics import Rounds, quantile

values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


@given(values, st.floats(0.0, 1.0))
def test_a_quantile_is_a_value_that_enough_others_do_not_exceed(numbers: list[float], share: float) -> None:
    found = quantile(numbers, share)
    assert found in numbers
    assert sum(number <= found for number in numbers) >= share * len(numbers)
    assert sum(number < found for number in numbers) <= share * len(numbers)


def test_the_99th_percentile_of_200_leaves_two_above_it() -> None:
    assert quantile([float(number) for number in range(200)], 0.99) == 197.0


@pytest.mark.parametrize(("numbers", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_outside_of_one_is_refused(numbers: list[float], share: float) -> None:
    with pytest.raises(ValueError):
        quantile(numbers, share)


@given(values)
def test_the_median_lies_within_the_spread(numbers: list[float]) -> None:
    rounds = Rounds(tuple(numbers))
    assert rounds.spread()["min"] <= rounds.median <= rounds.spread()["max"]


def test_a_measurement_without_a_round_is_refused() -> None:
    with pytest.raises(ValueError):
        Rounds(())
