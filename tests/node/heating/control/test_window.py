"""Open windows: a sharp fall opens, a rise closes, time doubts, and a contact is believed."""

import pytest

from hearthmesh.node.heating.control.window import TRANSITIONS, Draught, Window, WindowDetector, WindowSettings
from tests.docs_diagrams import documented_diagram, render_table
from tests.node.heating.control.lumped import Lumped

SETTINGS = WindowSettings(drop_k=1.0, span_s=300.0, open_max_s=1800.0)


def test_every_state_knows_every_draught() -> None:
    assert set(TRANSITIONS) == {(state, draught) for state in Window for draught in Draught}


def test_page_has_the_diagram_of_the_table() -> None:
    assert documented_diagram("thermostat.md", 1) == render_table(TRANSITIONS)


def test_sharp_fall_opens_and_half_of_it_back_closes() -> None:
    detector = WindowDetector(SETTINGS)
    assert not detector.update(0, 20.0)
    assert not detector.update(60, 19.5)
    assert detector.update(120, 19.0)
    assert detector.update(180, 17.0)
    assert detector.update(240, 17.4)
    assert not detector.update(300, 17.5)


def test_room_that_cools_by_itself_has_no_open_window() -> None:
    """The default room at 20 below zero outside, without any heat, sampled each half minute for a day."""
    detector, room = WindowDetector(SETTINGS), Lumped(20.2, 4.62e6, 22.0)
    for step in range(2880):
        room.step(0.0, -20.0, 30.0)
        assert not detector.update(step * 30.0, room.temperature_c)


def test_window_open_for_too_long_is_doubted_until_the_room_is_steady() -> None:
    detector = WindowDetector(SETTINGS)
    detector.update(0, 20.0)
    assert detector.update(60, 18.0)
    assert detector.update(1859, 17.9)
    assert not detector.update(1860, 17.9)
    assert detector.state is Window.DOUBTED
    assert not detector.update(1900, 17.9)
    assert detector.state is Window.CLOSED


def test_contact_is_believed_and_an_unknown_temperature_changes_nothing() -> None:
    detector = WindowDetector(SETTINGS)
    assert detector.update(0, 20.0, contact_open=True)
    assert not detector.update(1, 10.0, contact_open=False)
    assert not detector.update(2, None)


@pytest.mark.parametrize("drop_k", [0.0, 1.0])
def test_open_contact_that_falls_silent_counts_for_as_long_as_a_window_may_seem_open(drop_k: float) -> None:
    """With a dead battery, or told that it is unknown: it may not keep the room cold for good."""
    detector = WindowDetector(WindowSettings(drop_k=drop_k, span_s=300.0, open_max_s=1800.0))
    assert detector.update(0, 20.0, contact_open=True)
    assert detector.update(100, 19.9, contact_open=True)
    assert [detector.update(now_s, 19.8) for now_s in (101, 1899, 1900, 1901)] == [True, True, False, False]
    assert not any(detector.update(now_s, 19.8) for now_s in range(1901, 90_000, 60))
    assert detector.state is Window.CLOSED


def test_silent_contact_is_doubted_in_time_though_no_temperature_is_known() -> None:
    """A heater without a sensor, that others of its zone lend their temperature, may be so for months."""
    detector = WindowDetector(SETTINGS)
    assert detector.update(0, None, contact_open=True)
    assert [detector.update(now_s, None) for now_s in (1799, 1800, 90_000)] == [True, False, False]
    assert detector.state is Window.DOUBTED
    assert not detector.update(90_001, 15.0)
    assert detector.state is Window.CLOSED


def test_silent_contacts_window_is_closed_when_it_gets_warmer() -> None:
    detector = WindowDetector(SETTINGS)
    assert detector.update(0, None, contact_open=True)
    assert [detector.update(now_s, at_c) for now_s, at_c in ((60, 15.0), (120, 15.4), (180, 15.5))] == [
        True,
        True,
        False,
    ]


def test_detection_can_be_switched_off() -> None:
    detector = WindowDetector(WindowSettings(drop_k=0.0, span_s=300.0, open_max_s=1800.0))
    assert not detector.update(0, 20.0)
    assert not detector.update(10, 0.0)
