"""Optimum start: as early as the room needs, earlier when unsure, never before its bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.identify import Estimate
from hearthmesh.node.heating.control.start import StartSettings, lead_s

SETTINGS = StartSettings(lead_max_s=24 * 3600.0, rate_k_per_h=0.5)
KNOWN = Estimate(1 / 20, 4.62e6, 0.0, 1.0)


def test_known_room_begins_when_its_model_says() -> None:
    """The published case: 500 W lift the room from 15 to 19 °C in 19.9016 h at 5 °C outside."""
    assert lead_s(SETTINGS, KNOWN, 15.0, 19.0, 5.0, 500.0) / 3600 == pytest.approx(19.9016, abs=1e-4)


def test_unsure_model_begins_earlier() -> None:
    unsure = Estimate(1 / 20, 4.62e6, 0.0, 0.9)
    assert lead_s(SETTINGS, unsure, 15.0, 19.0, 5.0, 500.0) == pytest.approx(19.9016 * 3600 / 0.9, rel=1e-4)


def test_unknown_room_or_weather_goes_by_the_plain_rate() -> None:
    guess = Estimate(1 / 20, 4.62e6, 0.0, 0.2)
    assert lead_s(SETTINGS, guess, 15.0, 19.0, 5.0, 500.0) == 8 * 3600
    assert lead_s(SETTINGS, KNOWN, 15.0, 19.0, None, 500.0) == 8 * 3600


def test_temperature_out_of_reach_begins_at_the_bound() -> None:
    assert lead_s(SETTINGS, KNOWN, 15.0, 40.0, 5.0, 500.0) == SETTINGS.lead_max_s


@given(
    st.floats(0, 1),
    st.floats(-30, 60),
    st.floats(-30, 60),
    st.one_of(st.none(), st.floats(-40, 50)),
    st.floats(0, 1e4),
)
def test_lead_is_within_its_bound(
    confidence: float, now_c: float, target_c: float, outside_c: float | None, power_w: float
) -> None:
    estimate = Estimate(1 / 20, 4.62e6, 30.0, confidence)
    found_s = lead_s(SETTINGS, estimate, now_c, target_c, outside_c, power_w)
    assert 0 <= found_s <= SETTINGS.lead_max_s
    assert found_s == 0 or target_c > now_c
