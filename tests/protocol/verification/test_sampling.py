"""Samples: every task as often as the policy says, and of long batches always some."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.verification.policy import AUDIT_FLOOR
from hearthmesh.protocol.verification.sampling import SECTION_TASKS, Sampled, sample_length, stretch

COUNTS = st.integers(1, 1024)
SHARES = st.floats(0, 1)
CHANCES = st.floats(0, 1, exclude_max=True)


@given(COUNTS, SHARES, CHANCES)
def test_every_task_of_a_batch_is_in_as_many_stretches_its_first_and_last_too(
    count: int, share: float, chance: float
) -> None:
    length = sample_length(count, share, chance)
    covered = [0] * count
    for start in range(count):
        for lo, hi in stretch(count, length, (start + 0.5) / count):
            for offset in range(lo, hi):
                covered[offset] += 1
    assert covered == [length] * count


@pytest.mark.parametrize("count", [1, 7, 49, 50, 51, 64, 1000])
@pytest.mark.parametrize("share", [AUDIT_FLOOR, 0.1, 0.6, 1.0])
def test_on_average_a_batch_has_the_share_asked_for(count: int, share: float) -> None:
    chances = [(number + 0.5) / 1000 for number in range(1000)]
    lengths = [sample_length(count, share, chance) for chance in chances]
    assert sum(lengths) / 1000 == pytest.approx(share * count, abs=0.001)


@given(COUNTS, SHARES, CHANCES, CHANCES)
def test_a_sample_lies_within_the_batch_in_order(count: int, share: float, chance: float, place: float) -> None:
    length = sample_length(count, share, chance)
    found = stretch(count, length, place)
    assert sum(hi - lo for lo, hi in found) == length
    assert all(0 <= lo < hi <= count for lo, hi in found) and list(found) == sorted(found)


@given(st.integers(round(1 / AUDIT_FLOOR), 1024), CHANCES)
def test_a_batch_of_fifty_tasks_never_escapes_the_hidden_audit(count: int, chance: float) -> None:
    assert sample_length(count, AUDIT_FLOOR, chance) >= 1


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_what_was_expected_is_what_it_comes_to_within_the_spread(count: int) -> None:
    dice, sampled = random.Random(7), Sampled()
    for _ in range(20_000):
        sampled.draw(count, 0.05, dice.random)
    assert sampled.tasks == 20_000 * count and sampled.expected == pytest.approx(0.05 * sampled.tasks)
    assert abs(sampled.checked - sampled.expected) <= 3 * sampled.variance**0.5 + 0.001


def test_a_job_of_a_few_long_batches_costs_what_the_policy_says() -> None:
    """Twelve hundred quick tasks on four workers come in such batches: shares of what is left."""
    sampled = Sampled()
    for count in (384, 288, 192, 120, 80, 48, 32, 24, 16, 8, 4, 4):
        sampled.draw(count, AUDIT_FLOOR, lambda: 0.999)
    assert sampled.expected == pytest.approx(24)
    assert sampled.variance**0.5 < 0.002 * sampled.tasks


@given(st.integers(1, 65_536), st.integers(0, 1 << 32))
def test_of_a_batch_that_is_longer_than_honest_ones_are_every_thousand_tasks_are_looked_at(
    count: int, seed: int
) -> None:
    """Or a worker would sign what it lies about as one."""
    found = Sampled().draw(count, AUDIT_FLOOR, random.Random(seed).random)
    assert list(found) == sorted(found) and all(0 <= lo < hi <= count for lo, hi in found)
    gaps = [lo - hi for (_, hi), (lo, _) in zip([(0, 0), *found], [*found, (count, count)], strict=True)]
    assert max(gaps) <= 2 * SECTION_TASKS
    if count > SECTION_TASKS:
        assert len(found) >= -(-count // SECTION_TASKS)
