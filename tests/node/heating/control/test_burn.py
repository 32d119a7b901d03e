"""Burning: only for want of work, never more than what lacks, and off as soon as work is there."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.burn import ENOUGH_SHARE, BurnControl, BurnSettings

SETTINGS = BurnSettings(after_s=60.0, most_load=3.0)


def loads(settings: BurnSettings, path: list[tuple[float, float, float]]) -> list[float]:
    control = BurnControl(settings)
    return [control.update(*each) for each in path]


def test_work_has_to_lack_for_a_while_first() -> None:
    """A gap between two batches is no lack, nor is what a clock of ticks leaves out."""
    path = [(0.0, 2.0, 0.0), (59.0, 2.0, 0.0), (60.0, 2.0, 0.0), (61.0, 2.0, 0.5), (62.0, 2.0, 1.9), (63.0, 2.0, 0.0)]
    assert loads(SETTINGS, path) == [0.0, 0.0, 2.0, 1.5, 0.0, 0.0]


def test_owner_who_did_not_ask_for_it_never_burns() -> None:
    assert loads(BurnSettings(after_s=0.0, most_load=0.0), [(0.0, 4.0, 0.0), (1e6, 4.0, 0.0)]) == [0.0, 0.0]


def test_no_more_is_burnt_than_the_owner_allows() -> None:
    assert loads(BurnSettings(0.0, 3.0), [(0.0, 8.0, 0.0)]) == [3.0]


def test_task_that_runs_keeps_its_core_though_others_are_in_its_way() -> None:
    control = BurnControl(BurnSettings(after_s=0.0, most_load=8.0))
    assert control.update(0.0, 2.0, 0.0, running_load=0.0) == 2.0
    # One of two tasks runs, on a machine that gives it a fifth of its core.
    assert control.update(1.0, 2.0, 0.2, running_load=1.0) == 1.0
    assert control.update(2.0, 2.0, 0.4, running_load=2.0) == 0.0
    # Both wait for their inputs.
    assert control.update(3.0, 2.0, 0.0, running_load=2.0) == 2.0


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 64), st.floats(0, 64)), max_size=40))
def test_burnt_and_worked_never_add_up_to_more_than_is_wanted(path: list[tuple[float, float, float]]) -> None:
    control, now_s, since_s = BurnControl(SETTINGS), 0.0, 0.0
    for wait_s, wanted, worked in path:
        now_s += wait_s
        if worked >= ENOUGH_SHARE * wanted:
            since_s = now_s
        burnt = control.update(now_s, wanted, worked)
        assert 0.0 <= burnt <= 3.0
        assert burnt == 0.0 or burnt + worked <= wanted * (1 + 1e-12)
        assert burnt == 0.0 or now_s - since_s >= 60.0
