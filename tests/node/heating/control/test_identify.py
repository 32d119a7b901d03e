"""Learning the room: its resistance and capacity from a week of heating, and how sure that is."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.node.heating.control.identify import Estimate, Identifier, Learnt
from tests.node.heating.control.lumped import Lumped


def lived(room: Lumped, hours: float, seed: int, *, noise_k: float) -> Identifier:
    """The identifier after a time in a room that is heated in blocks, sampled each five minutes with noise.

    Outside it is 3 °C on average, 4 K warmer by day, and colder by night.
    """
    dice = random.Random(seed)
    identifier = Identifier(1 / 20.2, 4.62e6)
    power_w = 0.0
    for minute in range(0, round(hours * 60), 5):
        outside_c = 3.0 + 4.0 * math.sin(minute / 1440 * math.tau)
        if minute % 180 == 0:
            power_w = dice.choice([0.0, 150.0, 300.0, 500.0])
        reading_c = room.temperature_c + dice.gauss(0.0, noise_k)
        identifier.update(minute * 60.0, reading_c, outside_c, power_w)
        room.step(power_w, outside_c, 300.0)
    return identifier


@given(st.floats(10, 40), st.floats(2e6, 9e6), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_room_without_noise_is_found_within_a_week(loss_w_per_k: float, capacity: float, seed: int) -> None:
    found = lived(Lumped(loss_w_per_k, capacity, 18.0), 168, seed, noise_k=0.0).estimate()
    assert found.resistance_k_per_w == pytest.approx(1 / loss_w_per_k, rel=0.10)
    assert found.capacity_j_per_k == pytest.approx(capacity, rel=0.05)


def test_room_with_noise_is_found_to_a_tenth_within_a_week() -> None:
    for seed in range(12):
        dice = random.Random(seed)
        loss_w_per_k, capacity = dice.uniform(12, 35), dice.uniform(2.5e6, 8e6)
        found = lived(Lumped(loss_w_per_k, capacity, 18.0), 168, seed, noise_k=0.05).estimate()
        assert found.resistance_k_per_w == pytest.approx(1 / loss_w_per_k, rel=0.10)
        assert found.capacity_j_per_k == pytest.approx(capacity, rel=0.10)


def test_noise_is_told_by_the_confidence_and_averaged_out() -> None:
    for seed in range(4):
        early = lived(Lumped(20.2, 4.62e6, 18.0), 24, seed, noise_k=0.05).estimate()
        late = lived(Lumped(20.2, 4.62e6, 18.0), 21 * 24, seed, noise_k=0.05).estimate()
        assert late.confidence > max(0.7, early.confidence)
        error = max(abs(late.resistance_k_per_w * 20.2 - 1), abs(late.capacity_j_per_k / 4.62e6 - 1))
        assert error < 3 * (1 - late.confidence)


def test_room_that_nothing_happens_in_teaches_nothing() -> None:
    identifier = Identifier(1 / 20.2, 4.62e6)
    for minute in range(0, 14 * 24 * 60, 5):
        identifier.update(minute * 60.0, 20.0, 20.0, 0.0)
    assert identifier.estimate().confidence < 0.5


def test_heat_for_the_setpoint_is_what_the_room_loses() -> None:
    assert Estimate(0.05, 4e6, 40.0, 1.0).hold_w(20.0, 5.0) == pytest.approx(260.0)
    assert Estimate(0.05, 4e6, 40.0, 1.0).hold_w(20.0, 30.0) == 0.0


def test_gap_in_the_readings_is_not_learnt_from() -> None:
    identifier = Identifier(1 / 20.2, 4.62e6)
    identifier.update(0.0, 20.0, 0.0, 0.0)
    identifier.update(86_400.0, 5.0, 0.0, 500.0)
    identifier.update(86_460.0, 5.0, 0.0, 500.0)
    assert identifier.intervals == 0


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(-60, 80), st.floats(0, 1e5)), max_size=80))
@settings(deadline=None)
def test_estimate_stays_physical_whatever_is_read(path: list[tuple[float, float, float]]) -> None:
    identifier = Identifier(1 / 20.2, 4.62e6)
    for step, (temperature_c, outside_c, power_w) in enumerate(path):
        identifier.update(step * 900.0, temperature_c, outside_c, power_w)
        found = identifier.estimate()
        assert found.resistance_k_per_w > 0 and found.capacity_j_per_k > 0
        assert 0 <= found.confidence <= 1
        assert math.isfinite(found.gain_w)


def taught(hours: float = 72.0) -> Identifier:
    return lived(Lumped(20.2, 4.62e6, 18.0), hours, seed=1, noise_k=0.0)


def test_what_was_learnt_is_gone_on_from() -> None:
    first, second = taught(), Identifier(1 / 20.2, 4.62e6)
    assert second.recall(first.learnt(), 0.0)
    assert (second.estimate(), second.learnt()) == (first.estimate(), first.learnt())
    assert second.estimate().confidence > 0.5


def test_what_was_learnt_is_known_less_well_the_older_it_is() -> None:
    learnt, found = taught().learnt(), []
    for days in (0, 10, 100, 1000, 100_000):
        identifier = Identifier(1 / 20.2, 4.62e6)
        assert identifier.recall(learnt, days * 86_400.0)
        found.append(identifier.estimate())
    assert [each.resistance_k_per_w for each in found] == [found[0].resistance_k_per_w] * 5
    confidences = [each.confidence for each in found]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] > confidences[1] > confidences[2]
    assert confidences[-1] <= Identifier(1 / 20.2, 4.62e6).estimate().confidence + 0.1


def test_what_was_learnt_of_another_sink_is_not_recalled() -> None:
    identifier = Identifier(1 / 60.0, 4.62e6)
    assert not identifier.recall(taught(3).learnt(), 0.0)
    assert identifier.learnt() == Identifier(1 / 60.0, 4.62e6).learnt()


@given(st.tuples(*[st.floats()] * 3), st.tuples(*[st.floats()] * 6), st.floats(), st.integers(), st.floats(0.0, 1e12))
def test_nonsense_is_not_recalled(
    theta: tuple[float, float, float],
    covariance: tuple[float, float, float, float, float, float],
    residual_k2: float,
    intervals: int,
    age_s: float,
) -> None:
    """Whatever is recalled, there is an estimate that makes sense, and it goes on learning."""
    identifier = Identifier(1 / 20.2, 4.62e6)
    identifier.recall(Learnt((1 / 20.2, 4.62e6), theta, covariance, residual_k2, intervals), age_s)
    room = Lumped(20.0, 4.62e6, 18.0)
    for minute in range(100):
        found = identifier.estimate()
        assert 0.0 <= found.confidence <= 1.0
        assert found.resistance_k_per_w > 0
        assert found.capacity_j_per_k > 0
        identifier.update(minute * 60.0, room.temperature_c, 5.0, 400.0)
        room.step(400.0, 5.0, 60.0)
