"""From watts to tasks: the table there and back, and a loop that lands on the watts asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.power import DUTY_MIN, PowerLoop, PowerStep, PowerTable, Work, work_for

MEASURED = PowerTable([PowerStep(1, 60.0, True), PowerStep(2, 80.0, True), PowerStep(4, 110.0, True)])


def test_table_is_linear_between_its_steps() -> None:
    assert [MEASURED.watts(load) for load in (0, 0.5, 1, 1.5, 3, 4, 9)] == [0, 30, 60, 70, 95, 110, 110]
    assert [MEASURED.load(watts) for watts in (-5, 0, 30, 60, 70, 95, 110, 500)] == [0, 0, 0.5, 1, 1.5, 3, 4, 4]
    assert (MEASURED.capacity_w, MEASURED.cores, MEASURED.measured) == (110.0, 4, True)
    assert not PowerTable.linear(4, 20.0).measured


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [PowerStep(0, 5.0)],
        [PowerStep(1, 0.0)],
        [PowerStep(2, 5.0), PowerStep(1, 6.0)],
        [PowerStep(1, 6.0), PowerStep(2, 5.0)],
    ],
)
def test_table_that_falls_or_is_empty_is_refused(steps: list[PowerStep]) -> None:
    with pytest.raises(ValueError):
        PowerTable(steps)


@given(st.floats(0, 110))
def test_load_of_watts_draws_these_watts(watts: float) -> None:
    assert MEASURED.watts(MEASURED.load(watts)) == pytest.approx(watts, abs=1e-9)


@given(st.floats(0.3, 3.5), st.floats(10, 50), st.floats(0.7, 1.9))
def test_loop_lands_on_the_watts_asked_for(truth: float, request_w: float, got: float) -> None:
    """A machine that draws `truth` times what its table says, and whose tasks get `got` of what they are allowed."""
    loop = PowerLoop(MEASURED, fade_s=10.0)
    for _ in range(60):
        asked = loop.asked(request_w)
        loop.saw_cores(asked, asked * got, 10.0, lacks_work=False)
        loop.saw_watts(asked * got, MEASURED.watts(asked * got) * truth, 10.0)
    reached_w = MEASURED.watts(min(4.0, loop.asked(request_w)) * got) * truth
    most_w = MEASURED.watts(4.0 * min(1.0, got)) * truth
    assert reached_w == pytest.approx(min(request_w, most_w), rel=2e-2)


@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4), st.floats(-100, 1e6), st.floats(0, 1e4), st.booleans())))
def test_correction_is_bounded_whatever_the_meter_says(
    path: list[tuple[float, float, float, float, bool]],
) -> None:
    loop = PowerLoop(MEASURED)
    for asked, busy, watts, duration_s, lacks_work in path:
        loop.saw_watts(busy, watts, duration_s)
        loop.saw_cores(asked, busy, duration_s, lacks_work=lacks_work)
        assert 0.25 <= loop.factor <= 4.0
        assert 0.5 <= loop.effort <= 1.5
        assert 0 <= loop.load(80.0) <= 4
        assert 0 <= loop.asked(80.0) <= 4


def test_noise_is_averaged_before_it_is_divided() -> None:
    """The mean of 1/x is not 1 over the mean of x: a noise of 40 % would be an error of a sixth."""
    loop = PowerLoop(MEASURED, fade_s=1000.0)
    for number in range(20_000):
        loop.saw_watts(2.0, 80.0 * (1.4 if number % 2 else 0.6), 0.5)
    assert loop.factor == pytest.approx(1.0, abs=1e-3)


def test_lack_of_work_is_no_reason_to_ask_for_more() -> None:
    loop = PowerLoop(MEASURED)
    loop.saw_cores(asked_load=4.0, work_load=2.0, duration_s=1000.0, lacks_work=True)
    loop.saw_cores(asked_load=4.0, work_load=0.5, duration_s=1000.0, lacks_work=False)
    assert loop.effort == 1.0


def test_meter_of_a_machine_at_rest_teaches_nothing() -> None:
    loop = PowerLoop(MEASURED)
    loop.saw_watts(busy_load=0.01, measured_w=50.0, duration_s=1000.0)
    assert loop.factor == 1.0


def test_load_becomes_as_few_tasks_as_can_make_it() -> None:
    found = [work_for(load, 4) for load in (-1, 0, 0.01, 0.5, 1.0, 1 + 1e-12, 1.5, 4.0)]
    assert found == [
        Work(0, DUTY_MIN),
        Work(0, DUTY_MIN),
        Work(1, DUTY_MIN),
        Work(1, 0.5),
        Work(1, 1.0),
        Work(1, 1.0),
        Work(2, 0.75),
        Work(4, 1.0),
    ]
