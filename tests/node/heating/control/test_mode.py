"""Heating or warm: a table, its page, and where a temperature lies."""

from hearthmesh.node.heating.control.mode import TRANSITIONS, Mode, Place, place
from tests.docs_diagrams import documented_diagram, render_table


def test_heating_page_has_the_diagram_of_the_table() -> None:
    assert documented_diagram("heating.md") == render_table(TRANSITIONS)


def test_every_mode_knows_every_place() -> None:
    assert set(TRANSITIONS) == {(mode, where) for mode in Mode for where in Place}
    assert all(mode is Mode.WARM for (_, where), mode in TRANSITIONS.items() if where is Place.ABOVE_BAND)


def test_both_ends_of_the_band_are_in_it() -> None:
    found = [place(temperature_c, 20.0, 0.5) for temperature_c in (19.9, 20.0, 20.5, 20.6)]
    assert found == [Place.BELOW_SETPOINT, Place.IN_BAND, Place.IN_BAND, Place.ABOVE_BAND]
